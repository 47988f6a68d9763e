//! How one column is read from what a pass over a history remembers.

use super::accumulator::Accumulator;
use super::selection::Selection;
use super::slot::{Running, Slot};
use super::tracker::{Follow, Track, Tracker};
use super::{Aggregate, Feature, Measure};
use crate::domain::{Attributes, Currency, Day, Zone};

/// Where a column is read, and how.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    aggregate: Aggregate,
    of: Measure,
    /// The slot, or the tracker where the aggregate needs one.
    source: usize,
    /// The measure and the slot that a ratio divides by.
    over_of: Measure,
    over: usize,
    /// Smallest units per unit of the column.
    unit: f64,
    /// Smallest units of the divisor's measure per unit, as multiples of `unit`.
    over_units: f64,
    /// What the customers file is asked for.
    attribute: Option<(String, Option<String>)>,
}

impl Reader {
    /// The reader of a feature, with the slots or the tracker that it needs.
    pub fn new(
        feature: &Feature,
        currency: &Currency,
        slots: &mut Vec<Slot>,
        trackers: &mut Vec<Tracker>,
    ) -> Reader {
        let (source, over) = match Follow::of(feature) {
            Some(follow) => {
                let selection = Selection::new(&feature.kinds, feature.window, &feature.filter);
                let tracker = position_of(Tracker { selection, follow }, trackers);
                (tracker, tracker)
            }
            None => Slot::pair(feature, slots),
        };
        let over_of = feature.over_of.unwrap_or(feature.of);
        let unit = feature.of.unit(currency);
        Reader {
            aggregate: feature.aggregate,
            of: feature.of,
            source,
            over_of,
            over,
            unit,
            over_units: over_of.unit(currency) / unit,
            attribute: feature.attribute.clone().map(|name| (name, feature.value.clone())),
        }
    }

    /// The column's value; `None` where it is undefined.
    pub fn read(
        &self,
        slots: &[Running],
        tracks: &[Track<'_>],
        attributes: Option<&Attributes>,
        as_of: Day,
        zone: &Zone,
    ) -> Option<f64> {
        let since = |day: Option<Day>| day.map(|day| f64::from(as_of.since(day)));
        let sums = || &slots[self.source].sums;
        let own = || total(self.of, sums());
        let in_units = |value: Option<f64>| value.map(|value| value / self.unit);
        match self.aggregate {
            Aggregate::Count => Some(own()),
            Aggregate::Sum => Some(own() / self.unit),
            Aggregate::Mean => in_units(sums().mean()),
            Aggregate::Min => in_units(sums().min()),
            Aggregate::Max => in_units(sums().max()),
            Aggregate::Std => in_units(sums().std()),
            Aggregate::DaysSinceLast => since(sums().last),
            Aggregate::DaysSinceFirst => since(sums().first),
            Aggregate::GapMean => sums().gap_mean(),
            Aggregate::GapVariation => sums().gap_variation(),
            Aggregate::EventGapMean => sums().event_gap_mean(),
            Aggregate::EventGapVariation => sums().event_gap_variation(),
            Aggregate::Ratio => {
                let over = total(self.over_of, &slots[self.over].sums);
                (over != 0.0).then(|| own() / over * self.over_units)
            }
            Aggregate::Attribute => self.attribute(attributes?),
            // Training puts what it learned in its place.
            Aggregate::OneHot => None,
            Aggregate::DaysSinceRegistered => {
                since(attributes?.registered.map(|at| zone.day_of(at)))
            }
            Aggregate::Distinct
            | Aggregate::TopShare
            | Aggregate::LongestStreak
            | Aggregate::CurrentStreak
            | Aggregate::MaxPerMonth
            | Aggregate::MaxInDays => {
                in_units(tracks[self.source].read(self.aggregate, self.of, as_of))
            }
        }
    }
}

impl Reader {
    fn attribute(&self, attributes: &Attributes) -> Option<f64> {
        match self.attribute.as_ref()? {
            (name, None) => attributes.number(name),
            (name, Some(value)) => {
                let category = attributes.category(name)?;
                Some(f64::from(u8::from(category == value)))
            }
        }
    }
}

/// The count, or the sum in smallest units.
fn total(of: Measure, sums: &Accumulator) -> f64 {
    match of {
        Measure::Events => f64::from(sums.events),
        Measure::Days => f64::from(sums.days),
        _ => sums.sum as f64,
    }
}

/// The position of a tracker, added where there is none like it.
fn position_of(tracker: Tracker, trackers: &mut Vec<Tracker>) -> usize {
    let position = trackers.iter().position(|known| *known == tracker);
    position.unwrap_or_else(|| {
        trackers.push(tracker);
        trackers.len() - 1
    })
}
