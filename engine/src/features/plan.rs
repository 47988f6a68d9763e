//! A spec compiled for evaluation: one pass per history, whatever the number of features.

use super::reader::Reader;
use super::slot::{Running, Slot};
use super::tracker::{Track, Tracker};
use super::{Aggregate, FeatureSpec, SpecError};
use crate::domain::{AsOf, EventRules, History, Zone};
use crate::matrix::FeatureMatrix;
use rayon::prelude::*;

/// So many events are looked at by all before the next: as many as fast memory holds.
const SPELL: usize = 64;

/// A compiled [`FeatureSpec`].
#[derive(Debug, Clone)]
pub struct Plan {
    names: Vec<String>,
    slots: Vec<Slot>,
    trackers: Vec<Tracker>,
    readers: Vec<Reader>,
    zone: Zone,
}

/// Customers' rows before transforms.
#[derive(Debug, Clone)]
pub struct FeatureTable {
    /// Index into the histories, one per row.
    pub rows: Vec<usize>,
    /// `(n_customers, n_features)`; an undefined value is NaN.
    pub matrix: FeatureMatrix,
}

impl Plan {
    /// Compiles a spec whose categories are known ([`FeatureSpec::resolved`]), by the currency and the
    /// zone of these rules.
    ///
    /// # Errors
    /// [`SpecError`] where the spec is impossible.
    pub fn compile(spec: &FeatureSpec, rules: &EventRules) -> Result<Plan, SpecError> {
        spec.check()?;
        let unresolved = spec.0.iter().find(|feature| feature.aggregate == Aggregate::OneHot);
        if let Some(feature) = unresolved {
            return Err(SpecError::Unresolved(feature.name.clone()));
        }
        let currency = &rules.currency;
        let (mut slots, mut trackers) = (Vec::new(), Vec::new());
        let readers = spec
            .0
            .iter()
            .map(|feature| Reader::new(feature, currency, &mut slots, &mut trackers))
            .collect();
        Ok(Plan { names: spec.names(), slots, trackers, readers, zone: rules.zone.clone() })
    }

    /// The columns' names, `(n_features,)`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The features of one history at `as_of`, into `row` of `(n_features,)`. An undefined value is
    /// NaN. Events after the as-of are never looked at.
    pub fn evaluate(&self, history: &History, as_of: AsOf, row: &mut [f64]) {
        self.evaluate_in(&mut Vec::new(), history, as_of, row);
    }

    /// As [`Plan::evaluate`], in a vector that one history leaves to the next.
    fn evaluate_in(
        &self,
        running: &mut Vec<Running>,
        history: &History,
        as_of: AsOf,
        row: &mut [f64],
    ) {
        running.clear();
        running.extend(self.slots.iter().map(|slot| slot.start(as_of.day)));
        let events = history.until(as_of);
        let mut tracks: Vec<Track<'_>> =
            self.trackers.iter().map(|tracker| tracker.start(as_of.day, events.len())).collect();
        // A pass by spells: each slot looks at some events at once, and what it needs stays at hand.
        for spell in events.chunks(SPELL) {
            for (slot, running) in self.slots.iter().zip(running.iter_mut()) {
                running.add(slot, spell);
            }
            for (tracker, track) in self.trackers.iter().zip(&mut tracks) {
                track.add(tracker, spell);
            }
        }
        for (reader, value) in self.readers.iter().zip(row) {
            let read = reader.read(running, &tracks, history.attributes(), as_of.day, &self.zone);
            *value = read.unwrap_or(f64::NAN);
        }
    }

    /// Whether a customer has a row: who is known at `as_of` and did not opt out.
    pub fn has_row(history: &History, as_of: AsOf) -> bool {
        history.is_known_at(as_of) && !history.opted_out()
    }

    /// The rows of all customers who have one, in the order of `histories`.
    pub fn table(&self, histories: &[History], as_of: AsOf) -> FeatureTable {
        let seen = |&index: &usize| Plan::has_row(&histories[index], as_of);
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
            .for_each_init(Vec::new, |running, (row, &index)| {
                self.evaluate_in(running, &histories[index], as_of, row)
            });
        FeatureTable { rows, matrix: FeatureMatrix::new(self.names.clone(), values) }
    }
}
