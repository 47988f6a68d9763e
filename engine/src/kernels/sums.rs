//! Sums of the rows of each cluster, exact in fixed point.
//!
//! Each value is rounded once, to a multiple of a power of two that is so small that 2^61 of them
//! hold the sum of all rows (at most 2^51 of them one row). Sums of integers do not depend on order:
//! they are the same for any number of threads, and the same whether all rows are added or those
//! that moved are taken from one cluster and given to another.

use super::Level;
use super::block::ask_for_row;
use super::leads::NONE;

/// Added to a number below 2^51 it leaves the number's integer in the low bits of the sum.
const ROUNDER: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52

/// Values that are taken together. Columns are filled up to a multiple of it with zeros, which makes
/// every loop over them one of fixed length.
const EIGHT: usize = 8;

/// How many moves ahead a row is asked for.
const AHEAD: usize = 16;

/// How many units make one, column by column.
#[derive(Debug, Clone)]
pub struct Units {
    n_features: usize,
    /// `(n_features,)`, filled up.
    columns: Vec<[f64; EIGHT]>,
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
        let n_features = largest.len();
        let mut columns = vec![[0.0; EIGHT]; n_features.div_ceil(EIGHT)];
        let of_columns = largest.iter().zip(absolute);
        let units = of_columns.map(|(&one, &all)| unit(one * largest_weight, all));
        columns.as_flattened_mut().iter_mut().zip(units).for_each(|(to, unit)| *to = unit);
        Units { n_features, columns, weight: unit(largest_weight, weight) }
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

/// Rows that leave one cluster for another, side by side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moves {
    pub(super) rows: Vec<u32>,
    pub(super) from: Vec<u32>,
    pub(super) to: Vec<u32>,
}

impl Moves {
    /// How many they are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    fn iter(&self) -> impl Iterator<Item = Move> {
        let clusters = self.from.iter().zip(&self.to);
        self.rows.iter().zip(clusters).map(|(&row, (&from, &to))| Move { row, from, to })
    }
}

impl FromIterator<Move> for Moves {
    fn from_iter<T: IntoIterator<Item = Move>>(moves: T) -> Moves {
        let mut all = Moves::default();
        for Move { row, from, to } in moves {
            all.rows.push(row);
            all.from.push(from);
            all.to.push(to);
        }
        all
    }
}

/// Sums and weights of clusters.
#[derive(Debug, Clone, PartialEq)]
pub struct Sums {
    level: Level,
    /// `(n_clusters, n_features)`, each filled up.
    rows: Vec<[i64; EIGHT]>,
    /// `(n_clusters,)`.
    weights: Vec<i64>,
}

impl Sums {
    /// Of nothing.
    pub fn new(level: Level, n_clusters: usize, n_features: usize) -> Sums {
        let length = n_clusters * n_features.div_ceil(EIGHT);
        Sums { level, rows: vec![[0; EIGHT]; length], weights: vec![0; n_clusters] }
    }

    /// Moves rows of `(n_rows, n_features)`, each as often as its weight says.
    pub fn shift(&mut self, units: &Units, rows: &[f32], weights: Option<&[f32]>, moves: &Moves) {
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
        self.rows.fill([0; EIGHT]);
        self.weights.fill(0);
    }

    /// Adds what others counted.
    pub fn join(&mut self, other: &Sums) {
        let add = |(ours, theirs): (&mut i64, &i64)| *ours = ours.wrapping_add(*theirs);
        let rows = self.rows.as_flattened_mut().iter_mut();
        rows.zip(other.rows.as_flattened()).for_each(add);
        self.weights.iter_mut().zip(&other.weights).for_each(add);
    }

    /// The weight of a cluster.
    pub fn weight(&self, units: &Units, cluster: usize) -> f64 {
        self.weights[cluster] as f64 / units.weight
    }

    /// The mean of a cluster, `(n_features,)`; `None` of one without weight.
    pub fn mean(&self, units: &Units, cluster: usize) -> Option<Vec<f64>> {
        let weight = self.weight(units, cluster);
        let width = units.columns.len();
        let sums = self.rows[cluster * width..(cluster + 1) * width].as_flattened();
        let columns = &units.columns.as_flattened()[..units.n_features];
        let mean = |(sum, unit): (&i64, &f64)| *sum as f64 / unit / weight;
        (weight > 0.0).then(|| sums.iter().zip(columns).map(mean).collect())
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(
    to: &mut Sums,
    units: &Units,
    rows: &[f32],
    weights: Option<&[f32]>,
    moves: &Moves,
) {
    shift(to, units, rows, weights, moves);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(to: &mut Sums, units: &Units, rows: &[f32], weights: Option<&[f32]>, moves: &Moves) {
    shift(to, units, rows, weights, moves);
}

#[inline(always)]
fn shift(to: &mut Sums, units: &Units, rows: &[f32], weights: Option<&[f32]>, moves: &Moves) {
    let (d, width) = (units.n_features, units.columns.len());
    let mut last = vec![0.0; width * EIGHT];
    for (index, Move { row, from, to: cluster }) in moves.iter().enumerate() {
        if let Some(&row) = moves.rows.get(index + AHEAD) {
            ask_for_row(rows, (row as usize).wrapping_mul(d), d);
        }
        let row = row as usize;
        let weight = weights.map_or(1.0, |weights| f64::from(weights[row]));
        let whole = fixed(weight, units.weight);
        // What fills a row up is the beginning of the next, in units of zero; the last has none.
        let rest = &rows[row.wrapping_mul(d)..];
        let values = rest.get(..width * EIGHT).unwrap_or_else(|| {
            last[..d].copy_from_slice(&rest[..d]);
            &last
        });
        let steps =
            values.as_chunks::<EIGHT>().0.iter().zip(&units.columns).map(|(values, units)| {
                let mut steps = [0; EIGHT];
                for ((step, value), unit) in steps.iter_mut().zip(values).zip(units) {
                    *step = fixed(f64::from(*value) * weight, *unit);
                }
                steps
            });
        let at = |cluster: u32| (cluster as usize).wrapping_mul(width);
        let weight = &mut to.weights[cluster as usize];
        *weight = weight.wrapping_add(whole);
        let new = &mut to.rows[at(cluster)..][..width];
        for (sums, steps) in new.iter_mut().zip(steps.clone()) {
            sums.iter_mut().zip(steps).for_each(|(sum, step)| *sum = sum.wrapping_add(step));
        }
        if from != NONE {
            let weight = &mut to.weights[from as usize];
            *weight = weight.wrapping_sub(whole);
            let old = &mut to.rows[at(from)..][..width];
            for (sums, steps) in old.iter_mut().zip(steps) {
                sums.iter_mut().zip(steps).for_each(|(sum, step)| *sum = sum.wrapping_sub(step));
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
            let one = fixed(largest, units.columns[0][0]);
            assert!(one.abs() <= 1 << 51, "{largest} {n}");
            assert!(one as f64 * n <= (1u64 << 62) as f64, "{largest} {n}");
            let back = one as f64 / units.columns[0][0];
            assert!((back - largest).abs() <= 0.5 / units.columns[0][0], "{largest} {n}");
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
            sums.shift(&units, &values, None, &(0..1_000).map(given).collect());
            assert!((sums.mean(&units, 1).unwrap()[0] - mean).abs() < 1e-12, "{level:?}");
            assert_eq!(sums.mean(&units, 0), None);
            let back = |row| Move { row, from: 1, to: 0 };
            sums.shift(&units, &values, None, &(0..1_000).rev().map(back).collect());
            assert_eq!(sums.mean(&units, 1), None);
            assert!((sums.mean(&units, 0).unwrap()[0] - mean).abs() < 1e-12, "{level:?}");
        }
    }
}
