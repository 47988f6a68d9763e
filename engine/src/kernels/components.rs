//! How likely each Gaussian component is for each row of a batch.

use super::Level;
use super::batch::{BATCH, Batch, STRIDE, Shares, TILE, padded};
use super::exp::exp;
use super::lanes::{Doubles, EIGHT, PlainDoubles};

/// Vectors of rows that are worked on together, at most.
const MOST_VECTORS: usize = 4;

/// Components, made ready.
#[derive(Debug, Clone, PartialEq)]
pub struct Components {
    level: Level,
    n_features: usize,
    /// ln weight - (d ln 2π) / 2 - ln |factor|, `(n_components,)`.
    constants: Vec<f64>,
    shape: Shape,
}

/// What a row's squared distance to a component is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Means, `(n_components, n_features)`, and tiled inverse factors, `(n_components, tiled)`.
    Full { means: Vec<f64>, factors: Vec<f64> },
    /// One inverse factor, and means times it, `(n_components, n_features)`.
    Tied { projected: Vec<f64>, factor: Vec<f64> },
    /// Means and inverse standard deviations, `(n_components, n_features)` each.
    Diagonal { means: Vec<f64>, inverses: Vec<f64> },
}

/// Puts a lower triangular matrix, row-major `(d, d)`, into the order in which it is read: tiles of
/// rows, in each column by column.
pub fn tiled(lower: &[f64], d: usize) -> Vec<f64> {
    let mut tiles = Vec::new();
    for first in (0..d).step_by(TILE) {
        for column in 0..d.min(first + TILE) {
            for row in first..first + TILE {
                let inside = row < d && column <= row;
                tiles.push(if inside { lower[row * d + column] } else { 0.0 });
            }
        }
    }
    tiles
}

impl Components {
    /// Components of the given constants and shape.
    pub fn new(level: Level, n_features: usize, constants: Vec<f64>, shape: Shape) -> Components {
        let (k, d) = (constants.len(), n_features);
        let tile = tiled(&vec![0.0; d * d], d).len();
        let fits = match &shape {
            Shape::Full { means, factors } => means.len() == k * d && factors.len() == k * tile,
            Shape::Tied { projected, factor } => projected.len() == k * d && factor.len() == tile,
            Shape::Diagonal { means, inverses } => means.len() == k * d && inverses.len() == k * d,
        };
        assert!(k > 0 && d > 0 && fits, "components' arrays must fit together");
        Components { level, n_features, constants, shape }
    }

    /// Number of columns.
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// Number of components.
    pub fn n_components(&self) -> usize {
        self.constants.len()
    }

    /// The log-joints and log-densities of a batch.
    pub fn log_joint(&self, batch: &Batch, shares: &mut Shares) {
        self.run(batch, None, shares, false);
    }

    /// The responsibilities, times the weights of rows, `(n_rows,)`, and the log-densities of a batch.
    pub fn responsibilities(&self, batch: &Batch, weights: Option<&[f32]>, shares: &mut Shares) {
        self.run(batch, weights, shares, true);
    }

    fn run(&self, batch: &Batch, weights: Option<&[f32]>, shares: &mut Shares, to_shares: bool) {
        assert!(batch.n_features == self.n_features, "a batch of other features");
        shares.values.resize(self.n_components() * STRIDE, 0.0);
        shares.densities.resize(BATCH, 0.0);
        shares.scratch.resize(padded(self.n_features) * EIGHT * MOST_VECTORS, 0.0);
        // SAFETY: `Level` is what was found on this machine, or chosen of what is present.
        unsafe {
            match self.level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => avx512_joint(self, batch, shares, to_shares),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => avx2_joint(self, batch, shares, to_shares),
                Level::Plain => joint::<PlainDoubles, 1>(self, batch, shares, to_shares),
            }
        }
        if to_shares {
            // What has no row belongs nowhere.
            for shares in shares.values.chunks_exact_mut(STRIDE) {
                shares[batch.n_rows..].fill(0.0);
                if let Some(weights) = weights {
                    let pairs = shares.iter_mut().zip(weights);
                    pairs.for_each(|(share, weight)| *share *= f64::from(*weight));
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512_joint(of: &Components, batch: &Batch, shares: &mut Shares, to_shares: bool) {
    // SAFETY: the caller promises the instruction set.
    unsafe { joint::<super::lanes::x86::Avx512Doubles, 4>(of, batch, shares, to_shares) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2_joint(of: &Components, batch: &Batch, shares: &mut Shares, to_shares: bool) {
    // SAFETY: the caller promises the instruction set.
    unsafe { joint::<super::lanes::x86::Avx2Doubles, 1>(of, batch, shares, to_shares) }
}

/// All vectors of a batch, `P` at a time.
#[inline(always)]
unsafe fn joint<S: Doubles, const P: usize>(
    of: &Components,
    batch: &Batch,
    shares: &mut Shares,
    to_shares: bool,
) {
    let k = of.constants.len();
    assert!(batch.n_rows <= BATCH && shares.values.len() == k * STRIDE);
    let n = batch.n_vectors();
    let mut first = 0;
    while first < n {
        // SAFETY: the caller promises the instruction set, and the vectors are those of the batch.
        unsafe {
            if first + P <= n {
                few::<S, P>(of, batch, first * EIGHT, shares, to_shares);
                first += P;
            } else {
                few::<S, 1>(of, batch, first * EIGHT, shares, to_shares);
                first += 1;
            }
        }
    }
}

/// `P` vectors, from `lane` on.
#[inline(always)]
unsafe fn few<S: Doubles, const P: usize>(
    of: &Components,
    batch: &Batch,
    lane: usize,
    shares: &mut Shares,
    to_shares: bool,
) {
    // SAFETY: as in `joint`.
    unsafe {
        match &of.shape {
            Shape::Full { means, factors } => full::<S, P>(of, means, factors, batch, lane, shares),
            Shape::Tied { projected, factor } => {
                tied::<S, P>(of, projected, factor, batch, lane, shares)
            }
            Shape::Diagonal { means, inverses } => {
                diagonal::<S, P>(of, means, inverses, batch, lane, shares)
            }
        }
        for p in 0..P {
            normalise::<S>(of.constants.len(), lane + p * EIGHT, shares, to_shares);
        }
    }
}

/// From log-joints to log-densities, taken around the largest term so that they stay finite however
/// far away a row lies, and to responsibilities where wanted.
#[inline(always)]
unsafe fn normalise<S: Doubles>(k: usize, lane: usize, shares: &mut Shares, to_shares: bool) {
    // SAFETY: `values` holds `k` strides, and `densities` a batch, of values, of which eight begin at
    // `lane`.
    unsafe {
        let values = shares.values.as_mut_ptr().add(lane);
        let mut largest = S::load(values);
        for component in 1..k {
            largest = S::load(values.add(component * STRIDE)).max(largest);
        }
        let mut sum = S::splat(0.0);
        for component in 0..k {
            let value = values.add(component * STRIDE);
            let part = exp(S::load(value).sub(largest));
            sum = sum.add(part);
            if to_shares {
                part.store(value);
            }
        }
        if to_shares {
            let whole = S::splat(1.0).div(sum);
            for component in 0..k {
                let value = values.add(component * STRIDE);
                S::load(value).mul(whole).store(value);
            }
        }
        let mut sums = [0.0; EIGHT];
        sum.store(sums.as_mut_ptr());
        let logs = sums.map(libm::log);
        let density = largest.add(S::load(logs.as_ptr()));
        density.store(shares.densities.as_mut_ptr().add(lane));
    }
}

/// The squared norms of `factor` times the vectors in `from`, `(n_features, P, EIGHT)`.
#[inline(always)]
unsafe fn squared<S: Doubles, const P: usize>(
    factor: &[f64],
    d: usize,
    from: *const f64,
) -> [S; P] {
    // SAFETY: a tiled factor has a value for each feature of `from` that the loops visit, which the
    // constructor of `Components` has checked.
    unsafe {
        let mut factor = factor.as_ptr();
        let mut squares = [S::splat(0.0); P];
        for first in (0..d).step_by(TILE) {
            let mut solved = [[S::splat(0.0); P]; TILE];
            for j in 0..d.min(first + TILE) {
                let mut x = [S::splat(0.0); P];
                for (p, x) in x.iter_mut().enumerate() {
                    *x = S::load(from.add((j * P + p) * EIGHT));
                }
                for (row, solved) in solved.iter_mut().enumerate() {
                    let value = S::splat(*factor.add(row));
                    for (solved, x) in solved.iter_mut().zip(x) {
                        *solved = solved.plus(x, value);
                    }
                }
                factor = factor.add(TILE);
            }
            for solved in solved {
                for (square, solved) in squares.iter_mut().zip(solved) {
                    *square = square.plus(solved, solved);
                }
            }
        }
        squares
    }
}

#[inline(always)]
unsafe fn full<S: Doubles, const P: usize>(
    of: &Components,
    means: &[f64],
    factors: &[f64],
    batch: &Batch,
    lane: usize,
    shares: &mut Shares,
) {
    const { assert!(P <= MOST_VECTORS) };
    let d = of.n_features;
    let tile = factors.len() / of.constants.len();
    // SAFETY: lanes and features stay within the batch, and the scratch holds `P` vectors for each
    // feature.
    unsafe {
        let scratch = shares.scratch.as_mut_ptr();
        let half = S::splat(0.5);
        for (component, constant) in of.constants.iter().enumerate() {
            for j in 0..d {
                let mean = S::splat(*means.as_ptr().add(component * d + j));
                for p in 0..P {
                    let x = S::load(batch.values.as_ptr().add(j * STRIDE + lane + p * EIGHT));
                    x.sub(mean).store(scratch.add((j * P + p) * EIGHT));
                }
            }
            let factor = &factors[component * tile..(component + 1) * tile];
            let squares = squared::<S, P>(factor, d, scratch);
            for (p, square) in squares.into_iter().enumerate() {
                let to = shares.values.as_mut_ptr().add(component * STRIDE + lane + p * EIGHT);
                S::splat(*constant).minus(half, square).store(to);
            }
        }
    }
}

#[inline(always)]
unsafe fn tied<S: Doubles, const P: usize>(
    of: &Components,
    projected: &[f64],
    factor: &[f64],
    batch: &Batch,
    lane: usize,
    shares: &mut Shares,
) {
    const { assert!(P <= MOST_VECTORS) };
    let d = of.n_features;
    // SAFETY: as in `full`.
    unsafe {
        let scratch = shares.scratch.as_mut_ptr();
        // The rows times the factor, once for all components.
        let mut at = factor.as_ptr();
        for first in (0..d).step_by(TILE) {
            let mut solved = [[S::splat(0.0); P]; TILE];
            for j in 0..d.min(first + TILE) {
                for p in 0..P {
                    let x = S::load(batch.values.as_ptr().add(j * STRIDE + lane + p * EIGHT));
                    for (row, solved) in solved.iter_mut().enumerate() {
                        solved[p] = solved[p].plus(x, S::splat(*at.add(row)));
                    }
                }
                at = at.add(TILE);
            }
            for (row, solved) in solved.into_iter().enumerate() {
                for (p, solved) in solved.into_iter().enumerate() {
                    solved.store(scratch.add(((first + row) * P + p) * EIGHT));
                }
            }
        }
        let half = S::splat(0.5);
        for (component, constant) in of.constants.iter().enumerate() {
            for p in 0..P {
                let mut square = S::splat(0.0);
                for j in 0..d {
                    let mean = S::splat(*projected.as_ptr().add(component * d + j));
                    let difference = S::load(scratch.add((j * P + p) * EIGHT)).sub(mean);
                    square = square.plus(difference, difference);
                }
                let to = shares.values.as_mut_ptr().add(component * STRIDE + lane + p * EIGHT);
                S::splat(*constant).minus(half, square).store(to);
            }
        }
    }
}

#[inline(always)]
unsafe fn diagonal<S: Doubles, const P: usize>(
    of: &Components,
    means: &[f64],
    inverses: &[f64],
    batch: &Batch,
    lane: usize,
    shares: &mut Shares,
) {
    let d = of.n_features;
    // SAFETY: as in `full`.
    unsafe {
        let half = S::splat(0.5);
        for (component, constant) in of.constants.iter().enumerate() {
            let mut squares = [S::splat(0.0); P];
            for j in 0..d {
                let mean = S::splat(*means.as_ptr().add(component * d + j));
                let inverse = S::splat(*inverses.as_ptr().add(component * d + j));
                for (p, square) in squares.iter_mut().enumerate() {
                    let x = S::load(batch.values.as_ptr().add(j * STRIDE + lane + p * EIGHT));
                    let solved = x.sub(mean).mul(inverse);
                    *square = square.plus(solved, solved);
                }
            }
            for (p, square) in squares.into_iter().enumerate() {
                let to = shares.values.as_mut_ptr().add(component * STRIDE + lane + p * EIGHT);
                S::splat(*constant).minus(half, square).store(to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::moments::{Order, Tally};
    use super::*;
    use crate::domain::Seed;
    use rand::Rng;

    fn shapes(d: usize, k: usize, values: &[f64]) -> [Shape; 3] {
        let lower = |component: usize| -> Vec<f64> {
            (0..d * d).map(|at| values[(component * 31 + at) % values.len()].abs() + 0.1).collect()
        };
        let row = |at: usize| values[at % values.len()];
        let means: Vec<f64> = (0..k * d).map(row).collect();
        let inverses = (0..k * d).map(|at| row(at + 7).abs() + 0.1).collect();
        [
            Shape::Full {
                means: means.clone(),
                factors: (0..k).flat_map(|component| tiled(&lower(component), d)).collect(),
            },
            Shape::Tied { projected: means.clone(), factor: tiled(&lower(0), d) },
            Shape::Diagonal { means, inverses },
        ]
    }

    #[test]
    fn every_instruction_set_gives_the_bits_of_the_plain_one() {
        for (n, d, k) in [(1, 1, 1), (8, 3, 2), (35, 5, 3), (256, 12, 4)] {
            let mut rng = Seed(6).rng();
            let rows: Vec<f32> = (0..n * d).map(|_| rng.gen_range(-3.0..3.0)).collect();
            let values: Vec<f64> = (0..97).map(|_| rng.gen_range(-1.0..1.0)).collect();
            let weights: Vec<f32> = (0..n).map(|_| rng.gen_range(0.0..2.0)).collect();
            let constants: Vec<f64> = (0..k).map(|c| -(c as f64)).collect();
            let mut batch = Batch::new(d);
            batch.fill(&rows, &vec![0.25; d]);
            for shape in shapes(d, k, &values) {
                let of = |level| {
                    let components = Components::new(level, d, constants.clone(), shape.clone());
                    let mut shares = Shares::default();
                    components.log_joint(&batch, &mut shares);
                    let joint: Vec<f64> = (0..k)
                        .flat_map(|component| shares.values[component * STRIDE..][..n].to_vec())
                        .collect();
                    let densities = shares.densities[..n].to_vec();
                    components.responsibilities(&batch, Some(&weights), &mut shares);
                    let sums = [Order::Products, Order::Squares, Order::None].map(|order| {
                        let mut tally = Tally::new(k, d, order);
                        tally.add(level, &batch, &shares);
                        tally.add(level, &batch, &shares);
                        tally.take()
                    });
                    (joint, densities, sums)
                };
                let plain = of(Level::Plain);
                for &level in Level::present() {
                    assert_eq!(of(level), plain, "{level:?} {n} {d} {k}");
                }
                let total: f64 = plain.2[0].weights.iter().sum();
                let expected: f64 = weights.iter().map(|&weight| 2.0 * f64::from(weight)).sum();
                assert!((total - expected).abs() < 1e-9 * expected, "{total} {expected}");
            }
        }
    }
}
