//! Runs of days, the best month and the best spell, each from one pass over days that never fall.

use crate::domain::Day;
use std::collections::VecDeque;

/// Runs of consecutive days with an event.
#[derive(Debug, Default)]
pub(super) struct Streaks {
    last: Option<Day>,
    /// Days of the run that ends with `last`.
    run: u32,
    longest: u32,
}

impl Streaks {
    /// Takes the next event's day.
    pub fn add(&mut self, day: Day) {
        self.run = match self.last.map(|last| day.since(last)) {
            Some(0) => self.run,
            Some(1) => self.run + 1,
            _ => 1,
        };
        self.longest = self.longest.max(self.run);
        self.last = Some(day);
    }

    /// Days of the longest run.
    pub fn longest(&self) -> u32 {
        self.longest
    }

    /// Days of the run that ends at the as-of's day or the day before; 0 where none does.
    pub fn current(&self, as_of: Day) -> u32 {
        if self.last.is_some_and(|last| as_of.since(last) <= 1) { self.run } else { 0 }
    }
}

/// Totals of calendar months.
#[derive(Debug, Default)]
pub(super) struct Months {
    /// The newest month and its total so far.
    current: Option<(i64, i128)>,
    /// The largest total of the months before.
    most: Option<i128>,
}

impl Months {
    /// Takes what the next event adds.
    pub fn add(&mut self, day: Day, units: i64) {
        let month = day.month();
        let before = self.current.filter(|(current, _)| *current == month);
        if before.is_none() {
            self.most = self.most();
        }
        let total = before.map_or(0, |(_, total)| total);
        self.current = Some((month, total + i128::from(units)));
    }

    /// The largest total of a month; `None` of nothing.
    pub fn most(&self) -> Option<i128> {
        self.most.max(self.current.map(|(_, total)| total))
    }
}

/// Totals of so many consecutive days, each ending with a day on which something was added.
#[derive(Debug)]
pub(super) struct Rolling {
    span: i32,
    /// The days that lie within `span` days of the newest, with what was added on each.
    days: VecDeque<(Day, i128)>,
    /// The total of `days`.
    total: i128,
    /// The largest total that ended with a day before the newest.
    most: Option<i128>,
}

impl Rolling {
    /// Nothing yet, for totals of `span` days.
    pub fn new(span: u16) -> Rolling {
        Rolling { span: i32::from(span), days: VecDeque::new(), total: 0, most: None }
    }

    /// Takes what the next event adds.
    pub fn add(&mut self, day: Day, units: i64) {
        let units = i128::from(units);
        match self.days.back_mut() {
            Some((last, of_day)) if *last == day => *of_day += units,
            _ => {
                self.most = self.most();
                while let Some((_, of_day)) = self.leaving(day) {
                    self.total -= of_day;
                    self.days.pop_front();
                }
                self.days.push_back((day, units));
            }
        }
        self.total += units;
    }

    /// The oldest day, where it is too old beside `day`.
    fn leaving(&self, day: Day) -> Option<(Day, i128)> {
        self.days.front().copied().filter(|(first, _)| day.since(*first) >= self.span)
    }

    /// The largest total; `None` of nothing.
    pub fn most(&self) -> Option<i128> {
        self.most.max((!self.days.is_empty()).then_some(self.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_a_day_is_left_out() {
        let mut streaks = Streaks::default();
        assert_eq!((streaks.longest(), streaks.current(Day(0))), (0, 0));
        [3, 4, 4, 5, 9, 10].into_iter().for_each(|day| streaks.add(Day(day)));
        assert_eq!(streaks.longest(), 3);
        let current = [10, 11, 12].map(|as_of| streaks.current(Day(as_of)));
        assert_eq!(current, [2, 2, 0]);
    }

    #[test]
    fn months_are_of_the_calendar() {
        let mut months = Months::default();
        assert_eq!(months.most(), None);
        // January 30 and 31, February 1 and March 1 of 1970.
        for (day, units) in [(29, 4), (30, 3), (31, 5), (59, 6)] {
            months.add(Day(day), units);
        }
        assert_eq!(months.most(), Some(7));
    }

    #[test]
    fn the_best_month_may_be_below_zero() {
        let mut months = Months::default();
        [(0, -5), (40, -2), (80, -9)]
            .into_iter()
            .for_each(|(day, units)| months.add(Day(day), units));
        assert_eq!(months.most(), Some(-2));
    }

    #[test]
    fn a_spell_holds_so_many_days_and_no_more() {
        let most = |span: u16| {
            let mut rolling = Rolling::new(span);
            for (day, units) in [(0, 1), (0, 1), (3, 4), (4, 1), (7, 5), (30, 6)] {
                rolling.add(Day(day), units);
            }
            rolling.most()
        };
        assert_eq!(Rolling::new(3).most(), None);
        assert_eq!([1, 2, 4, 5, 8].map(most), [6, 6, 6, 10, 12].map(Some));
    }

    #[test]
    fn a_day_is_taken_whole() {
        let mut rolling = Rolling::new(1);
        rolling.add(Day(0), 9);
        rolling.add(Day(0), -4);
        rolling.add(Day(5), 2);
        assert_eq!(rolling.most(), Some(5));
    }
}
