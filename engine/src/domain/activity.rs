//! When a customer did something themself, and for how long they have not.

use super::{AsOf, Day, Event, EventKind, History, Zone};
use serde::{Deserialize, Serialize};

/// A set of kinds of events, written as a list of their names in canonical order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<EventKind>", into = "Vec<EventKind>")]
pub struct Kinds(u16);

/// Churn as so many days in a row without activity.
///
/// Days are calendar days of the zone, and only those that are over count: on one that has merely
/// begun the customer may still come. A customer is active on a day with an event of these kinds; of
/// who never was, the days count from the first event of any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inactivity {
    /// At least 1. More than the horizon would be no question: who was active of late could not churn.
    pub days: u32,
    /// What counts as activity.
    pub activity: Kinds,
}

impl Kinds {
    /// What customers do themselves. Campaign contacts are the company's doing, and so is the booking
    /// of a refund, often days after the customer asked for it.
    pub const OF_CUSTOMERS: Kinds = Kinds(
        (1 << EventKind::Purchase as u16)
            | (1 << EventKind::Visit as u16)
            | (1 << EventKind::Cart as u16)
            | (1 << EventKind::Login as u16)
            | (1 << EventKind::Ticket as u16)
            | (1 << EventKind::Rating as u16)
            | (1 << EventKind::Referral as u16),
    );

    /// Whether it holds a kind.
    pub fn contains(self, kind: EventKind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// Whether it holds none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl From<Vec<EventKind>> for Kinds {
    fn from(kinds: Vec<EventKind>) -> Kinds {
        Kinds(kinds.into_iter().fold(0, |set, kind| set | kind.bit()))
    }
}

impl From<Kinds> for Vec<EventKind> {
    fn from(set: Kinds) -> Vec<EventKind> {
        EventKind::ALL.into_iter().filter(|&kind| set.contains(kind)).collect()
    }
}

impl Inactivity {
    /// Days in a row without activity that are over at the as-of; `None` without an event.
    pub fn silent_days(&self, history: &History, as_of: AsOf, zone: &Zone) -> Option<u32> {
        let last = self.last_active(&history.until(as_of))?;
        Some(zone.last_over(as_of).since(last).max(0) as u32)
    }

    /// Whether the days in a row are completed after `cutoff` and by `until`. A silence that began before
    /// the cut-off counts. `None` without an event by the cut-off.
    ///
    /// Of who was silent for long enough by the cut-off already it is true.
    pub fn is_reached(
        &self,
        history: &History,
        cutoff: AsOf,
        until: AsOf,
        zone: &Zone,
    ) -> Option<bool> {
        let mut last = self.last_active(&history.until(cutoff))?;
        // A day of activity ends a silence of one day less than lie between.
        let is_too_long = |from: Day, to: Day| i64::from(to.since(from)) >= i64::from(self.days);
        for event in self.active(&history.until(until)) {
            if event.day > last {
                if is_too_long(last, event.day.plus(-1)) {
                    return Some(true);
                }
                last = event.day;
            }
        }
        Some(is_too_long(last, zone.last_over(until)))
    }

    /// The last day with activity, or that of the first event where there was none.
    fn last_active(&self, events: &[Event]) -> Option<Day> {
        self.active(events).last().or(events.first()).map(|event| event.day)
    }

    fn active<'e>(&self, events: &'e [Event]) -> impl DoubleEndedIterator<Item = &'e Event> {
        let activity = self.activity;
        events.iter().filter(move |event| activity.contains(event.kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CustomerId, Timestamp};

    const DAY_MS: i64 = 86_400_000;

    fn utc() -> Zone {
        Zone::named("UTC").unwrap()
    }

    /// The end of a day.
    fn end_of(day: i32) -> AsOf {
        utc().end_of(Day(day))
    }

    /// So many milliseconds into a day.
    fn within(day: i32, ms: i64) -> AsOf {
        utc().as_of(Timestamp(i64::from(day) * DAY_MS + ms))
    }

    fn silent(history: &History, as_of: AsOf) -> Option<u32> {
        WEEK.silent_days(history, as_of, &utc())
    }

    fn history(events: &[(i32, EventKind)]) -> History {
        let noon = |day: i32| Timestamp(i64::from(day) * DAY_MS + DAY_MS / 2);
        let event = |&(day, kind): &(i32, EventKind)| Event::bare(noon(day), Day(day), kind);
        History::new(CustomerId::new("c"), events.iter().map(event).collect())
    }

    fn visits(days: &[i32]) -> History {
        history(&days.iter().map(|&day| (day, EventKind::Visit)).collect::<Vec<_>>())
    }

    const WEEK: Inactivity = Inactivity { days: 7, activity: Kinds::OF_CUSTOMERS };

    /// At the end of day 10, about the fourteen days after it.
    fn reached(history: &History) -> Option<bool> {
        WEEK.is_reached(history, end_of(10), end_of(24), &utc())
    }

    #[test]
    fn activity_exactly_so_many_days_after_comes_in_time() {
        // Six whole days lie between 10 and 17, and between 17 and 24.
        assert_eq!(reached(&visits(&[10, 17, 24])), Some(false));
        // Seven lie between 10 and 18: the silence was complete at the end of 17.
        assert_eq!(reached(&visits(&[10, 18, 24])), Some(true));
        // Who came back within the horizon has churned nevertheless.
        assert_eq!(reached(&visits(&[10, 18, 19, 20, 21, 22, 23, 24])), Some(true));
    }

    #[test]
    fn a_silence_from_before_the_cutoff_counts() {
        // Silent for six days at the cut-off: tomorrow completes the week, unless there is activity.
        assert_eq!(silent(&visits(&[4]), end_of(10)), Some(6));
        assert_eq!(reached(&visits(&[4, 12, 18, 24])), Some(true));
        assert_eq!(reached(&visits(&[4, 11, 18, 24])), Some(false));
        // Silent for long enough already.
        assert_eq!(silent(&visits(&[3]), end_of(10)), Some(7));
        assert_eq!(reached(&visits(&[3, 11, 18, 24])), Some(true));
    }

    #[test]
    fn the_end_of_the_horizon_completes_a_silence_or_does_not() {
        // From 18 on, seven days end at 24; from 19 on, six.
        assert_eq!(reached(&visits(&[10, 17])), Some(true));
        assert_eq!(reached(&visits(&[10, 14, 18])), Some(false));
        // What comes after the horizon says nothing.
        let later = visits(&[10, 17, 25]);
        assert_eq!(reached(&later), Some(true));
    }

    #[test]
    fn a_day_that_has_merely_begun_is_not_silent_yet() {
        let noon = DAY_MS / 2;
        for ms in [0, noon, DAY_MS - 2] {
            assert_eq!(silent(&visits(&[10]), within(17, ms)), Some(6), "{ms}");
        }
        assert_eq!(silent(&visits(&[10]), within(17, DAY_MS - 1)), Some(7));
        // On the day of the activity itself there is no silence to count.
        assert_eq!(silent(&visits(&[10]), within(10, DAY_MS - 2)), Some(0));
        let daily = Inactivity { days: 1, ..WEEK };
        let seen = |as_of| daily.silent_days(&visits(&[10]), as_of, &utc());
        assert_eq!((seen(within(11, noon)), seen(end_of(11))), (Some(0), Some(1)));
        assert_eq!(seen(within(12, 0)), Some(1));
        // A window that ends in mid-day tells as much of its last day.
        let until = |as_of| WEEK.is_reached(&visits(&[10]), end_of(10), as_of, &utc());
        assert_eq!((until(within(17, noon)), until(end_of(17))), (Some(false), Some(true)));
        assert_eq!(until(within(18, 0)), Some(true));
    }

    #[test]
    fn days_end_as_the_zone_has_them() {
        let zone = Zone::named("America/New_York").unwrap();
        let at = |text: &str| zone.as_of(zone.parse(text, None).unwrap().at);
        let visit = at("2021-03-10 12:00");
        let event = Event::bare(visit.at, visit.day, EventKind::Visit);
        let history = History::new(CustomerId::new("c"), vec![event]);
        let silent = |text: &str| WEEK.silent_days(&history, at(text), &zone);
        // In UTC the 17th ends four hours earlier, and the 14th has 23 hours there.
        assert_eq!(silent("2021-03-17 22:00"), Some(6));
        assert_eq!(silent("2021-03-17 23:59:59.999"), Some(7));
        assert_eq!(silent("2021-03-18 00:00"), Some(7));
    }

    #[test]
    fn only_what_customers_do_is_activity() {
        use EventKind::{Campaign, Purchase, Rating, Refund};
        let contacted = history(&[(9, Purchase), (12, Campaign), (15, Refund), (16, Campaign)]);
        assert_eq!(silent(&contacted, end_of(16)), Some(7));
        assert_eq!(reached(&contacted), Some(true));
        let rated = history(&[(9, Purchase), (12, Rating), (18, Rating)]);
        assert_eq!(reached(&rated), Some(false));
        // Of who never was active the days count from the first event of any kind.
        let never = history(&[(6, Campaign), (9, Campaign)]);
        assert_eq!(silent(&never, end_of(10)), Some(4));
        assert_eq!(reached(&never), Some(true));
        assert_eq!(reached(&history(&[(11, Purchase)])), None);
        assert_eq!(silent(&history(&[]), end_of(10)), None);
    }

    #[test]
    fn several_events_of_a_day_are_one_day() {
        assert_eq!(reached(&visits(&[10, 10, 17, 17, 23, 23])), Some(false));
    }

    #[test]
    fn kinds_are_written_by_their_names() {
        let json = serde_json::to_string(&WEEK).unwrap();
        let names = r#"["purchase","visit","cart","login","ticket","rating","referral"]"#;
        assert_eq!(json, format!(r#"{{"days":7,"activity":{names}}}"#));
        assert_eq!(serde_json::from_str::<Inactivity>(&json).unwrap(), WEEK);
        assert!(Kinds::from(Vec::new()).is_empty());
    }
}
