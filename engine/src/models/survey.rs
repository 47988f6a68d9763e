//! What a fit must know of its rows before it starts.

use super::FitError;
use crate::kernels::Level;
use crate::kernels::stretches::{self, LANES};
use crate::matrix::{CHUNK_ROWS, RowSource};
use rayon::prelude::*;

/// Larger values could not be squared and added in `f32`.
const LIMIT: f32 = 1e15;

/// The columns of a source.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Survey {
    /// Sum of the weights, or number of rows.
    pub weight: f64,
    pub largest_weight: f64,
    /// Largest absolute values, `(n_features,)`.
    pub largest: Vec<f64>,
    /// Weighted sums of absolute values, `(n_features,)`, or more than those.
    pub absolute: Vec<f64>,
    /// Means, each row once, `(n_features,)`.
    pub means: Vec<f64>,
    /// Variances (of the population, each row once), `(n_features,)`.
    pub variances: Vec<f64>,
}

impl Survey {
    /// Looks at all rows once.
    ///
    /// # Errors
    /// [`FitError`] where there is none, one is not finite, or rows cannot be read.
    pub fn of(source: &dyn RowSource) -> Result<Survey, FitError> {
        let (n, d) = (source.n_rows(), source.n_features());
        if n == 0 {
            return Err(FitError::TooFewRows { got: 0, need: 1 });
        }
        // Deviations from the first row stay exact where the mean is far from zero.
        let mut buffer = Vec::new();
        let first: Vec<f64> =
            source.chunk(0, &mut buffer)?.iter().take(d).map(|&value| f64::from(value)).collect();
        let chunks: Vec<Result<Columns, FitError>> = (0..source.n_chunks())
            .into_par_iter()
            .map_init(Vec::new, |buffer, index| {
                let rows = source.chunk(index, buffer)?;
                Columns::of(rows, source.weights(index), &first, index * CHUNK_ROWS)
            })
            .collect();
        let mut all = Columns::new(d);
        // In their order, so that the first faulty row is the one that is told.
        for chunk in chunks {
            all.join(&chunk?);
        }
        let n = n as f64;
        let variances = all
            .sums
            .iter()
            .zip(&all.squares)
            .map(|(sum, square)| ((square - sum * sum / n) / n).max(0.0))
            .collect();
        let means = first.iter().zip(&all.sums).map(|(first, sum)| first + sum / n).collect();
        let largest: Vec<f64> = all.largest.iter().map(|&value| f64::from(value)).collect();
        // By Cauchy and Schwarz, about the first row; weights at their largest.
        let absolute = first
            .iter()
            .zip(&all.squares)
            .map(|(first, square)| {
                let deviations = libm::sqrt(square * n) * f64::from(all.largest_weight);
                (deviations + first.abs() * all.weight) * (1.0 + 1e-9)
            })
            .collect();
        Ok(Survey {
            absolute,
            weight: all.weight,
            largest_weight: f64::from(all.largest_weight),
            largest,
            means,
            variances,
        })
    }
}

/// Sums over some rows, as deviations from the first row of all.
struct Columns {
    weight: f64,
    largest_weight: f32,
    largest: Vec<f32>,
    sums: Vec<f64>,
    squares: Vec<f64>,
}

impl Columns {
    fn new(d: usize) -> Columns {
        Columns {
            weight: 0.0,
            largest_weight: 0.0,
            largest: vec![0.0; d],
            sums: vec![0.0; d],
            squares: vec![0.0; d],
        }
    }

    fn of(
        rows: &[f32],
        weights: Option<&[f32]>,
        first: &[f64],
        start: usize,
    ) -> Result<Columns, FitError> {
        let d = first.len();
        let mut columns = Columns::new(d);
        // Several rows make a stretch that vectors divide evenly; its places are added up apart.
        let stretch = d * (LANES >> d.trailing_zeros().min(LANES.trailing_zeros()));
        let first: Vec<f64> = first.iter().copied().cycle().take(stretch).collect();
        let (mut sums, mut squares) = (vec![0.0; stretch], vec![0.0; stretch]);
        let mut largest = vec![0f32; stretch];
        stretches::add(Level::best(), rows, &first, &mut sums, &mut squares, &mut largest);
        for place in 0..stretch {
            let column = place % d;
            columns.sums[column] += sums[place];
            columns.squares[column] += squares[place];
            columns.largest[column] = columns.largest[column].max(largest[place]);
        }
        let is_fine = |value: &f32| value.is_finite() && value.abs() <= LIMIT;
        if columns.sums.iter().any(|sum| !sum.is_finite())
            || columns.largest.iter().any(|largest| *largest > LIMIT)
        {
            let faulty = |row: &[f32]| !row.iter().all(is_fine);
            if let Some(row) = rows.chunks_exact(d).position(faulty) {
                return Err(FitError::NotFinite { row: start + row });
            }
        }
        match weights {
            None => {
                columns.weight = (rows.len() / d) as f64;
                columns.largest_weight = 1.0;
            }
            Some(weights) => {
                columns.weight = weights.iter().map(|&weight| f64::from(weight)).sum();
                columns.largest_weight = weights.iter().copied().fold(0.0, f32::max);
            }
        }
        Ok(columns)
    }

    fn join(&mut self, other: &Columns) {
        self.weight += other.weight;
        self.largest_weight = self.largest_weight.max(other.largest_weight);
        for (ours, theirs) in self.largest.iter_mut().zip(&other.largest) {
            *ours = ours.max(*theirs);
        }
        for (ours, theirs) in self.sums.iter_mut().zip(&other.sums) {
            *ours += theirs;
        }
        for (ours, theirs) in self.squares.iter_mut().zip(&other.squares) {
            *ours += theirs;
        }
    }
}
