//! The moments of rows, each as often as it belongs to a component. All sums over rows are made lane by
//! lane and added up in one order, so that no instruction set changes a bit.

use super::Level;
use super::batch::{Batch, STRIDE, Shares, TILE, padded};
use super::lanes::{Doubles, EIGHT, PlainDoubles};

/// Sums over rows, each as often as it belongs to a component.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// `(n_components,)`.
    pub weights: Vec<f64>,
    /// `(n_components, n_features)`.
    pub first: Vec<f64>,
    /// Of products, `(n_components, n_features * (n_features + 1) / 2)`: lower triangles, row by row;
    /// of squares, `(n_components, n_features)`; or nothing.
    pub second: Vec<f64>,
}

/// Which second moments are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Products,
    Squares,
    None,
}

/// Moments on their way: every lane of every sum by itself.
#[derive(Debug, Clone)]
pub struct Tally {
    /// `(n_components, EIGHT)`.
    weights: Vec<f64>,
    /// `(n_components, n_features, EIGHT)`.
    first: Vec<f64>,
    /// `(n_components, pairs, EIGHT)`: pairs of features of a lower triangle, features, or none.
    second: Vec<f64>,
    order: Order,
    n_features: usize,
}

impl Tally {
    /// Nothing yet.
    pub fn new(n_components: usize, n_features: usize, order: Order) -> Tally {
        let second = order.n_second(n_features);
        Tally {
            weights: vec![0.0; n_components * EIGHT],
            first: vec![0.0; n_components * n_features * EIGHT],
            second: vec![0.0; n_components * second * EIGHT],
            order,
            n_features,
        }
    }

    /// Adds a batch.
    pub fn add(&mut self, level: Level, batch: &Batch, shares: &Shares) {
        assert!(batch.n_features == self.n_features);
        assert!(shares.values.len() == self.weights.len() / EIGHT * STRIDE);
        // SAFETY: `Level` is what was found on this machine, or chosen of what is present.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => avx512_moments(self, batch, shares),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => avx2_moments(self, batch, shares),
                Level::Plain => moments::<PlainDoubles, 2>(self, batch, shares),
            }
        }
    }

    /// The sums over lanes, and nothing left.
    pub fn take(&mut self) -> Moments {
        let sums = |lanes: &mut Vec<f64>| -> Vec<f64> {
            let sums = lanes.chunks_exact(EIGHT).map(|lanes| {
                let [a, b, c, d, e, f, g, h] = [0, 1, 2, 3, 4, 5, 6, 7].map(|lane| lanes[lane]);
                ((a + b) + (c + d)) + ((e + f) + (g + h))
            });
            let sums = sums.collect();
            lanes.fill(0.0);
            sums
        };
        Moments {
            weights: sums(&mut self.weights),
            first: sums(&mut self.first),
            second: sums(&mut self.second),
        }
    }
}

impl Order {
    /// Second moments of a component.
    fn n_second(self, n_features: usize) -> usize {
        match self {
            Order::Products => n_features * (n_features + 1) / 2,
            Order::Squares => n_features,
            Order::None => 0,
        }
    }
}

impl Moments {
    /// Nothing yet.
    pub fn new(n_components: usize, n_features: usize, order: Order) -> Moments {
        let second = order.n_second(n_features);
        Moments {
            weights: vec![0.0; n_components],
            first: vec![0.0; n_components * n_features],
            second: vec![0.0; n_components * second],
        }
    }

    /// Adds what another counted.
    pub fn join(&mut self, other: &Moments) {
        let pairs = [
            (&mut self.weights, &other.weights),
            (&mut self.first, &other.first),
            (&mut self.second, &other.second),
        ];
        for (ours, theirs) in pairs {
            ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours += theirs);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512_moments(to: &mut Tally, batch: &Batch, shares: &Shares) {
    // SAFETY: the caller promises the instruction set.
    unsafe { moments::<super::lanes::x86::Avx512Doubles, 4>(to, batch, shares) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2_moments(to: &mut Tally, batch: &Batch, shares: &Shares) {
    // SAFETY: the caller promises the instruction set.
    unsafe { moments::<super::lanes::x86::Avx2Doubles, 2>(to, batch, shares) }
}

/// Adds lanes to those that wait at `to`.
#[inline(always)]
unsafe fn add_to<S: Doubles>(to: &mut [f64], index: usize, lanes: S) {
    let to = &mut to[index * EIGHT..][..EIGHT];
    // SAFETY: the caller promises the instruction set, and the slice holds eight.
    unsafe { S::load(to.as_ptr()).add(lanes).store(to.as_mut_ptr()) };
}

/// Second moments in tiles of `T` by `T` features.
#[inline(always)]
unsafe fn moments<S: Doubles, const T: usize>(to: &mut Tally, batch: &Batch, shares: &Shares) {
    let d = to.n_features;
    let n = batch.n_vectors();
    let n_components = to.weights.len() / EIGHT;
    assert!(TILE.is_multiple_of(T) && batch.values.len() == padded(d) * STRIDE);
    // SAFETY: features stay below `padded(d)` and vectors below a batch's.
    unsafe {
        let values = batch.values.as_ptr();
        for component in 0..n_components {
            let shares = shares.values.as_ptr().add(component * STRIDE);
            // Sums with few others beside them wait for each addition: even and odd vectors are added
            // up apart.
            let mut weight = [S::splat(0.0); 2];
            for v in 0..n {
                weight[v % 2] = weight[v % 2].add(S::load(shares.add(v * EIGHT)));
            }
            add_to(&mut to.weights, component, weight[0].add(weight[1]));
            for i in (0..d).step_by(TILE) {
                let (mut firsts, mut squares) = ([S::splat(0.0); TILE], [S::splat(0.0); TILE]);
                for v in 0..n {
                    let share = S::load(shares.add(v * EIGHT));
                    for t in 0..TILE {
                        let value = S::load(values.add((i + t) * STRIDE + v * EIGHT));
                        firsts[t] = firsts[t].plus(value, share);
                        if to.order == Order::Squares {
                            squares[t] = squares[t].plus(value.mul(share), value);
                        }
                    }
                }
                for t in 0..TILE.min(d - i) {
                    add_to(&mut to.first, component * d + i + t, firsts[t]);
                    if to.order == Order::Squares {
                        add_to(&mut to.second, component * d + i + t, squares[t]);
                    }
                }
            }
            if to.order != Order::Products {
                continue;
            }
            let pairs = component * (d * (d + 1) / 2);
            for i in (0..d).step_by(T) {
                for j in (0..=i).step_by(T) {
                    let mut tile = [[S::splat(0.0); T]; T];
                    for v in 0..n {
                        let share = S::load(shares.add(v * EIGHT));
                        let mut columns = [share; T];
                        for (t, column) in columns.iter_mut().enumerate() {
                            *column = S::load(values.add((j + t) * STRIDE + v * EIGHT));
                        }
                        for (t, row) in tile.iter_mut().enumerate() {
                            let value =
                                S::load(values.add((i + t) * STRIDE + v * EIGHT)).mul(share);
                            for (sum, column) in row.iter_mut().zip(columns) {
                                *sum = sum.plus(value, column);
                            }
                        }
                    }
                    for (t, row) in tile.into_iter().enumerate().take(d - i) {
                        for (u, lanes) in row.into_iter().enumerate() {
                            let (i, j) = (i + t, j + u);
                            if j <= i {
                                add_to(&mut to.second, pairs + i * (i + 1) / 2 + j, lanes);
                            }
                        }
                    }
                }
            }
        }
    }
}
