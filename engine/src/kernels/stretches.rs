//! Sums down the columns of a matrix, several rows side by side.

use super::Level;

/// Places that are added up side by side, of which a stretch has a multiple.
pub const LANES: usize = 16;

/// Adds rows, a stretch of whole rows at a time, place by place: deviations from `first`, their
/// squares, and the largest absolute values. All but the rows are as long as a stretch. A NaN is passed
/// by among the largest and shows in the sums.
///
/// # Panics
/// Where a stretch is no multiple of [`LANES`], or the others are shorter.
pub fn add(
    level: Level,
    rows: &[f32],
    first: &[f64],
    sums: &mut [f64],
    squares: &mut [f64],
    largest: &mut [f32],
) {
    assert!(!first.is_empty() && first.len().is_multiple_of(LANES));
    assert!([sums.len(), squares.len(), largest.len()].iter().all(|&length| length == first.len()));
    // SAFETY: `Level` is what was found on this machine, or chosen of what is present.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512(rows, first, sums, squares, largest),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2(rows, first, sums, squares, largest),
            Level::Plain => plain(rows, first, sums, squares, largest),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(
    rows: &[f32],
    first: &[f64],
    sums: &mut [f64],
    squares: &mut [f64],
    largest: &mut [f32],
) {
    plain(rows, first, sums, squares, largest);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(
    rows: &[f32],
    first: &[f64],
    sums: &mut [f64],
    squares: &mut [f64],
    largest: &mut [f32],
) {
    plain(rows, first, sums, squares, largest);
}

/// Stretches that are gone through at once: few enough to stay in the fastest memory.
const AT_ONCE: usize = 64;

/// Nothing here is fused, so that wider vectors change no bit.
#[inline(always)]
fn plain(rows: &[f32], first: &[f64], sums: &mut [f64], squares: &mut [f64], largest: &mut [f32]) {
    let length = first.len();
    let (whole, rest) = rows.split_at(rows.len() - rows.len() % length);
    let (first_lanes, sums_lanes) = (first.as_chunks::<LANES>().0, sums.as_chunks_mut().0);
    let (squares_lanes, largest_lanes) = (squares.as_chunks_mut().0, largest.as_chunks_mut().0);
    for rows in whole.chunks(length * AT_ONCE) {
        let lanes = first_lanes.iter().zip(&mut *sums_lanes);
        let sizes = squares_lanes.iter_mut().zip(&mut *largest_lanes);
        for (index, ((first, sums), (squares, largest))) in lanes.zip(sizes).enumerate() {
            let mut all = (*sums, *squares, *largest);
            for stretch in rows.chunks_exact(length) {
                let values = &stretch.as_chunks::<LANES>().0[index];
                add_lanes(values, first, &mut all.0, &mut all.1, &mut all.2);
            }
            (*sums, *squares, *largest) = all;
        }
    }
    for (i, value) in rest.iter().enumerate() {
        let one = |of: &mut [f64]| [of[i]];
        let (mut sum, mut square, mut large) = (one(sums), one(squares), [largest[i]]);
        add_lanes(&[*value], &[first[i]], &mut sum, &mut square, &mut large);
        (sums[i], squares[i], largest[i]) = (sum[0], square[0], large[0]);
    }
}

/// Adds one value to each lane.
#[inline(always)]
fn add_lanes<const N: usize>(
    values: &[f32; N],
    first: &[f64; N],
    sums: &mut [f64; N],
    squares: &mut [f64; N],
    largest: &mut [f32; N],
) {
    let mut deviations = [0.0; N];
    for i in 0..N {
        deviations[i] = f64::from(values[i]) - first[i];
    }
    for i in 0..N {
        sums[i] += deviations[i];
    }
    for i in 0..N {
        squares[i] += deviations[i] * deviations[i];
    }
    for i in 0..N {
        let size = values[i].abs();
        largest[i] = if size > largest[i] { size } else { largest[i] };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_bits_of_the_plain_one() {
        let rows: Vec<f32> = (0..1_003).map(|i| (i as f32 * 0.37).sin() * 9.0).collect();
        let of = |level| {
            let (mut sums, mut squares, mut largest) = ([0.0; 48], [0.0; 48], [0.0; 48]);
            add(level, &rows, &[0.1; 48], &mut sums, &mut squares, &mut largest);
            (sums, squares, largest)
        };
        for &level in Level::present() {
            assert_eq!(of(level), of(Level::Plain), "{level:?}");
        }
    }
}
