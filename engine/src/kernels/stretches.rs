//! Sums down the columns of a matrix, several rows side by side.

use super::Level;

/// Adds rows, a stretch of whole rows at a time, place by place: deviations from `first`, their
/// squares, and the largest absolute values. All but the rows are as long as a stretch. A NaN is passed
/// by among the largest and shows in the sums.
pub fn add(
    level: Level,
    rows: &[f32],
    first: &[f64],
    sums: &mut [f64],
    squares: &mut [f64],
    largest: &mut [f32],
) {
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

/// Nothing here is fused, so that wider vectors change no bit.
#[inline(always)]
fn plain(rows: &[f32], first: &[f64], sums: &mut [f64], squares: &mut [f64], largest: &mut [f32]) {
    for values in rows.chunks(first.len()) {
        let n = values.len();
        let (first, sums) = (&first[..n], &mut sums[..n]);
        let (squares, largest) = (&mut squares[..n], &mut largest[..n]);
        for i in 0..n {
            let deviation = f64::from(values[i]) - first[i];
            sums[i] += deviation;
            squares[i] += deviation * deviation;
            let size = values[i].abs();
            largest[i] = if size > largest[i] { size } else { largest[i] };
        }
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
