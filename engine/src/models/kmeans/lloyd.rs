//! Lloyd's iterations (1982) that pass over rows whose cluster cannot have changed.
//!
//! For each row a lead is kept: by how much it is nearer to its own centroid than to any other, at
//! least (the difference of the two bounds of Hamerly, "Making k-means even faster", 2010). While
//! its centroid and the others have moved less than that since, the row is not looked at. Leads allow
//! for every rounding of the kernel, so that a row that is passed over would have been given the same
//! label: labels, and sums that are exact ([`crate::kernels::sums`]), are those of the iterations without
//! leads, to the bit.

use crate::kernels::Level;
use crate::kernels::distances::{squared, squared_to_own};
use crate::kernels::leads::{Packing, ROUNDING, renew, used_up};
use crate::kernels::nearest::{Ask, Centers, Found};
use crate::kernels::sums::{Move, Moves, Sums, Units};
use crate::matrix::{CHUNK_ROWS, RowSource};
use crate::models::FitError;
use crate::models::pool::Pool;
use crate::models::survey::Survey;
use rayon::prelude::*;

/// Leads are made for centroids that lie up to so many times as far from the middle as when they were
/// made, squared; beyond that all are made again.
const ROOM: f32 = 4.0;

/// Values that are compared before those of them that move are added: so many that they are still in
/// fast memory then.
const AT_ONCE: usize = 1 << 16;

/// How iterations go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub max_iter: u32,
    /// Converged once the centroids' squared shift is at most this, or no label changed.
    pub threshold: f64,
    pub level: Level,
    /// Whether rows are passed over. Without, every row is looked at in every iteration.
    pub bounds: bool,
}

/// Where iterations ended.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::models) struct Ended {
    pub centroids: Vec<Vec<f64>>,
    /// Of the final centroids, `(n_rows,)`.
    pub labels: Vec<u32>,
    /// Of the clusters, `(n_clusters,)`: how many rows they have, or the sums of their weights.
    pub weights: Vec<f64>,
    pub inertia: f64,
    pub n_iter: u32,
    pub converged: bool,
}

/// Iterates from `start`, `(n_clusters, n_features)`.
///
/// # Errors
/// [`FitError`] where rows cannot be read.
pub(super) fn iterate(
    source: &dyn RowSource,
    survey: &Survey,
    start: Vec<Vec<f64>>,
    limits: &Limits,
) -> Result<Ended, FitError> {
    let mut run = Run::new(source, survey, start, limits);
    let (mut n_iter, mut converged) = (0, false);
    let mut settled = false;
    while n_iter < limits.max_iter && !converged {
        let n_changed = run.assign()?;
        let Update { shift, n_relocated } = run.update()?;
        n_iter += 1;
        settled = n_changed == 0 && n_relocated == 0;
        converged = settled || shift <= limits.threshold;
    }
    // Unless nothing moved, the last centroids are newer than the labels.
    if !settled {
        run.assign()?;
    }
    let weights = (0..run.centroids.len()).map(|c| run.sums.weight(&run.units, c)).collect();
    let (labels, inertia) = run.unpack()?;
    Ok(Ended { centroids: run.centroids, labels, weights, inertia, n_iter, converged })
}

/// What an update did.
struct Update {
    /// The centroids' squared shift.
    shift: f64,
    /// Rows that were given to clusters without one. Another cluster may have lost its last by that.
    n_relocated: usize,
}

/// The state of the iterations.
struct Run<'a> {
    source: &'a dyn RowSource,
    limits: &'a Limits,
    units: Units,
    centroids: Vec<Vec<f64>>,
    /// The middle of all rows, around which they are compared.
    origin: Vec<f32>,
    sums: Sums,
    workers: Pool<Worker>,
    packing: Packing,
    /// Labels, and leads that are larger by what centroids had moved when they were made, `(n_rows,)`.
    tags: Vec<u32>,
    drift: Drift,
    /// Whether no row has a label yet.
    is_first: bool,
}

/// What one thread needs and gathers.
struct Worker {
    sums: Sums,
    n_changed: u64,
    picked: Vec<u32>,
    found: Found,
    moves: Moves,
    buffer: Vec<f32>,
}

impl<'a> Run<'a> {
    fn new(
        source: &'a dyn RowSource,
        survey: &Survey,
        centroids: Vec<Vec<f64>>,
        limits: &'a Limits,
    ) -> Run<'a> {
        let n = source.n_rows();
        // One pass has no use for leads, and neither has one centroid.
        let bounded = limits.bounds && limits.max_iter > 0 && centroids.len() > 1;
        Run {
            source,
            limits,
            units: Units::new(
                &survey.largest,
                &survey.absolute,
                survey.largest_weight,
                survey.weight,
            ),
            origin: survey.means.iter().map(|&mean| mean as f32).collect(),
            sums: Sums::new(limits.level, centroids.len(), source.n_features()),
            workers: Pool::new(),
            drift: Drift::new(centroids.len()),
            packing: Packing::new(centroids.len(), bounded),
            centroids,
            // The first pass fills them, in parallel.
            tags: vec![0; n],
            is_first: true,
        }
    }

    /// Gives every row its nearest centroid and returns how many changed theirs.
    fn assign(&mut self) -> Result<u64, FitError> {
        let centers = Centers::around(self.origin.clone(), self.limits.level, &self.centroids);
        if centers.largest_norm() > self.drift.up_to {
            self.drift.up_to = ROOM * centers.largest_norm();
            if !self.is_first {
                let packing = self.packing;
                self.tags
                    .iter_mut()
                    .for_each(|tag| *tag = packing.without_lead(packing.label(*tag)));
            }
        }
        let shared = Shared {
            source: self.source,
            units: &self.units,
            level: self.limits.level,
            packing: self.packing,
            centers: &centers,
            drift: &self.drift,
            moved: self.drift.moved(),
            is_first: self.is_first,
        };
        let level = self.limits.level;
        let (k, d) = (self.centroids.len(), self.source.n_features());
        let new = || Worker {
            sums: Sums::new(level, k, d),
            n_changed: 0,
            picked: Vec::new(),
            found: Found::default(),
            moves: Moves::default(),
            buffer: Vec::new(),
        };
        let workers = &self.workers;
        self.tags.par_chunks_mut(CHUNK_ROWS).enumerate().try_for_each(|(index, tags)| {
            workers.with(new, |worker| worker.see(&shared, index, tags))
        })?;
        let mut n_changed = 0;
        for worker in self.workers.rooms() {
            self.sums.join(&worker.sums);
            worker.sums.clear();
            n_changed += std::mem::take(&mut worker.n_changed);
        }
        self.is_first = false;
        Ok(n_changed)
    }

    /// Moves the centroids to the means of their rows and returns their squared shift. Clusters
    /// without a row are given one each.
    fn update(&mut self) -> Result<Update, FitError> {
        let k = self.centroids.len();
        let mut means: Vec<Option<Vec<f64>>> =
            (0..k).map(|cluster| self.sums.mean(&self.units, cluster)).collect();
        let mut n_relocated = 0;
        if means.iter().any(Option::is_none) {
            n_relocated = self.relocate(&means)?;
            means = (0..k).map(|cluster| self.sums.mean(&self.units, cluster)).collect();
        }
        let old = self.centroids.clone();
        for (centroid, mean) in self.centroids.iter_mut().zip(means) {
            // Where too few rows have weight, a centroid stays.
            if let Some(mean) = mean {
                *centroid = mean;
            }
        }
        Ok(Update { shift: self.drift.follow(&old, &self.centroids), n_relocated })
    }

    /// Gives each cluster without a row one of those farthest from their centroids, the farthest
    /// first, as scikit-learn does, and returns how many those were.
    fn relocate(&mut self, means: &[Option<Vec<f64>>]) -> Result<usize, FitError> {
        let empty: Vec<u32> =
            (0..means.len() as u32).filter(|&cluster| means[cluster as usize].is_none()).collect();
        let far = self.farthest(empty.len())?;
        let d = self.source.n_features();
        let n_relocated = far.len();
        let mut buffer = Vec::new();
        for (&cluster, (_, row)) in empty.iter().zip(far) {
            let (chunk, place) = (row / CHUNK_ROWS, row % CHUNK_ROWS);
            let rows = self.source.chunk(chunk, &mut buffer)?;
            let values = &rows[place * d..(place + 1) * d];
            let weight = self.source.weights(chunk).map_or(1.0, |weights| weights[place]);
            // Its lead was over other clusters.
            let tag = std::mem::replace(&mut self.tags[row], self.packing.without_lead(cluster));
            let from = self.packing.label(tag);
            let one = Move { row: 0, from, to: cluster };
            self.sums.shift(&self.units, values, Some(&[weight]), &Moves::from_iter([one]));
        }
        Ok(n_relocated)
    }

    /// The `n` rows with weight that lie farthest from their centroids, the first of equals first.
    fn farthest(&self, n: usize) -> Result<Vec<(f64, usize)>, FitError> {
        let d = self.source.n_features();
        let order = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let of_chunk = |index: usize, buffer: &mut Vec<f32>| {
            let rows = self.source.chunk(index, buffer)?;
            let weights = self.source.weights(index);
            let start = index * CHUNK_ROWS;
            let mut far: Vec<(f64, usize)> = rows
                .chunks_exact(d)
                .enumerate()
                .filter(|(place, _)| weights.is_none_or(|weights| weights[*place] > 0.0))
                .map(|(place, row)| {
                    let label = self.packing.label(self.tags[start + place]);
                    let centroid = &self.centroids[label as usize];
                    (squared(row, centroid), start + place)
                })
                .collect();
            far.sort_unstable_by(order);
            far.truncate(n);
            Ok::<_, FitError>(far)
        };
        let chunks: Vec<Vec<(f64, usize)>> = (0..self.source.n_chunks())
            .into_par_iter()
            .map_init(Vec::new, |buffer, index| of_chunk(index, buffer))
            .collect::<Result<_, FitError>>()?;
        let mut far = chunks.concat();
        far.sort_unstable_by(order);
        far.truncate(n);
        Ok(far)
    }

    /// The labels, and the weighted sum of squared distances to the centroids that rows belong to.
    fn unpack(&mut self) -> Result<(Vec<u32>, f64), FitError> {
        let mut labels = std::mem::take(&mut self.tags);
        let chunks: Vec<f64> = labels
            .par_chunks_mut(CHUNK_ROWS)
            .enumerate()
            .map_init(Vec::new, |buffer, (index, labels)| {
                labels.iter_mut().for_each(|tag| *tag = self.packing.label(*tag));
                let rows = self.source.chunk(index, buffer)?;
                let weights = self.source.weights(index);
                Ok(squared_to_own(self.limits.level, rows, weights, labels, &self.centroids))
            })
            .collect::<Result<_, FitError>>()?;
        Ok((labels, chunks.iter().sum()))
    }
}

/// What all threads look at in one pass.
struct Shared<'a> {
    source: &'a dyn RowSource,
    units: &'a Units,
    level: Level,
    packing: Packing,
    centers: &'a Centers,
    drift: &'a Drift,
    /// [`Drift::moved`].
    moved: Vec<f32>,
    is_first: bool,
}

impl Worker {
    /// Assigns the rows of one chunk.
    fn see(&mut self, shared: &Shared<'_>, index: usize, tags: &mut [u32]) -> Result<(), FitError> {
        let packing = shared.packing;
        if shared.is_first {
            tags.fill(packing.unlabelled());
        }
        self.pick(shared, tags);
        if self.picked.is_empty() {
            return Ok(());
        }
        let rows = shared.source.chunk(index, &mut self.buffer)?;
        let weights = shared.source.weights(index);
        let up_to = shared.drift.up_to;
        let ask = if packing.has_leads() { Ask::Leads { up_to } } else { Ask::Labels };
        let (level, moved) = (shared.level, &shared.moved);
        let at_once = (AT_ONCE / shared.source.n_features()).max(1);
        for picked in self.picked.chunks(at_once) {
            shared.centers.nearest(rows, picked, ask, &mut self.found);
            renew(level, packing, picked, &self.found, moved, tags, &mut self.moves);
            self.n_changed += self.moves.len() as u64;
            self.sums.shift(shared.units, rows, weights, &self.moves);
        }
        Ok(())
    }

    /// Picks the rows whose leads are used up: all without leads.
    fn pick(&mut self, shared: &Shared<'_>, tags: &[u32]) {
        if !shared.packing.has_leads() || shared.is_first {
            self.picked.clear();
            self.picked.extend(0..tags.len() as u32);
            return;
        }
        used_up(shared.level, shared.packing, tags, &shared.moved, &mut self.picked);
    }
}

/// How far centroids have moved since the start.
struct Drift {
    /// How far each moved, and how far the one that moved most of the others did, added up over all
    /// iterations, `(n_clusters,)`.
    moved: Vec<f64>,
    /// The largest squared norm of a centroid that leads allow for.
    up_to: f32,
}

impl Drift {
    fn new(n_clusters: usize) -> Drift {
        Drift { moved: vec![0.0; n_clusters], up_to: 0.0 }
    }

    /// Follows the centroids and returns their squared shift.
    fn follow(&mut self, old: &[Vec<f64>], new: &[Vec<f64>]) -> f64 {
        let square = |(old, new): (&Vec<f64>, &Vec<f64>)| -> f64 {
            old.iter().zip(new).map(|(old, new)| (old - new) * (old - new)).sum()
        };
        let squares: Vec<f64> = old.iter().zip(new).map(square).collect();
        let own: Vec<f64> = squares.iter().map(|square| square.sqrt()).collect();
        let most = (0..own.len()).max_by(|&a, &b| own[a].total_cmp(&own[b])).unwrap_or(0);
        let others = (0..own.len()).filter(|&c| c != most).map(|c| own[c]).fold(0.0, f64::max);
        for (cluster, moved) in self.moved.iter_mut().enumerate() {
            *moved += own[cluster] + if cluster == most { others } else { own[most] };
        }
        squares.iter().sum()
    }

    /// At least how much of a row's lead its centroid and the others have used up, by cluster.
    fn moved(&self) -> Vec<f32> {
        self.moved.iter().map(|&moved| moved as f32 * (1.0 + ROUNDING)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Seed;
    use crate::matrix::{ScaledMatrix, Weighted};
    use rand::Rng;

    #[derive(Debug, Clone, Copy)]
    enum Kind {
        Near,
        /// Far from zero, where `f32` is coarse.
        Far,
        /// Whole numbers, of which many rows are equal.
        Coarse,
    }

    /// Rows around five places that overlap, `(n, d)`.
    fn rows(kind: Kind, n: usize, d: usize) -> ScaledMatrix {
        let mut rng = Seed(n as u64).derive("rows", d as u64).rng();
        let places: Vec<f32> = (0..5 * d).map(|_| rng.gen_range(-3.0..3.0)).collect();
        let mut value = |place: f32| {
            let value = place + rng.gen_range(-1.5f32..1.5);
            match kind {
                Kind::Near => value,
                Kind::Far => value + 1e4,
                Kind::Coarse => value.round(),
            }
        };
        let row = |row: usize| &places[row % 5 * d..][..d];
        let values = (0..n).flat_map(row).map(|&place| value(place)).collect();
        ScaledMatrix::new(d, values)
    }

    /// The first rows; with `empty` the last centroid is nowhere near a row.
    fn start(rows: &ScaledMatrix, k: usize, empty: bool) -> Vec<Vec<f64>> {
        let row = |index: usize| rows.row(index % rows.n_rows());
        let wide = |row: &[f32]| row.iter().map(|&value| f64::from(value)).collect();
        let mut start: Vec<Vec<f64>> = (0..k).map(row).map(wide).collect();
        if empty {
            start[k - 1].iter_mut().for_each(|value| *value += 60.0);
        }
        start
    }

    fn ended(source: &dyn RowSource, start: &[Vec<f64>], limits: &Limits) -> Ended {
        let survey = Survey::of(source).unwrap();
        iterate(source, &survey, start.to_vec(), limits).unwrap()
    }

    /// All of an end, bit by bit.
    fn bits(ended: &Ended) -> (Vec<u64>, &[u32], u64, u32, bool) {
        let centroids = ended.centroids.iter().flatten().map(|value| value.to_bits()).collect();
        (centroids, &ended.labels, ended.inertia.to_bits(), ended.n_iter, ended.converged)
    }

    /// That leads and instruction sets change no bit.
    fn agree(source: &dyn RowSource, start: &[Vec<f64>], max_iter: u32, what: &str) {
        let work = source.n_rows() * source.n_features() * start.len() * max_iter as usize;
        let mut first: Option<Ended> = None;
        for &level in Level::present() {
            // The plain twin is slow.
            if level == Level::Plain && work > 5_000_000 {
                continue;
            }
            for bounds in [false, true] {
                let limits = Limits { max_iter, threshold: 0.0, level, bounds };
                let ended = ended(source, start, &limits);
                let first = first.get_or_insert_with(|| ended.clone());
                assert!(bits(&ended) == bits(first), "{what}: {level:?}, bounds {bounds}");
            }
        }
    }

    #[test]
    fn leads_and_instruction_sets_change_no_bit() {
        for (n, d, k, max_iter) in [
            (1, 1, 1, 12),
            (40, 3, 7, 12),
            (300, 33, 40, 12),
            (2_000, 1, 7, 12),
            (2_000, 12, 2, 12),
            (2_000, 12, 7, 12),
            (2_000, 3, 40, 12),
            (2_000, 3, 40, 300),
            (9_000, 33, 40, 12),
            (20_000, 1, 2, 12),
            (20_000, 3, 7, 60),
            (20_000, 12, 40, 12),
            (20_000, 33, 7, 12),
        ] {
            for kind in [Kind::Near, Kind::Far, Kind::Coarse] {
                let rows = rows(kind, n, d);
                for empty in [false, true] {
                    let what = format!("{n} x {d}, {k} clusters, {kind:?}, empty {empty}");
                    agree(&rows, &start(&rows, k, empty), max_iter, &what);
                }
            }
        }
    }

    #[test]
    fn leads_change_no_bit_where_rows_have_weights() {
        for kind in [Kind::Near, Kind::Far, Kind::Coarse] {
            let rows = rows(kind, 10_000, 4);
            let start = start(&rows, 9, true);
            let mut rng = Seed(2).rng();
            // Every third row does not count.
            let weight =
                |row: usize| if row.is_multiple_of(3) { 0.0 } else { rng.gen_range(0.1f32..9.0) };
            let weights = (0..rows.n_rows()).map(weight).collect();
            let weighted = Weighted::new(rows, weights).unwrap();
            agree(&weighted, &start, 40, &format!("{kind:?}, weighted"));
        }
    }

    #[test]
    fn rows_are_passed_over() {
        let rows = rows(Kind::Near, 5_000, 3);
        let survey = Survey::of(&rows).unwrap();
        let limits = Limits { max_iter: 10, threshold: 0.0, level: Level::best(), bounds: true };
        let mut run = Run::new(&rows, &survey, start(&rows, 5, false), &limits);
        for _ in 0..10 {
            run.assign().unwrap();
            run.update().unwrap();
        }
        let mut picked = Vec::new();
        used_up(limits.level, run.packing, &run.tags, &run.drift.moved(), &mut picked);
        assert!(picked.len() < 2_500, "{} of 5000 rows are looked at", picked.len());
    }

    #[test]
    fn labels_are_those_of_the_nearest_centroids() {
        for kind in [Kind::Near, Kind::Far, Kind::Coarse] {
            let rows = rows(kind, 3_000, 5);
            let limits = Limits { max_iter: 9, threshold: 0.0, level: Level::best(), bounds: true };
            let ended = ended(&rows, &start(&rows, 8, true), &limits);
            let mut inertia = 0.0;
            for (index, (row, &label)) in rows.rows().zip(&ended.labels).enumerate() {
                let own = squared(row, &ended.centroids[label as usize]);
                let distances = ended.centroids.iter().map(|center| squared(row, center));
                let least = distances.fold(f64::INFINITY, f64::min);
                // So much is lost in `f32`, of squared norms from the middle of up to a hundred.
                assert!(own <= least + 1e-4, "{kind:?}, row {index}: {own}, not {least}");
                inertia += own;
            }
            assert!((ended.inertia - inertia).abs() <= 1e-9 * inertia, "{kind:?}");
        }
    }

    #[test]
    fn a_cluster_that_was_just_given_a_row_is_not_the_end() {
        // Two clusters run empty, and what one is given leaves a third without a row: no label
        // changes when it is given the first 0, but the other 0 is nearest to it from then on.
        let rows = ScaledMatrix::new(1, vec![5.0, 0.0, 2.0, 1.0, 0.0, -6.0, 2.0]);
        let start = [-40.0, -9.0, 0.0, 0.0].map(|value| vec![value]);
        for bounds in [false, true] {
            let limits = Limits { max_iter: 50, threshold: 0.0, level: Level::best(), bounds };
            let ended = ended(&rows, &start, &limits);
            assert!(ended.converged);
            assert_eq!(ended.labels[1], ended.labels[4], "{ended:?}");
            assert!((ended.inertia - 2.0 / 3.0).abs() < 1e-9, "{ended:?}");
        }
    }
}
