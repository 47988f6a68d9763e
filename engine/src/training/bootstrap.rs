//! How sure a number, or a difference between two models, is: the bootstrap over customers.

use crate::domain::Seed;
use crate::matrix::quantile;
use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A number and the interval around it, in the unit of the statistic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Of the customers as they are.
    pub estimate: f64,
    pub low: f64,
    pub high: f64,
    /// The share of the replicates that the interval holds, in `(0, 1)`.
    pub level: f64,
}

/// The percentile interval of `statistic` over `n` customers (Efron 1979; Efron & Tibshirani 1993,
/// ch. 13).
///
/// `statistic` is told rows in `0..n`, `(n,)`, in any order and with repeats. One that compares two
/// models over the rows is paired by that: both are asked about the same customers. Each of the
/// `replicates` draws its rows from a seed of its own, so that the interval is the same for any
/// number of threads.
///
/// A replicate for which the statistic is undefined or not finite is left out. `None` where more
/// than half of them are, where it is undefined for the customers as they are, and where there is
/// nothing to draw or `level` is not within `(0, 1)`.
pub fn difference_interval(
    n: usize,
    statistic: impl Fn(&[usize]) -> Option<f64> + Sync,
    seed: Seed,
    replicates: u32,
    level: f64,
) -> Option<Interval> {
    if n == 0 || replicates == 0 || !(level > 0.0 && level < 1.0) {
        return None;
    }
    let finite = |rows: &[usize]| statistic(rows).filter(|value| value.is_finite());
    let everybody: Vec<usize> = (0..n).collect();
    let estimate = finite(&everybody)?;
    let drawn: Vec<Option<f64>> = (0..replicates)
        .into_par_iter()
        .map_init(Vec::new, |rows: &mut Vec<usize>, replicate| {
            let mut rng = seed.derive("bootstrap", u64::from(replicate)).rng();
            rows.clear();
            rows.extend((0..n).map(|_| rng.gen_range(0..n as u64) as usize));
            finite(rows)
        })
        .collect();
    let mut values: Vec<f64> = drawn.into_iter().flatten().collect();
    if values.len() < (replicates as usize).div_ceil(2) {
        return None;
    }
    let (low, high) = percentiles(&mut values, level);
    Some(Interval { estimate, low, high, level })
}

/// The quantiles between which this share of the values lies; sorts them.
fn percentiles(values: &mut [f64], level: f64) -> (f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - level) / 2.0;
    (quantile(values, tail), quantile(values, 1.0 - tail))
}

/// A number with what the bootstrap over customers says of it, in the unit of the number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Of the customers as they are.
    pub estimate: f64,
    /// The standard deviation over replicates; absent without a bootstrap, and where the number is
    /// undefined for more than half of the replicates.
    pub standard_error: Option<f64>,
    /// The percentile interval of [`Resampled::LEVEL`]; absent likewise.
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// Many statistics of the same customers, of all as they are and of the same draws of them, so that
/// any function of them has its interval, and a difference is paired.
#[derive(Debug, Clone)]
pub struct Resampled {
    as_they_are: Vec<Option<f64>>,
    replicates: Vec<Vec<Option<f64>>>,
}

impl Resampled {
    /// The share of the replicates that an interval holds.
    pub const LEVEL: f64 = 0.95;

    /// Asks for the statistics of `n` customers. `statistics` is told how often each counts, `(n,)`,
    /// and gives as many numbers each time; what is undefined is `None`. Each of the `replicates`
    /// draws from a seed of its own, so that any number of threads gives the same bits.
    pub fn of(
        n: usize,
        statistics: impl Fn(&[f64]) -> Vec<Option<f64>> + Sync,
        seed: Seed,
        replicates: u32,
    ) -> Resampled {
        let as_they_are = statistics(&vec![1.0; n]);
        let drawn = |weights: &mut Vec<f64>, replicate| {
            let mut rng = seed.derive("bootstrap", u64::from(replicate)).rng();
            weights.fill(0.0);
            (0..n).for_each(|_| weights[rng.gen_range(0..n as u64) as usize] += 1.0);
            statistics(weights)
        };
        let replicates = (0..replicates).into_par_iter().map_init(|| vec![0.0; n], drawn);
        Resampled { as_they_are, replicates: replicates.collect() }
    }

    /// A function of the statistics. `None` where it is undefined for the customers as they are.
    pub fn estimate(&self, number: impl Fn(&[Option<f64>]) -> Option<f64>) -> Option<Estimate> {
        let finite = |values: &Vec<Option<f64>>| number(values).filter(|value| value.is_finite());
        let estimate = finite(&self.as_they_are)?;
        let mut values: Vec<f64> = self.replicates.iter().filter_map(finite).collect();
        if values.len() < 2 || values.len() < self.replicates.len().div_ceil(2) {
            return Some(Estimate { estimate, standard_error: None, low: None, high: None });
        }
        let (low, high) = percentiles(&mut values, Resampled::LEVEL);
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        let standard_error = Some((squares / (n - 1.0)).sqrt());
        Some(Estimate { estimate, standard_error, low: Some(low), high: Some(high) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Seed = Seed(11);

    fn mean_of(values: &[f64]) -> impl Fn(&[usize]) -> Option<f64> + Sync {
        move |rows: &[usize]| {
            Some(rows.iter().map(|&row| values[row]).sum::<f64>() / rows.len() as f64)
        }
    }

    #[test]
    fn the_interval_of_a_mean_is_as_wide_as_theory_has_it() {
        // 0, 1 .. 9 over and over: the mean is 4.5 and its standard error sqrt(8.25 / 1000).
        let values: Vec<f64> = (0..1_000).map(|row| f64::from(row % 10)).collect();
        let interval = difference_interval(1_000, mean_of(&values), SEED, 2_000, 0.95).unwrap();
        assert_eq!((interval.estimate, interval.level), (4.5, 0.95));
        let half = 1.96 * libm::sqrt(8.25 / 1_000.0);
        assert!((interval.low - (4.5 - half)).abs() < 0.15 * half, "{interval:?}");
        assert!((interval.high - (4.5 + half)).abs() < 0.15 * half, "{interval:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_bits() {
        let values: Vec<f64> = (0..200).map(|row| f64::from(row * row % 37)).collect();
        let of = |seed| difference_interval(200, mean_of(&values), seed, 100, 0.9).unwrap();
        assert_eq!(of(SEED), of(SEED));
        assert_ne!(of(SEED), of(Seed(12)));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(pool.install(|| of(SEED)), of(SEED));
    }

    #[test]
    fn what_is_undefined_is_left_out() {
        // Undefined in about a third of the replicates: those without the first customer.
        let often = |rows: &[usize]| rows.contains(&0).then_some(1.0);
        let interval = difference_interval(50, often, SEED, 200, 0.95).unwrap();
        assert_eq!((interval.low, interval.high), (1.0, 1.0));
        // Defined for everybody, and hardly ever for a replicate.
        let seldom = |rows: &[usize]| (0..50).all(|row| rows.contains(&row)).then_some(1.0);
        assert_eq!(difference_interval(50, seldom, SEED, 200, 0.95), None);
        assert_eq!(difference_interval(50, |_| Some(f64::NAN), SEED, 200, 0.95), None);
        assert_eq!(difference_interval(50, |_| None, SEED, 200, 0.95), None);
    }

    #[test]
    fn nothing_to_draw_gives_no_interval() {
        let one = |_: &[usize]| Some(1.0);
        assert_eq!(difference_interval(0, one, SEED, 200, 0.95), None);
        assert_eq!(difference_interval(5, one, SEED, 0, 0.95), None);
        assert_eq!(difference_interval(5, one, SEED, 200, f64::NAN), None);
        assert!(difference_interval(1, one, SEED, 1, 0.95).is_some());
    }
}
