//! Rows in the order of a number, and the metrics that look at them in that order.
//!
//! The order is found once. Every metric takes `weights` `(n,)`, whole numbers that say how often each
//! row counts, so that a bootstrap needs no sorting: the metric with weights is the metric over rows
//! that are there so many times.

use rayon::prelude::*;

/// Bins of equal count in ECE and decile MAPE.
pub const N_BINS: usize = 10;

/// Rows in ascending order, cut where a new value begins.
#[derive(Debug, Clone)]
pub struct Ranking {
    rows: Vec<u32>,
    /// Where each tie ends in `rows`.
    ends: Vec<u32>,
}

/// What fell into one bin of equal count.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bin {
    /// Customers.
    pub n: f64,
    /// What happened, summed up.
    pub actual: f64,
    /// What was predicted, summed up.
    pub predicted: f64,
}

impl Ranking {
    /// Orders the rows of `values` `(n,)`.
    pub fn of(values: &[f64]) -> Ranking {
        let mut rows: Vec<u32> = (0u32..).take(values.len()).collect();
        let value = |row: &u32| values[*row as usize];
        rows.par_sort_by(|a, b| value(a).total_cmp(&value(b)));
        let mut end = 0;
        let ends = rows.chunk_by(|a, b| value(a).total_cmp(&value(b)).is_eq()).map(|tie| {
            end += tie.len() as u32;
            end
        });
        let ends = ends.collect();
        Ranking { rows, ends }
    }

    /// From the smallest value: the rows that have it.
    pub fn ties(&self) -> impl DoubleEndedIterator<Item = &[u32]> {
        (0..self.ends.len()).map(|tie| {
            let start = tie.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.rows[start as usize..self.ends[tie] as usize]
        })
    }

    /// Ties that count, as (a row of it, its weight, Σ weight x value).
    fn sums<'a>(
        &'a self,
        values: &'a [f64],
        weights: &'a [f64],
    ) -> impl DoubleEndedIterator<Item = (usize, f64, f64)> + 'a {
        let sum = |tie: &[u32]| {
            let (mut weight, mut value) = (0.0, 0.0);
            for &row in tie {
                let row = row as usize;
                weight += weights[row];
                value += weights[row] * values[row];
            }
            (tie[0] as usize, weight, value)
        };
        self.ties().map(sum).filter(|&(_, weight, _)| weight > 0.0)
    }

    /// Area under the ROC curve of the ranked scores; `churned` `(n,)` is 1 or 0. `None` where only
    /// one outcome occurs.
    pub fn auc(&self, churned: &[f64], weights: &[f64]) -> Option<f64> {
        let (mut wins, mut positives, mut negatives) = (0.0, 0.0, 0.0);
        for (_, weight, happened) in self.sums(churned, weights) {
            wins += happened * (negatives + 0.5 * (weight - happened));
            positives += happened;
            negatives += weight - happened;
        }
        (positives > 0.0 && negatives > 0.0).then(|| wins / (positives * negatives))
    }

    /// Bins of equal count of the ranked predictions, as numpy.array_split has them: the first
    /// n mod 10 hold one more.
    pub fn bins(&self, actual: &[f64], predicted: &[f64], weights: &[f64]) -> [Bin; N_BINS] {
        let n: f64 = weights.iter().sum();
        let (least, more) = ((n / N_BINS as f64).floor(), n % N_BINS as f64);
        let room_of = |bin: usize| if (bin as f64) < more { least + 1.0 } else { least };
        let mut bins = [Bin::default(); N_BINS];
        let (mut bin, mut room) = (0, room_of(0));
        for (row, mut left, happened) in self.sums(actual, weights) {
            let mean = happened / left;
            while left > 0.0 {
                while room <= 0.0 && bin + 1 < N_BINS {
                    bin += 1;
                    room = room_of(bin);
                }
                // Weights are whole numbers, so the last bin has room for all that is left.
                let taken = if bin + 1 < N_BINS { left.min(room) } else { left };
                bins[bin].n += taken;
                bins[bin].actual += taken * mean;
                bins[bin].predicted += taken * predicted[row];
                left -= taken;
                room -= taken;
            }
        }
        bins
    }

    /// Expected calibration error of the ranked probabilities.
    pub fn ece(&self, churned: &[f64], probabilities: &[f64], weights: &[f64]) -> f64 {
        let bins = self.bins(churned, probabilities, weights);
        let gaps: f64 = bins.iter().map(|bin| (bin.actual - bin.predicted).abs()).sum();
        gaps / bins.iter().map(|bin| bin.n).sum::<f64>()
    }

    /// Mean relative error of ten bins of the ranked predictions; see
    /// [`decile_mape`](super::decile_mape).
    pub fn decile_mape(&self, actual: &[f64], predicted: &[f64], weights: &[f64]) -> Option<f64> {
        let bins = self.bins(actual, predicted, weights);
        let told = bins.iter().filter(|bin| bin.actual > 0.0);
        let errors = told.map(|bin| (bin.actual - bin.predicted).abs() / bin.actual);
        let (n, sum) = errors.fold((0.0, 0.0), |(n, sum), error| (n + 1.0, sum + error));
        (n > 0.0).then(|| sum / n)
    }

    /// The area between the curve of cumulative shares of `actual`, from the largest ranked value
    /// down, and that of a random order. `None` where `actual` sums to nothing.
    pub fn gini(&self, actual: &[f64], weights: &[f64]) -> Option<f64> {
        let (mut n, mut running, mut area) = (0.0, 0.0, 0.0);
        for (_, weight, value) in self.sums(actual, weights).rev() {
            area += weight * running + value * (weight + 1.0) / 2.0;
            running += value;
            n += weight;
        }
        (running > 0.0).then(|| area / running / n - (n + 1.0) / (2.0 * n))
    }

    /// The same over `own`, the Gini of `actual` ranked by itself.
    pub fn normalised_gini(
        &self,
        own: Option<f64>,
        actual: &[f64],
        weights: &[f64],
    ) -> Option<f64> {
        let own = own.filter(|own| own.abs() > 1e-12)?;
        Some(self.gini(actual, weights)? / own)
    }

    /// The share of `actual` that the tenth with the largest ranked values has.
    pub fn top_decile(&self, actual: &[f64], weights: &[f64]) -> Option<f64> {
        let (n, total) = weights
            .iter()
            .zip(actual)
            .fold((0.0, 0.0), |(n, total), (weight, value)| (n + weight, total + weight * value));
        let mut room = (n / 10.0_f64).floor();
        if room <= 0.0 || total <= 0.0 {
            return None;
        }
        let mut captured = 0.0;
        for (_, weight, value) in self.sums(actual, weights).rev() {
            let taken = room.min(weight);
            captured += taken * (value / weight);
            room -= taken;
            if room <= 0.0 {
                break;
            }
        }
        Some(captured / total)
    }

    /// Writes the rank of each row, from 1, of which a tie shares the mean.
    pub fn ranks(&self, weights: &[f64], ranks: &mut [f64]) {
        let mut before = 0.0;
        for tie in self.ties() {
            let weight: f64 = tie.iter().map(|&row| weights[row as usize]).sum();
            let rank = before + (weight + 1.0) / 2.0;
            tie.iter().for_each(|&row| ranks[row as usize] = rank);
            before += weight;
        }
    }
}

/// Pearson's correlation of two columns of ranks. `None` where either is all equal.
pub(in crate::training) fn correlation(a: &[f64], b: &[f64], weights: &[f64]) -> Option<f64> {
    // Ranks of n rows have this mean, whatever the ties.
    let middle = (weights.iter().sum::<f64>() + 1.0) / 2.0;
    let (mut of_a, mut of_b, mut of_both) = (0.0, 0.0, 0.0);
    for ((a, b), weight) in a.iter().zip(b).zip(weights) {
        let (a, b) = (a - middle, b - middle);
        of_a += weight * a * a;
        of_b += weight * b * b;
        of_both += weight * a * b;
    }
    (of_a > 0.0 && of_b > 0.0).then(|| of_both / (of_a * of_b).sqrt())
}

/// Σ weight x value over Σ weight.
pub(in crate::training) fn mean_of(values: &[f64], weights: &[f64]) -> f64 {
    let (mut n, mut sum) = (0.0, 0.0);
    for (value, weight) in values.iter().zip(weights) {
        n += weight;
        sum += weight * value;
    }
    sum / n
}
