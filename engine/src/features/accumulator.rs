//! What one pass over a history remembers. Sums are of integers, so they are exact.

use crate::domain::Day;

/// The state of one (kinds, window, measure) after the events seen so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Accumulator {
    pub events: u32,
    /// Distinct calendar days with an event.
    pub days: u32,
    pub first: Option<Day>,
    pub last: Option<Day>,
    /// Sum of squared gaps between consecutive days with an event. The gaps' sum is last - first.
    gap_squares: i128,
    /// Events that carry a value of the measure.
    pub values: u32,
    pub sum: i128,
    squares: i128,
    min: i64,
    max: i64,
}

impl Accumulator {
    /// Takes the next event in time order and its value, where it carries one.
    #[inline]
    pub fn add(&mut self, day: Day, value: Option<i64>) {
        self.events += 1;
        match self.last {
            Some(last) if last == day => {}
            last => {
                // The square of an i32 fits an i64, whose product is cheaper.
                let gap = last.map_or(0, |last| i64::from(day.since(last)));
                self.gap_squares += i128::from(gap * gap);
                self.days += 1;
                self.first.get_or_insert(day);
                self.last = Some(day);
            }
        }
        if let Some(value) = value {
            let first = self.values == 0;
            self.min = if first { value } else { self.min.min(value) };
            self.max = if first { value } else { self.max.max(value) };
            self.values += 1;
            self.sum += i128::from(value);
            self.squares = self.squares.saturating_add(i128::from(value) * i128::from(value));
        }
    }

    /// The mean value, in the measure's smallest units.
    pub fn mean(&self) -> Option<f64> {
        (self.values > 0).then(|| self.sum as f64 / f64::from(self.values))
    }

    /// The smallest value, in smallest units.
    pub fn min(&self) -> Option<f64> {
        (self.values > 0).then_some(self.min as f64)
    }

    /// The largest value, in smallest units.
    pub fn max(&self) -> Option<f64> {
        (self.values > 0).then_some(self.max as f64)
    }

    /// The sample's standard deviation of the values, in smallest units.
    pub fn std(&self) -> Option<f64> {
        sample_std(self.values, self.sum, self.squares)
    }

    /// Mean days between consecutive days with an event.
    pub fn gap_mean(&self) -> Option<f64> {
        let span = f64::from(self.last?.since(self.first?));
        (self.days > 1).then(|| span / f64::from(self.days - 1))
    }

    /// The sample's standard deviation of these gaps over their mean.
    pub fn gap_variation(&self) -> Option<f64> {
        let span = i128::from(self.last?.since(self.first?));
        let std = sample_std(self.days.saturating_sub(1), span, self.gap_squares)?;
        Some(std / self.gap_mean()?)
    }

    /// Mean calendar days between consecutive events; two of one day have a gap of zero.
    pub fn event_gap_mean(&self) -> Option<f64> {
        let span = f64::from(self.last?.since(self.first?));
        (self.events > 1).then(|| span / f64::from(self.events - 1))
    }

    /// The sample's standard deviation of these gaps over their mean. Gaps of zero add nothing to
    /// the squares, so those of the days serve here too.
    pub fn event_gap_variation(&self) -> Option<f64> {
        let span = i128::from(self.last?.since(self.first?));
        let std = sample_std(self.events.saturating_sub(1), span, self.gap_squares)?;
        let mean = self.event_gap_mean()?;
        (mean != 0.0).then(|| std / mean)
    }
}

/// sqrt((n Σx² - (Σx)²) / (n (n - 1))), in integers up to the division, so that equal values give
/// exactly zero. Values so large that the products overflow fall back to floats.
fn sample_std(n: u32, sum: i128, squares: i128) -> Option<f64> {
    if n < 2 {
        return None;
    }
    let count = i128::from(n);
    let exact = count.checked_mul(squares).zip(sum.checked_mul(sum)).map(|(a, b)| (a - b) as f64);
    let spread =
        exact.unwrap_or_else(|| (f64::from(n) * squares as f64 - sum as f64 * sum as f64).max(0.0));
    Some((spread / (f64::from(n) * f64::from(n - 1))).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_days(days: &[i32]) -> Accumulator {
        let mut accumulator = Accumulator::default();
        days.iter().for_each(|&day| accumulator.add(Day(day), None));
        accumulator
    }

    #[test]
    fn gaps_of_days_and_of_events_differ_where_a_day_has_two() {
        let three = of_days(&[0, 0, 6]);
        assert_eq!((three.gap_mean(), three.event_gap_mean()), (Some(6.0), Some(3.0)));
        assert_eq!(three.gap_variation(), None);
        assert_eq!(three.event_gap_variation(), Some(18f64.sqrt() / 3.0));
    }

    #[test]
    fn gaps_without_a_length_vary_by_no_share_of_it() {
        let one_day = of_days(&[4, 4, 4]);
        assert_eq!((one_day.gap_mean(), one_day.event_gap_mean()), (None, Some(0.0)));
        assert_eq!(one_day.event_gap_variation(), None);
        assert_eq!(of_days(&[4]).event_gap_mean(), None);
        assert_eq!(of_days(&[]).event_gap_mean(), None);
        assert_eq!(of_days(&[4, 6]).event_gap_variation(), None);
    }

    #[test]
    fn the_smallest_and_the_largest_may_be_negative() {
        let mut accumulator = Accumulator::default();
        assert_eq!((accumulator.min(), accumulator.max()), (None, None));
        [-5, -2, -9].into_iter().for_each(|value| accumulator.add(Day(0), Some(value)));
        assert_eq!((accumulator.min(), accumulator.max()), (Some(-9.0), Some(-2.0)));
    }
}
