//! Sums over a selection, which most features are read from.

use super::accumulator::Accumulator;
use super::selection::Selection;
use super::{Feature, Measure};
use crate::domain::{Day, Event};

/// What has to be accumulated to read a feature; features with the same needs share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    selection: Selection,
    /// The measure with a value, where one is needed.
    measure: Option<Measure>,
}

/// A slot after the events seen so far.
#[derive(Debug)]
pub(super) struct Running {
    /// The first day that counts.
    start: Day,
    pub sums: Accumulator,
}

impl Slot {
    /// Begins a history.
    pub fn start(&self, as_of: Day) -> Running {
        Running { start: self.selection.start(as_of), sums: Accumulator::default() }
    }

    /// The slot that serves this measure of a selection, added where none does yet. A slot that
    /// carries a measure also serves features that only count.
    pub fn of(selection: Selection, measure: Measure, slots: &mut Vec<Slot>) -> usize {
        let measure = measure.is_valued().then_some(measure);
        let position = slots.iter().position(|slot| {
            slot.selection == selection
                && (slot.measure == measure || slot.measure.is_none() || measure.is_none())
        });
        match position {
            Some(position) => {
                let slot = &mut slots[position];
                slot.measure = slot.measure.or(measure);
                position
            }
            None => {
                slots.push(Slot { selection, measure });
                slots.len() - 1
            }
        }
    }

    /// The slots that a feature and, where it is a ratio, its divisor are read from.
    pub fn pair(feature: &Feature, slots: &mut Vec<Slot>) -> (usize, usize) {
        let own = Selection::new(&feature.kinds, feature.window, &feature.filter);
        let kinds =
            if feature.over_kinds.is_empty() { &feature.kinds } else { &feature.over_kinds };
        let window = feature.over.unwrap_or(feature.window);
        let over = Selection::new(kinds, window, &feature.filter);
        let slot = Slot::of(own, feature.of, slots);
        (slot, Slot::of(over, feature.over_of.unwrap_or(feature.of), slots))
    }
}

impl Running {
    /// Takes the next events in time order.
    pub fn add(&mut self, slot: &Slot, events: &[Event]) {
        // Which value is wanted is asked once, and not of every event.
        match slot.measure {
            measure if !slot.selection.has_all() => {
                self.add_values(slot, events, |event| slot.selection.value(event, measure));
            }
            None => self.add_values(slot, events, |_| Some(None)),
            Some(Measure::Amount) => {
                self.add_values(slot, events, |event| Some(Measure::Amount.of_event(event)));
            }
            Some(measure) => {
                self.add_values(slot, events, |event| Some(measure.of_event(event)));
            }
        }
    }

    #[inline]
    fn add_values(
        &mut self,
        slot: &Slot,
        events: &[Event],
        value: impl Fn(&Event) -> Option<Option<i64>>,
    ) {
        let mut sums = self.sums;
        for event in events {
            if slot.selection.has_kind(event.kind.bit())
                && event.day >= self.start
                && let Some(value) = value(event)
            {
                sums.add(event.day, value);
            }
        }
        self.sums = sums;
    }
}
