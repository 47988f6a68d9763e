//! Which events count for a feature, and what of them.

use super::{Filter, Measure, Window};
use crate::domain::{Day, Event, EventKind, LineView};

/// The events of some kinds in a window that pass a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selection {
    /// The kinds' bits.
    kinds: u16,
    window: Window,
    /// `None` where everything passes, which costs nothing to ask.
    filter: Option<Box<Filter>>,
}

impl Selection {
    pub fn new(kinds: &[EventKind], window: Window, filter: &Filter) -> Selection {
        Selection {
            kinds: kinds.iter().fold(0, |bits, kind| bits | kind.bit()),
            window,
            filter: (!filter.is_empty()).then(|| Box::new(filter.clone())),
        }
    }

    /// The first day that counts.
    pub fn start(&self, as_of: Day) -> Day {
        self.window.start(as_of)
    }

    /// Whether events of the kind with this bit count.
    #[inline]
    pub fn has_kind(&self, bit: u16) -> bool {
        self.kinds & bit != 0
    }

    /// Whether all of an event of such a kind passes.
    #[inline]
    pub fn has_all(&self) -> bool {
        self.filter.is_none()
    }

    /// `None` where an event of such a kind does not pass; otherwise the value, in smallest units,
    /// that what passes of it carries.
    #[inline]
    pub fn value(&self, event: &Event, measure: Option<Measure>) -> Option<Option<i64>> {
        match &self.filter {
            None => Some(measure.and_then(|measure| measure.of_event(event))),
            Some(filter) => filter.value(event, measure),
        }
    }

    /// The lines of an event of such a kind that pass.
    pub fn lines<'e>(&self, event: &'e Event) -> impl Iterator<Item = LineView<'e>> {
        let filter = self.filter.as_deref();
        let here = filter.is_none_or(|filter| filter.has_channel(event));
        event.lines().filter(move |line| here && filter.is_none_or(|filter| filter.has_line(line)))
    }
}

impl Filter {
    fn value(&self, event: &Event, measure: Option<Measure>) -> Option<Option<i64>> {
        if !self.has_channel(event) {
            return None;
        }
        let mut passes = false;
        let mut sum: Option<i64> = None;
        for line in event.lines().filter(|line| self.has_line(line)) {
            passes = true;
            if let Some(value) = measure.and_then(|measure| measure.of_line(&line)) {
                sum = Some(sum.map_or(value, |sum| sum.saturating_add(value)));
            }
        }
        let value = match measure {
            Some(Measure::Rating) => Measure::Rating.of_event(event),
            _ => sum,
        };
        passes.then_some(value)
    }

    fn has_channel(&self, event: &Event) -> bool {
        named(&self.channel, event.channel())
    }

    fn has_line(&self, line: &LineView<'_>) -> bool {
        named(&self.item, line.item) && named(&self.category, line.category)
    }
}

/// Whether a list names this text, as an empty one does every text and none.
fn named(list: &[String], text: Option<&str>) -> bool {
    list.is_empty() || text.is_some_and(|text| list.iter().any(|named| named == text))
}
