//! Squared distances to a few points, and what would be left if each joined those chosen before.
//!
//! Unlike scores ([`super::nearest`]) these are sums of squared differences, exact for equal rows.

use super::Level;
use super::block::{self, BLOCK};
use super::lanes::{Plain, Singles};

/// Points that are looked at in one pass over a block.
const TILE: usize = 4;

/// Lowers `closest`, `(n_rows,)`, to the squared distances of the rows of `(n_rows, n_features)` to
/// the nearest of `points`, `(n_points, n_features)`, where those are less.
pub fn lower(level: Level, rows: &[f32], points: &[f32], d: usize, closest: &mut [f32]) {
    let mut sums = vec![0.0; points.len() / d];
    run(level, rows, points, d, Closest::Lowered(closest), &mut sums);
}

/// For each of `points`, `(n_points, n_features)`, the sum over rows of the lesser of `closest` and the
/// squared distance to the point, times the weight: lane by lane in `f32`, for one chunk of rows.
pub fn potentials(
    level: Level,
    rows: &[f32],
    weights: Option<&[f32]>,
    points: &[f32],
    closest: &[f32],
    sums: &mut [f64],
) {
    let d = points.len() / sums.len();
    run(level, rows, points, d, Closest::Kept(closest, weights), sums);
}

enum Closest<'a> {
    Kept(&'a [f32], Option<&'a [f32]>),
    Lowered(&'a mut [f32]),
}

fn run(
    level: Level,
    rows: &[f32],
    points: &[f32],
    d: usize,
    closest: Closest<'_>,
    sums: &mut [f64],
) {
    // SAFETY: `Level` is what was found on this machine, or chosen of what is present.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512(rows, points, d, closest, sums),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2(rows, points, d, closest, sums),
            Level::Plain => all_blocks::<Plain>(rows, points, d, closest, sums),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(rows: &[f32], points: &[f32], d: usize, closest: Closest<'_>, sums: &mut [f64]) {
    // SAFETY: the caller promises the instruction set.
    unsafe { all_blocks::<super::lanes::x86::Avx512>(rows, points, d, closest, sums) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(rows: &[f32], points: &[f32], d: usize, closest: Closest<'_>, sums: &mut [f64]) {
    // SAFETY: the caller promises the instruction set.
    unsafe { all_blocks::<super::lanes::x86::Avx2>(rows, points, d, closest, sums) }
}

#[inline(always)]
unsafe fn all_blocks<S: Singles>(
    rows: &[f32],
    points: &[f32],
    d: usize,
    mut closest: Closest<'_>,
    sums: &mut [f64],
) {
    let n = rows.len() / d;
    let n_tiles = sums.len().div_ceil(TILE);
    // Points beside each other, feature by feature. What fills the last tile is nowhere near.
    let mut tiles = vec![f32::INFINITY; n_tiles * d * TILE];
    for (index, point) in points.chunks_exact(d).enumerate() {
        for (j, value) in point.iter().enumerate() {
            tiles[(index / TILE * d + j) * TILE + index % TILE] = *value;
        }
    }
    let origin = vec![0.0; d];
    let mut block = vec![0.0; d * BLOCK];
    // Each lane of a block adds up on its own, so that their number does not matter.
    let mut lanes = vec![[0f32; BLOCK]; n_tiles * TILE];
    let mut picked = [0u32; BLOCK];
    for start in (0..n).step_by(BLOCK) {
        let length = BLOCK.min(n - start);
        for (lane, row) in picked.iter_mut().enumerate() {
            *row = (start + lane) as u32;
        }
        // SAFETY: the caller promises the instruction set, and the rows are below `n`.
        unsafe { block::fill::<S>(&mut block, rows, &picked[..length], &origin) };
        let (mut near, mut counts) = ([0f32; BLOCK], [1f32; BLOCK]);
        match &closest {
            Closest::Kept(closest, weights) => {
                near[..length].copy_from_slice(&closest[start..start + length]);
                if let Some(weights) = weights {
                    counts[..length].copy_from_slice(&weights[start..start + length]);
                }
            }
            Closest::Lowered(closest) => {
                near[..length].copy_from_slice(&closest[start..start + length]);
            }
        }
        for tile in 0..n_tiles {
            let values = &tiles[tile * d * TILE..(tile + 1) * d * TILE];
            let to = &mut lanes[tile * TILE..(tile + 1) * TILE];
            match &mut closest {
                // SAFETY: the caller promises the instruction set, and the shapes are those made above.
                Closest::Kept(..) => unsafe { add::<S>(&block, values, &near, &counts, to) },
                // SAFETY: as above.
                Closest::Lowered(_) => unsafe { lower_block::<S>(&block, values, &mut near) },
            }
        }
        if let Closest::Lowered(closest) = &mut closest {
            closest[start..start + length].copy_from_slice(&near[..length]);
        }
    }
    for (sum, lanes) in sums.iter_mut().zip(&lanes) {
        *sum = lanes.iter().map(|&lane| f64::from(lane)).sum();
    }
}

/// Adds the lesser of `near` and the distance, times the weight, to each lane of each point.
#[inline(always)]
unsafe fn add<S: Singles>(
    block: &[f32],
    values: &[f32],
    near: &[f32; BLOCK],
    counts: &[f32; BLOCK],
    to: &mut [[f32; BLOCK]],
) {
    let d = block.len() / BLOCK;
    assert!(block.len() == d * BLOCK && values.len() == d * TILE && to.len() == TILE);
    // SAFETY: lanes stay below `BLOCK`, features below `d` and points below `TILE`, as asserted.
    unsafe {
        for lane in (0..BLOCK).step_by(S::WIDTH) {
            let squares = squares::<S>(block, values, d, lane);
            let near = S::load(near.as_ptr().add(lane));
            let counts = S::load(counts.as_ptr().add(lane));
            for (to, square) in to.iter_mut().zip(squares) {
                let to = to.as_mut_ptr().add(lane);
                S::load(to).plus(square.min(near), counts).store(to);
            }
        }
    }
}

/// Lowers `near` to the distances to the points of a tile.
#[inline(always)]
unsafe fn lower_block<S: Singles>(block: &[f32], values: &[f32], near: &mut [f32; BLOCK]) {
    let d = block.len() / BLOCK;
    assert!(block.len() == d * BLOCK && values.len() == d * TILE);
    // SAFETY: as in `add`.
    unsafe {
        for lane in (0..BLOCK).step_by(S::WIDTH) {
            let squares = squares::<S>(block, values, d, lane);
            let to = near.as_mut_ptr().add(lane);
            let mut least = S::load(to);
            for square in squares {
                least = square.min(least);
            }
            least.store(to);
        }
    }
}

/// The squared distances of the rows from `lane` on to the points of a tile.
#[inline(always)]
unsafe fn squares<S: Singles>(block: &[f32], values: &[f32], d: usize, lane: usize) -> [S; TILE] {
    // SAFETY: as in `add`.
    unsafe {
        let mut squares = [S::splat(0.0); TILE];
        for j in 0..d {
            let x = S::load(block.as_ptr().add(j * BLOCK + lane));
            for (c, square) in squares.iter_mut().enumerate() {
                let difference = x.sub(S::splat(*values.as_ptr().add(j * TILE + c)));
                *square = square.plus(difference, difference);
            }
        }
        squares
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Seed;
    use rand::Rng;

    #[test]
    fn every_instruction_set_gives_the_bits_of_the_plain_one() {
        for (n, d, k) in [(1, 1, 1), (40, 3, 5), (100, 12, 4)] {
            let mut rng = Seed(4).rng();
            let mut some =
                |n: usize| -> Vec<f32> { (0..n).map(|_| rng.gen_range(-2.0..2.0)).collect() };
            let (rows, points) = (some(n * d), some(k * d));
            let weights: Vec<f32> = some(n).iter().map(|value| value.abs()).collect();
            let of = |level| {
                let mut closest = vec![f32::INFINITY; n];
                lower(level, &rows, &rows[..d], d, &mut closest);
                lower(level, &rows, &points, d, &mut closest);
                assert_eq!(closest[0], 0.0);
                let mut sums = vec![0.0; k];
                potentials(level, &rows, Some(&weights), &points, &closest, &mut sums);
                (closest, sums)
            };
            let (closest, sums) = of(Level::Plain);
            for &level in Level::present() {
                assert_eq!(of(level), (closest.clone(), sums.clone()), "{level:?}");
            }
            for (point, sum) in points.chunks_exact(d).zip(sums) {
                let left = |(row, (near, weight)): (&[f32], (&f32, &f32))| {
                    let square: f32 = row.iter().zip(point).map(|(x, p)| (x - p) * (x - p)).sum();
                    f64::from(square.min(*near) * weight)
                };
                let pairs = rows.chunks_exact(d).zip(closest.iter().zip(&weights));
                let expected: f64 = pairs.map(left).sum();
                assert!((sum - expected).abs() <= 1e-5 * expected.max(1.0));
            }
        }
    }
}
