//! A spec compiled for evaluation: one pass per history, whatever the number of features.

use super::accumulator::Accumulator;
use super::spec::{Aggregate, Feature, FeatureSpec, Measure, SpecError, Window};
use crate::domain::{AsOf, Currency, Day, Event, History, QUANTITY_DIGITS};
use crate::matrix::FeatureMatrix;
use rayon::prelude::*;

/// What has to be accumulated to read a feature; features with the same needs share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    /// The kinds' bits.
    kinds: u16,
    window: Window,
    /// The measure with a value, where one is needed.
    measure: Option<Measure>,
}

impl Slot {
    /// The first day that counts.
    fn start(&self, as_of: Day) -> Day {
        match self.window {
            Window::All => Day(i32::MIN),
            Window::Days(days) => as_of.plus(1 - i32::from(days)),
        }
    }

    fn value(&self, event: &Event) -> Option<i64> {
        match self.measure? {
            Measure::Amount => event.amount.map(|amount| amount.0),
            Measure::Discount => event.discount.map(|discount| discount.0),
            Measure::Quantity => event.quantity,
            Measure::Events | Measure::Days => None,
        }
    }
}

/// How one column is read from the slots.
#[derive(Debug, Clone, Copy)]
struct Reader {
    aggregate: Aggregate,
    of: Measure,
    slot: usize,
    /// The slot that a ratio divides by.
    over: usize,
    /// Smallest units per unit of the column.
    unit: f64,
}

/// A compiled [`FeatureSpec`].
#[derive(Debug, Clone)]
pub struct Plan {
    names: Vec<String>,
    slots: Vec<Slot>,
    readers: Vec<Reader>,
}

/// Customers' rows before transforms. Customers without an event by the as-of have none.
#[derive(Debug, Clone)]
pub struct FeatureTable {
    /// Index into the histories, one per row.
    pub rows: Vec<usize>,
    /// `(n_customers, n_features)`; an undefined value is NaN.
    pub matrix: FeatureMatrix,
}

impl Plan {
    /// Compiles a spec.
    ///
    /// # Errors
    /// [`SpecError`] where the spec is impossible.
    pub fn compile(spec: &FeatureSpec, currency: &Currency) -> Result<Plan, SpecError> {
        spec.check()?;
        let mut slots = Vec::new();
        let readers = spec.0.iter().map(|feature| reader(feature, currency, &mut slots)).collect();
        Ok(Plan { names: spec.names(), slots, readers })
    }

    /// The columns' names, `(n_features,)`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The features of one history at `as_of`, into `row` of `(n_features,)`. An undefined value is
    /// NaN. Events after the as-of are never looked at.
    pub fn evaluate(&self, history: &History, as_of: AsOf, row: &mut [f64]) {
        let mut accumulators = vec![Accumulator::default(); self.slots.len()];
        let starts: Vec<Day> = self.slots.iter().map(|slot| slot.start(as_of.day)).collect();
        for event in history.until(as_of) {
            let bit = event.kind.bit();
            for ((slot, start), accumulator) in
                self.slots.iter().zip(&starts).zip(&mut accumulators)
            {
                if slot.kinds & bit != 0 && event.day >= *start {
                    accumulator.add(event.day, slot.value(event));
                }
            }
        }
        for (reader, value) in self.readers.iter().zip(row) {
            *value = reader.read(&accumulators, as_of.day).unwrap_or(f64::NAN);
        }
    }

    /// The rows of all customers with an event by `as_of`, in the order of `histories`.
    pub fn table(&self, histories: &[History], as_of: AsOf) -> FeatureTable {
        let seen = |&index: &usize| !histories[index].until(as_of).is_empty();
        self.rows(histories, (0..histories.len()).filter(seen).collect(), as_of)
    }

    /// The rows of chosen histories, given by their indices.
    pub fn rows(&self, histories: &[History], rows: Vec<usize>, as_of: AsOf) -> FeatureTable {
        let width = self.readers.len();
        let mut values = vec![0.0; rows.len() * width];
        values
            .par_chunks_mut(width)
            .zip(&rows)
            .with_min_len(256)
            .for_each(|(row, &index)| self.evaluate(&histories[index], as_of, row));
        FeatureTable { rows, matrix: FeatureMatrix::new(self.names.clone(), values) }
    }
}

impl Reader {
    fn read(&self, accumulators: &[Accumulator], as_of: Day) -> Option<f64> {
        let slot = &accumulators[self.slot];
        let since = |day: Option<Day>| day.map(|day| f64::from(as_of.since(day)));
        match self.aggregate {
            Aggregate::Count => Some(self.total(slot)),
            Aggregate::Sum => Some(self.total(slot) / self.unit),
            Aggregate::Mean => slot.mean().map(|mean| mean / self.unit),
            Aggregate::Max => slot.max().map(|max| max / self.unit),
            Aggregate::Std => slot.std().map(|std| std / self.unit),
            Aggregate::DaysSinceLast => since(slot.last),
            Aggregate::DaysSinceFirst => since(slot.first),
            Aggregate::GapMean => slot.gap_mean(),
            Aggregate::GapVariation => slot.gap_variation(),
            Aggregate::Ratio => {
                let over = self.total(&accumulators[self.over]);
                (over != 0.0).then(|| self.total(slot) / over)
            }
        }
    }

    /// The count, or the sum in smallest units.
    fn total(&self, slot: &Accumulator) -> f64 {
        match self.of {
            Measure::Events => f64::from(slot.events),
            Measure::Days => f64::from(slot.days),
            Measure::Amount | Measure::Quantity | Measure::Discount => slot.sum as f64,
        }
    }
}

fn reader(feature: &Feature, currency: &Currency, slots: &mut Vec<Slot>) -> Reader {
    let slot = slot_of(feature, feature.window, slots);
    Reader {
        aggregate: feature.aggregate,
        of: feature.of,
        slot,
        over: feature.over.map_or(slot, |over| slot_of(feature, over, slots)),
        unit: match feature.of {
            Measure::Amount | Measure::Discount => currency.minor_per_major(),
            Measure::Quantity => 10f64.powi(i32::from(QUANTITY_DIGITS)),
            Measure::Events | Measure::Days => 1.0,
        },
    }
}

/// The slot that serves this feature in this window, added where none does yet. A slot that carries
/// a measure also serves features that only count.
fn slot_of(feature: &Feature, window: Window, slots: &mut Vec<Slot>) -> usize {
    let kinds = feature.kinds.iter().fold(0, |bits, kind| bits | kind.bit());
    let measure = feature.of.is_valued().then_some(feature.of);
    let position = slots.iter().position(|slot| {
        slot.kinds == kinds
            && slot.window == window
            && (slot.measure == measure || slot.measure.is_none() || measure.is_none())
    });
    match position {
        Some(position) => {
            let slot = &mut slots[position];
            slot.measure = slot.measure.or(measure);
            position
        }
        None => {
            slots.push(Slot { kinds, window, measure });
            slots.len() - 1
        }
    }
}
