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
    max: i64,
}

impl Accumulator {
    /// Takes the next event in time order and its value, where it carries one.
    pub fn add(&mut self, day: Day, value: Option<i64>) {
        self.events += 1;
        match self.last {
            Some(last) if last == day => {}
            last => {
                let gap = last.map_or(0, |last| i128::from(day.since(last)));
                self.gap_squares += gap * gap;
                self.days += 1;
                self.first.get_or_insert(day);
                self.last = Some(day);
            }
        }
        if let Some(value) = value {
            self.max = if self.values == 0 { value } else { self.max.max(value) };
            self.values += 1;
            self.sum += i128::from(value);
            self.squares = self.squares.saturating_add(i128::from(value) * i128::from(value));
        }
    }

    /// The mean value, in the measure's smallest units.
    pub fn mean(&self) -> Option<f64> {
        (self.values > 0).then(|| self.sum as f64 / f64::from(self.values))
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
