//! The nearest of several centers, for many rows at once.
//!
//! What is compared is |c|² / 2 - x·c, which orders centers as the distance does and saves a
//! subtraction a feature (scikit-learn's `_k_means_lloyd.pyx` drops |x|² for the same reason). Rows
//! and centers are first moved by an origin amid the centers, so that little is lost where data lie
//! far from zero.

use super::Level;
use super::block::{self, BLOCK};
use super::lanes::{Plain, Singles};

/// Centers compared with a vector of rows at once, for sets with sixteen and with thirty-two registers.
const FEW: usize = 4;
const MANY: usize = 8;

/// Centers, made ready to be compared with rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Centers {
    level: Level,
    origin: Vec<f32>,
    /// Half the squared norms, `(n_tiles * tile,)`; infinite where a tile has no center.
    half_norms: Vec<f32>,
    /// `(n_tiles, n_features, tile)`.
    tiles: Vec<f32>,
    largest_norm: f32,
}

/// What is asked of rows besides their nearest centers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ask {
    Labels,
    /// At least by how much a row is nearer to its center than to any other. While centers move less
    /// than that, own and other together, the label stays, as long as no center's squared norm from
    /// the origin is larger than `up_to`.
    Leads {
        up_to: f32,
    },
    /// By how much the squared distance to the next center is larger.
    Margins,
}

/// What was found for some rows, one after the other.
#[derive(Debug, Clone, Default)]
pub struct Found {
    pub labels: Vec<u32>,
    /// Leads or margins; empty where only labels were asked for.
    pub leads: Vec<f32>,
}

impl Centers {
    /// Centers of `(n, n_features)`, the latter at least one, with the origin in their midst.
    pub fn new(level: Level, centers: &[Vec<f64>]) -> Centers {
        let (n, d) = (centers.len(), centers.first().map_or(0, Vec::len));
        let mean = |j: usize| centers.iter().map(|center| center[j]).sum::<f64>() / n as f64;
        Centers::around((0..d).map(|j| mean(j) as f32).collect(), level, centers)
    }

    /// The same around a given origin.
    pub fn around(origin: Vec<f32>, level: Level, centers: &[Vec<f64>]) -> Centers {
        let (n, d) = (centers.len(), origin.len());
        let tile = match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => MANY,
            _ => FEW,
        };
        let n_tiles = n.div_ceil(tile);
        let mut half_norms = vec![f32::INFINITY; n_tiles * tile];
        let mut tiles = vec![0.0; n_tiles * d * tile];
        let mut largest_norm = 0f32;
        for (index, center) in centers.iter().enumerate() {
            let mut norm = 0.0;
            for (j, (value, origin)) in center.iter().zip(&origin).enumerate() {
                let moved = (value - f64::from(*origin)) as f32;
                tiles[(index / tile * d + j) * tile + index % tile] = moved;
                norm += f64::from(moved) * f64::from(moved);
            }
            half_norms[index] = (norm / 2.0) as f32;
            largest_norm = largest_norm.max(norm as f32);
        }
        Centers { level, origin, half_norms, tiles, largest_norm }
    }

    /// Number of columns.
    pub fn n_features(&self) -> usize {
        self.origin.len()
    }

    /// The largest squared norm of a center from the origin.
    pub fn largest_norm(&self) -> f32 {
        self.largest_norm
    }

    /// The nearest center of one row, as [`Centers::nearest`] has it.
    pub fn nearest_one(&self, row: &[f32]) -> u32 {
        let mut found = Found::default();
        self.nearest(row, &[0], Ask::Labels, &mut found);
        found.labels[0]
    }

    /// Finds the nearest center, the first of equals, of the rows of `(n_rows, n_features)` that
    /// `picked` names, and what else is asked of them.
    ///
    /// # Panics
    /// Where `picked` names a row that is not there.
    pub fn nearest(&self, rows: &[f32], picked: &[u32], ask: Ask, found: &mut Found) {
        let n = picked.len().div_ceil(BLOCK) * BLOCK;
        found.labels.resize(n, 0);
        found.leads.resize(if ask == Ask::Labels { 0 } else { n }, 0.0);
        let leads = !found.leads.is_empty();
        // SAFETY: `Level` is what was found on this machine, or chosen of what is present.
        unsafe {
            match (self.level, leads) {
                #[cfg(target_arch = "x86_64")]
                (Level::Avx512, true) => avx512::<true>(self, rows, picked, ask, found),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx512, false) => avx512::<false>(self, rows, picked, ask, found),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx2, true) => avx2::<true>(self, rows, picked, ask, found),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx2, false) => avx2::<false>(self, rows, picked, ask, found),
                (Level::Plain, true) => {
                    all_blocks::<Plain, FEW, true>(self, rows, picked, ask, found)
                }
                (Level::Plain, false) => {
                    all_blocks::<Plain, FEW, false>(self, rows, picked, ask, found)
                }
            }
        }
        found.labels.truncate(picked.len());
        found.leads.truncate(picked.len());
    }
}

/// What roundings may do to a squared distance, in parts of |x|² + max |c|² (both from the origin). A
/// score is a chain of `d` fused steps, each off by half an epsilon of a product of norms at most,
/// and the distance is twice that; its root, the move to the origin and the rounding of centers add
/// a few steps more, for which thirty-two are ample.
///
/// A row is sure to keep its label while the squares of the distances to its center and to any other
/// differ by more than twice that error. Their roots' difference, times twice the nearer, is no more
/// than the squares' difference, which is why a lead is less by the error over the nearer.
fn rounding(d: usize) -> f32 {
    (d + 32) as f32 * 2.0 * f32::EPSILON
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<const LEADS: bool>(
    centers: &Centers,
    rows: &[f32],
    picked: &[u32],
    ask: Ask,
    found: &mut Found,
) {
    // SAFETY: the caller promises the instruction set.
    unsafe {
        all_blocks::<super::lanes::x86::Avx512, MANY, LEADS>(centers, rows, picked, ask, found)
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const LEADS: bool>(
    centers: &Centers,
    rows: &[f32],
    picked: &[u32],
    ask: Ask,
    found: &mut Found,
) {
    // SAFETY: the caller promises the instruction set.
    unsafe { all_blocks::<super::lanes::x86::Avx2, FEW, LEADS>(centers, rows, picked, ask, found) }
}

#[inline(always)]
unsafe fn all_blocks<S: Singles, const TILE: usize, const LEADS: bool>(
    centers: &Centers,
    rows: &[f32],
    picked: &[u32],
    ask: Ask,
    found: &mut Found,
) {
    let d = centers.origin.len();
    let last = picked.iter().fold(0, |last, &row| row.max(last)) as usize;
    assert!(picked.is_empty() || last < rows.len() / d);
    let mut block = vec![0.0; d * BLOCK];
    let ahead = |index: usize| picked.get((index + 2) * BLOCK..).unwrap_or_default();
    for (index, picked) in picked.chunks(BLOCK).enumerate() {
        block::prefetch(rows, ahead(index), d);
        // SAFETY: the caller promises the instruction set, and the rows were checked above.
        unsafe { block::fill::<S>(&mut block, rows, picked, &centers.origin) };
        let range = index * BLOCK..(index + 1) * BLOCK;
        let out = Out {
            labels: &mut found.labels[range.clone()],
            leads: if LEADS { &mut found.leads[range] } else { &mut [] },
            ask,
        };
        // SAFETY: the caller promises the instruction set; the shapes are those of `Centers::new`
        // and of the block.
        unsafe { one_block::<S, TILE, LEADS>(centers, &block, out) }
    }
}

/// Where a block's answers go, `(BLOCK,)` each, the leads where they are asked for.
struct Out<'a> {
    labels: &'a mut [u32],
    leads: &'a mut [f32],
    ask: Ask,
}

#[inline(always)]
unsafe fn one_block<S: Singles, const TILE: usize, const LEADS: bool>(
    centers: &Centers,
    block: &[f32],
    out: Out<'_>,
) {
    let d = centers.origin.len();
    assert!(block.len() == d * BLOCK && out.labels.len() == BLOCK);
    assert!(!LEADS || out.leads.len() == BLOCK);
    assert!(centers.tiles.len() == centers.half_norms.len() * d);
    let n_tiles = centers.half_norms.len() / TILE;
    // SAFETY: all pointers stay within the slices whose lengths are asserted: a feature below `d`,
    // a lane below `BLOCK`, which is a multiple of two widths, and a tile below `n_tiles`.
    unsafe {
        for start in (0..BLOCK).step_by(2 * S::WIDTH) {
            let rows = block.as_ptr().add(start);
            let infinite = S::splat(f32::INFINITY);
            let mut best = [infinite; 2];
            let mut second = [infinite; 2];
            // Indices travel as the bits of floats, which `pick` does not touch.
            let mut index = [S::splat(0.0); 2];
            for tile in 0..n_tiles {
                let norms = centers.half_norms.as_ptr().add(tile * TILE);
                let values = centers.tiles.as_ptr().add(tile * d * TILE);
                let mut scores = [[infinite; 2]; TILE];
                for (c, scores) in scores.iter_mut().enumerate() {
                    *scores = [S::splat(*norms.add(c)); 2];
                }
                for j in 0..d {
                    let x = [S::load(rows.add(j * BLOCK)), S::load(rows.add(j * BLOCK + S::WIDTH))];
                    let values = values.add(j * TILE);
                    for (c, scores) in scores.iter_mut().enumerate() {
                        let value = S::splat(*values.add(c));
                        scores[0] = scores[0].minus(x[0], value);
                        scores[1] = scores[1].minus(x[1], value);
                    }
                }
                for (c, scores) in scores.iter().enumerate() {
                    let here = S::splat(f32::from_bits((tile * TILE + c) as u32));
                    for p in 0..2 {
                        let nearer = scores[p].less(best[p]);
                        if LEADS {
                            second[p] = second[p].min(scores[p].max(best[p]));
                        }
                        best[p] = scores[p].min(best[p]);
                        index[p] = S::pick(nearer, here, index[p]);
                    }
                }
            }
            for p in 0..2 {
                let lane = start + p * S::WIDTH;
                index[p].store(out.labels.as_mut_ptr().add(lane).cast());
                if LEADS {
                    let to = out.leads.as_mut_ptr().add(lane);
                    match out.ask {
                        Ask::Leads { up_to } => {
                            let mut norm = S::splat(0.0);
                            for j in 0..d {
                                let x = S::load(block.as_ptr().add(j * BLOCK + lane));
                                norm = norm.plus(x, x);
                            }
                            let two = S::splat(2.0);
                            let error = norm.add(S::splat(up_to)).mul(S::splat(rounding(d)));
                            // A row upon its center has no more lead than one that is hardly away from it.
                            let least = S::splat(f32::MIN_POSITIVE);
                            let (near, reciprocal) =
                                norm.plus(two, best[p]).add(error).max(least).root();
                            let (far, _) = norm.plus(two, second[p]).sub(error).max(least).root();
                            let eight = S::splat(8.0 * f32::EPSILON);
                            let lost = error.mul(reciprocal).plus(far.add(near), eight);
                            far.sub(near).sub(lost).store(to);
                        }
                        Ask::Labels | Ask::Margins => {
                            S::splat(2.0).mul(second[p].sub(best[p])).store(to);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Seed;
    use rand::Rng;

    fn some(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = Seed(seed).rng();
        (0..n).map(|_| rng.gen_range(-3.0..3.0f32)).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_bits_of_the_plain_one() {
        for (n, d, k) in [(1, 1, 1), (5, 3, 2), (70, 12, 16), (33, 7, 9), (64, 64, 40)] {
            let rows = some(n * d, 1);
            let centers: Vec<Vec<f64>> = some(k * d, 2)
                .chunks(d)
                .map(|center| center.iter().map(|&value| f64::from(value)).collect())
                .collect();
            let picked: Vec<u32> = (0..n as u32).rev().collect();
            for ask in [Ask::Labels, Ask::Leads { up_to: 1_000.0 }, Ask::Margins] {
                let of = |level| {
                    let mut found = Found::default();
                    Centers::new(level, &centers).nearest(&rows, &picked, ask, &mut found);
                    (found.labels, found.leads)
                };
                let plain = of(Level::Plain);
                for &level in Level::present() {
                    let (labels, leads) = of(level);
                    assert_eq!(labels, plain.0, "{level:?} {n} {d} {k}");
                    // Only how soon a row is looked at again hangs on a lead; centroids hang on margins.
                    assert!(ask != Ask::Margins || leads == plain.1, "{level:?} {n} {d} {k}");
                    let pairs = leads.iter().zip(&plain.1);
                    assert!(k == 1 || pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-4));
                }
                for (i, (&label, &row)) in plain.0.iter().zip(&picked).enumerate() {
                    let row = &rows[row as usize * d..][..d];
                    let distance = |center: &Vec<f64>| -> f64 {
                        let pairs = center.iter().zip(row);
                        let squares = pairs.map(|(c, x)| (c - f64::from(*x)).powi(2));
                        squares.sum::<f64>().sqrt()
                    };
                    let mut distances: Vec<f64> = centers.iter().map(distance).collect();
                    let own = distances.remove(label as usize);
                    let other = distances.into_iter().fold(f64::INFINITY, f64::min);
                    assert!(own <= other + 1e-4);
                    let told = plain.1.get(i).map_or(0.0, |&told| f64::from(told));
                    let right = match ask {
                        Ask::Labels => plain.1.is_empty(),
                        Ask::Leads { .. } => told < other - own && told > other - own - 0.1,
                        Ask::Margins => (told - (other * other - own * own)).abs() < 1e-3,
                    };
                    assert!(k == 1 || right, "{ask:?} {told}");
                }
            }
        }
    }
}
