//! Sums of the rows of each cluster, exact in fixed point.
//!
//! Each value is rounded once, to a multiple of a power of two that is so small that 2^61 of them
//! hold the sum of all rows (at most 2^51 of them one row). Sums of integers do not depend on order:
//! they are the same for any number of threads, and the same whether all rows are added or those
//! that moved are taken from one cluster and given to another.

use super::Level;
use super::leads::NONE;

/// Added to a number below 2^51 it leaves the number's integer in the low bits of the sum.
const ROUNDER: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52

/// How many units make one, column by column.
#[derive(Debug, Clone)]
pub struct Units {
    columns: Vec<f64>,
    weight: f64,
}

impl Units {
    /// Units for rows whose columns' largest absolute values and whose (weighted) sums of those are
    /// given, `(n_features,)` each, and whose largest weight and sum of weights.
    pub fn new(largest: &[f64], absolute: &[f64], largest_weight: f64, weight: f64) -> Units {
        let unit = |of_one: f64, of_all: f64| {
            // The exponent of a power of two that is larger than the number.
            let above = |number: f64| if number > 0.0 { libm::frexp(number).1 } else { 0 };
            libm::ldexp(1.0, (51 - above(of_one)).min(61 - above(of_all)))
        };
        let columns = largest.iter().zip(absolute);
        let columns = columns.map(|(&one, &all)| unit(one * largest_weight, all));
        Units { columns: columns.collect(), weight: unit(largest_weight, weight) }
    }
}

/// A row that leaves one cluster for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    pub row: u32,
    /// [`NONE`] where it comes from nowhere.
    pub from: u32,
    pub to: u32,
}

/// Sums and weights of clusters.
#[derive(Debug, Clone, PartialEq)]
pub struct Sums {
    level: Level,
    /// `(n_clusters, n_features)`.
    rows: Vec<i64>,
    /// `(n_clusters,)`.
    weights: Vec<i64>,
}

impl Sums {
    /// Of nothing.
    pub fn new(level: Level, n_clusters: usize, n_features: usize) -> Sums {
        Sums { level, rows: vec![0; n_clusters * n_features], weights: vec![0; n_clusters] }
    }

    /// Moves rows of `(n_rows, n_features)`, each as often as its weight says.
    pub fn shift(&mut self, units: &Units, rows: &[f32], weights: Option<&[f32]>, moves: &[Move]) {
        // SAFETY: `Level` is what was found on this machine, or chosen of what is present.
        unsafe {
            match self.level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => avx512(self, units, rows, weights, moves),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => avx2(self, units, rows, weights, moves),
                Level::Plain => shift(self, units, rows, weights, moves),
            }
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.rows.fill(0);
        self.weights.fill(0);
    }

    /// Adds what others counted.
    pub fn join(&mut self, other: &Sums) {
        for (ours, theirs) in self.rows.iter_mut().zip(&other.rows) {
            *ours = ours.wrapping_add(*theirs);
        }
        for (ours, theirs) in self.weights.iter_mut().zip(&other.weights) {
            *ours = ours.wrapping_add(*theirs);
        }
    }

    /// The weight of a cluster.
    pub fn weight(&self, units: &Units, cluster: usize) -> f64 {
        self.weights[cluster] as f64 / units.weight
    }

    /// The mean of a cluster, `(n_features,)`; `None` of one without weight.
    pub fn mean(&self, units: &Units, cluster: usize) -> Option<Vec<f64>> {
        let d = units.columns.len();
        let weight = self.weight(units, cluster);
        let sums = &self.rows[cluster * d..(cluster + 1) * d];
        let mean = |(sum, unit): (&i64, &f64)| *sum as f64 / unit / weight;
        (weight > 0.0).then(|| sums.iter().zip(&units.columns).map(mean).collect())
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(
    to: &mut Sums,
    units: &Units,
    rows: &[f32],
    weights: Option<&[f32]>,
    moves: &[Move],
) {
    shift(to, units, rows, weights, moves);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(
    to: &mut Sums,
    units: &Units,
    rows: &[f32],
    weights: Option<&[f32]>,
    moves: &[Move],
) {
    shift(to, units, rows, weights, moves);
}

#[inline(always)]
fn shift(to: &mut Sums, units: &Units, rows: &[f32], weights: Option<&[f32]>, moves: &[Move]) {
    let d = units.columns.len();
    for &Move { row, from, to: cluster } in moves {
        let row = row as usize;
        let weight = weights.map_or(1.0, |weights| f64::from(weights[row]));
        let row = &rows[row * d..(row + 1) * d];
        let whole = fixed(weight, units.weight);
        let new = &mut to.weights[cluster as usize];
        *new = new.wrapping_add(whole);
        let new = &mut to.rows[cluster as usize * d..][..d];
        for ((sum, value), unit) in new.iter_mut().zip(row).zip(&units.columns) {
            *sum = sum.wrapping_add(fixed(f64::from(*value) * weight, *unit));
        }
        if from != NONE {
            let old = &mut to.weights[from as usize];
            *old = old.wrapping_sub(whole);
            let old = &mut to.rows[from as usize * d..][..d];
            for ((sum, value), unit) in old.iter_mut().zip(row).zip(&units.columns) {
                *sum = sum.wrapping_sub(fixed(f64::from(*value) * weight, *unit));
            }
        }
    }
}

#[inline(always)]
fn fixed(value: f64, unit: f64) -> i64 {
    ((value * unit + ROUNDER).to_bits() as i64).wrapping_sub(ROUNDER.to_bits() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(largest: f64, n: f64) -> Units {
        Units::new(&[largest], &[largest * n], 1.0, n)
    }

    #[test]
    fn the_largest_sums_fit() {
        for (largest, n) in [(8.0, 1e6), (1e15, 1e9), (1e-20, 1.0), (3.0, 1.0), (0.0, 5.0)] {
            let units = units(largest, n);
            let one = fixed(largest, units.columns[0]);
            assert!(one.abs() <= 1 << 51, "{largest} {n}");
            assert!(one as f64 * n <= (1u64 << 62) as f64, "{largest} {n}");
            let back = one as f64 / units.columns[0];
            assert!((back - largest).abs() <= 0.5 / units.columns[0], "{largest} {n}");
        }
    }

    #[test]
    fn what_was_given_and_taken_leaves_nothing() {
        let units = units(10.0, 1_000.0);
        let values: Vec<f32> = (0..1_000).map(|i| (i as f32 * 0.7).sin() * 10.0).collect();
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / 1_000.0;
        for &level in Level::present() {
            let mut sums = Sums::new(level, 2, 1);
            let given = |row| Move { row, from: NONE, to: 1 };
            sums.shift(&units, &values, None, &(0..1_000).map(given).collect::<Vec<_>>());
            assert!((sums.mean(&units, 1).unwrap()[0] - mean).abs() < 1e-12, "{level:?}");
            assert_eq!(sums.mean(&units, 0), None);
            let back = |row| Move { row, from: 1, to: 0 };
            sums.shift(&units, &values, None, &(0..1_000).rev().map(back).collect::<Vec<_>>());
            assert_eq!(sums.mean(&units, 1), None);
            assert!((sums.mean(&units, 0).unwrap()[0] - mean).abs() < 1e-12, "{level:?}");
        }
    }
}
