//! What sums over a window cannot tell: which texts there were, how long a run was, which month was
//! the best.

use super::calendar::{Months, Rolling, Streaks};
use super::selection::Selection;
use super::texts::Texts;
use super::{Aggregate, Feature, Measure};
use crate::domain::{Day, Event, LineView};

/// What has to be followed to read a feature; features with the same needs share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tracker {
    pub selection: Selection,
    pub follow: Follow,
}

/// What is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// Items, categories or channels.
    Texts(Measure),
    Streaks,
    Months(Measure),
    /// A measure over so many consecutive days.
    Rolling(Measure, u16),
}

/// A tracker after the events seen so far, from whose texts it borrows.
#[derive(Debug)]
pub(super) struct Track<'e> {
    /// The first day that counts.
    start: Day,
    /// The newest day of an event, whether that counted or not.
    newest: Day,
    /// The day of the newest event that counted.
    counted: Option<Day>,
    state: State<'e>,
}

#[derive(Debug)]
enum State<'e> {
    Texts(Texts<'e>),
    Streaks(Streaks),
    Months(Months),
    Rolling(Rolling),
}

impl Follow {
    /// What has to be followed for a feature, where sums do not suffice.
    pub fn of(feature: &Feature) -> Option<Follow> {
        match feature.aggregate {
            Aggregate::Distinct | Aggregate::TopShare => Some(Follow::Texts(feature.of)),
            Aggregate::LongestStreak | Aggregate::CurrentStreak => Some(Follow::Streaks),
            Aggregate::MaxPerMonth => Some(Follow::Months(feature.of)),
            // The check has seen to it that there is a span.
            Aggregate::MaxInDays => Some(Follow::Rolling(feature.of, feature.span.unwrap_or(1))),
            _ => None,
        }
    }

    fn measure(self) -> Measure {
        match self {
            Follow::Texts(of) | Follow::Months(of) | Follow::Rolling(of, _) => of,
            Follow::Streaks => Measure::Events,
        }
    }
}

impl Tracker {
    /// Begins a history of so many events.
    pub fn start<'e>(&self, as_of: Day, n_events: usize) -> Track<'e> {
        let state = match self.follow {
            Follow::Texts(_) => State::Texts(Texts::with_room(n_events.min(16))),
            Follow::Streaks => State::Streaks(Streaks::default()),
            Follow::Months(_) => State::Months(Months::default()),
            Follow::Rolling(_, span) => State::Rolling(Rolling::new(span)),
        };
        Track { start: self.selection.start(as_of), newest: Day(i32::MIN), counted: None, state }
    }
}

impl<'e> Track<'e> {
    /// Takes the next events in time order.
    pub fn add(&mut self, tracker: &Tracker, events: &'e [Event]) {
        let (start, selection, of) = (self.start, &tracker.selection, tracker.follow.measure());
        let Track { newest, counted, state, .. } = self;
        let events = events.iter().filter_map(|event| {
            // Where a clock is set back across midnight, a later instant may be of the day before. It
            // is taken as of the day that had begun, because days must never fall.
            *newest = event.day.max(*newest);
            let counts = *newest >= start && selection.has_kind(event.kind.bit());
            counts.then_some((event, *newest))
        });
        if let State::Texts(texts) = state {
            events.for_each(|(event, _)| add_texts(texts, selection, of, event));
            return;
        }
        for (event, day) in events {
            let Some(value) = selection.value(event, Some(of)) else { continue };
            let is_new_day = counted.replace(day) != Some(day);
            let units = match of {
                Measure::Events => Some(1),
                Measure::Days => Some(i64::from(is_new_day)),
                _ => value,
            };
            match (&mut *state, units) {
                (State::Streaks(streaks), _) => streaks.add(day),
                (State::Months(months), Some(units)) => months.add(day, units),
                (State::Rolling(rolling), Some(units)) => rolling.add(day, units),
                _ => {}
            }
        }
    }

    /// The aggregate of what was followed, in the measure's smallest units.
    pub fn read(&self, aggregate: Aggregate, of: Measure, as_of: Day) -> Option<f64> {
        // Of nothing, what is counted is none, and what is summed is not known.
        let total = |most: Option<i128>| match most {
            Some(most) => Some(most as f64),
            None => (!of.is_valued()).then_some(0.0),
        };
        match &self.state {
            State::Texts(texts) if aggregate == Aggregate::Distinct => Some(texts.distinct()),
            State::Texts(texts) => texts.top_share(),
            State::Streaks(streaks) if aggregate == Aggregate::CurrentStreak => {
                Some(f64::from(streaks.current(as_of)))
            }
            State::Streaks(streaks) => Some(f64::from(streaks.longest())),
            State::Months(months) => total(months.most()),
            State::Rolling(rolling) => total(rolling.most()),
        }
    }
}

fn add_texts<'e>(texts: &mut Texts<'e>, selection: &Selection, of: Measure, event: &'e Event) {
    if of == Measure::Channel {
        let channel = event.channel().filter(|_| selection.value(event, None).is_some());
        if let Some(channel) = channel {
            texts.add(channel);
        }
        return;
    }
    let mut add = |line: LineView<'e>| {
        let text = if of == Measure::Item { line.item } else { line.category };
        if let Some(text) = text {
            texts.add(text);
        }
    };
    match event.only_line() {
        Some(line) if selection.has_all() => add(line),
        _ => selection.lines(event).for_each(add),
    }
}
