//! Rows for mixtures, feature by feature and eight to a vector, in `f64`, and what they have to do with
//! each component.

#[cfg(target_arch = "x86_64")]
use super::block;
use super::lanes::EIGHT;

/// Rows in a batch: with its responsibilities it stays near the core.
pub const BATCH: usize = 256;

/// From one feature, or component, of a batch to the next: not a power of two, because then all
/// would want the same few places of the cache.
pub const STRIDE: usize = BATCH + EIGHT;

/// Rows of a factor, and features of a moment, that are worked on together.
pub(super) const TILE: usize = 4;

/// Some rows, feature by feature.
#[derive(Debug, Clone)]
pub struct Batch {
    pub(super) n_features: usize,
    pub(super) n_rows: usize,
    /// `(n_features rounded up to a tile, STRIDE)`, zero where there is no row or feature.
    pub(super) values: Vec<f64>,
}

/// What the rows of a batch have to do with each component.
#[derive(Debug, Clone, Default)]
pub struct Shares {
    /// ln (weight x density), then responsibilities times the weights of rows, `(n_components,
    /// STRIDE)`.
    pub values: Vec<f64>,
    /// Log-densities of the rows, `(BATCH,)`.
    pub densities: Vec<f64>,
    pub(super) scratch: Vec<f64>,
}

pub(super) fn padded(n_features: usize) -> usize {
    n_features.div_ceil(TILE) * TILE
}

impl Batch {
    /// A batch without rows.
    pub fn new(n_features: usize) -> Batch {
        Batch { n_features, n_rows: 0, values: vec![0.0; padded(n_features) * STRIDE] }
    }

    /// Holds these rows, `(at most BATCH, n_features)`, moved so that `origin` becomes zero.
    pub fn fill(&mut self, rows: &[f32], origin: &[f64]) {
        let d = self.n_features;
        self.n_rows = rows.len() / d;
        assert!(self.n_rows <= BATCH && origin.len() == d);
        // What fills the last vector is added up too.
        for values in self.values.chunks_exact_mut(STRIDE).take(d) {
            values[self.n_rows..self.n_rows.next_multiple_of(EIGHT)].fill(0.0);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let lane = 0;
        #[cfg(target_arch = "x86_64")]
        let mut lane = 0;
        #[cfg(target_arch = "x86_64")]
        while lane + 4 <= self.n_rows {
            let row = |i: usize| &rows[(lane + i) * d..][..d];
            widen_four(&mut self.values[lane..], [row(0), row(1), row(2), row(3)], origin);
            lane += 4;
        }
        for (lane, row) in rows.chunks_exact(d).enumerate().skip(lane) {
            for (j, (value, origin)) in row.iter().zip(origin).enumerate() {
                self.values[j * STRIDE + lane] = f64::from(*value) - origin;
            }
        }
    }

    /// Number of columns.
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    pub(super) fn n_vectors(&self) -> usize {
        self.n_rows.div_ceil(EIGHT)
    }
}

/// Writes four rows, beginning at the first value given, as lanes of a batch.
#[cfg(target_arch = "x86_64")]
fn widen_four(values: &mut [f64], rows: [&[f32]; 4], origin: &[f64]) {
    use std::arch::x86_64::*;
    let d = origin.len();
    assert!(values.len() >= (d - 1) * STRIDE + 4 && rows.iter().all(|row| row.len() == d));
    let mut j = 0;
    while j + 4 <= d {
        // SAFETY: SSE2 is part of x86-64. Four of the `d` values after `j` are read of each row, and
        // four lanes of a feature below `d` written, both checked above.
        unsafe {
            let turned = block::four_by_four(rows.map(|row| row.as_ptr().add(j)));
            for (feature, four) in turned.into_iter().enumerate() {
                let zero = _mm_set1_pd(*origin.as_ptr().add(j + feature));
                let to = values.as_mut_ptr().add((j + feature) * STRIDE);
                _mm_storeu_pd(to, _mm_sub_pd(_mm_cvtps_pd(four), zero));
                let high = _mm_cvtps_pd(_mm_movehl_ps(four, four));
                _mm_storeu_pd(to.add(2), _mm_sub_pd(high, zero));
            }
        }
        j += 4;
    }
    for j in j..d {
        for (lane, row) in rows.iter().enumerate() {
            values[j * STRIDE + lane] = f64::from(row[j]) - origin[j];
        }
    }
}

impl Shares {
    /// Shares that are all of one component, `(n_rows,)`, as often as the rows count.
    pub fn hard(&mut self, n_components: usize, labels: &[u32], weights: Option<&[f32]>) {
        self.values.clear();
        self.values.resize(n_components * STRIDE, 0.0);
        for (lane, &label) in labels.iter().enumerate() {
            let weight = weights.map_or(1.0, |weights| f64::from(weights[lane]));
            self.values[label as usize * STRIDE + lane] = weight;
        }
    }
}
