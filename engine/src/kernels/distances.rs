//! Squared distances in `f64`, in four sums that are added at the end.

use super::Level;

/// The squared distance of a row to a center, `(n_features,)` both.
#[inline(always)]
pub fn squared(row: &[f32], center: &[f64]) -> f64 {
    let ((values, rest), (centers, center_rest)) = (row.as_chunks::<4>(), center.as_chunks::<4>());
    let mut sums = [0.0; 4];
    let add = |(sum, (value, center)): (&mut f64, (&f32, &f64))| {
        let difference = f64::from(*value) - center;
        *sum += difference * difference;
    };
    for (values, centers) in values.iter().zip(centers) {
        sums.iter_mut().zip(values.iter().zip(centers)).for_each(add);
    }
    sums.iter_mut().zip(rest.iter().zip(center_rest)).for_each(add);
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

/// The weighted sum of the squared distances of rows, `(n_rows, n_features)`, to the centers that their
/// labels name.
///
/// # Panics
/// Where a label or a weight is missing, or a label names no center.
pub fn squared_to_own(
    level: Level,
    rows: &[f32],
    weights: Option<&[f32]>,
    labels: &[u32],
    centers: &[Vec<f64>],
) -> f64 {
    // SAFETY: `Level` is what was found on this machine, or chosen of what is present; AVX2 is wherever
    // AVX-512 is.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::Avx512 => avx2(rows, weights, labels, centers),
            Level::Plain => plain(rows, weights, labels, centers),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(rows: &[f32], weights: Option<&[f32]>, labels: &[u32], centers: &[Vec<f64>]) -> f64 {
    plain(rows, weights, labels, centers)
}

/// Nothing here is fused, so that wider vectors change no bit.
#[inline(always)]
fn plain(rows: &[f32], weights: Option<&[f32]>, labels: &[u32], centers: &[Vec<f64>]) -> f64 {
    let d = centers.first().map_or(1, Vec::len);
    assert!(d > 0 && labels.len() >= rows.len() / d);
    let mut sum = 0.0;
    for (place, (row, &label)) in rows.chunks_exact(d).zip(labels).enumerate() {
        let weight = weights.map_or(1.0, |weights| f64::from(weights[place]));
        sum += weight * squared(row, &centers[label as usize]);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_bits_of_the_plain_one() {
        for d in [1, 3, 4, 12, 17] {
            let rows: Vec<f32> = (0..40 * d).map(|i| (i as f32 * 0.37).sin() * 9.0).collect();
            let centers = [vec![0.3; d], vec![-1.7; d]];
            let labels: Vec<u32> = (0..40).map(|row| row % 2).collect();
            let weights: Vec<f32> = (0..40).map(|row| row as f32 / 7.0).collect();
            for weights in [None, Some(weights.as_slice())] {
                let of = |level| squared_to_own(level, &rows, weights, &labels, &centers).to_bits();
                for &level in Level::present() {
                    assert_eq!(of(level), of(Level::Plain), "{level:?} {d}");
                }
            }
        }
        assert_eq!(squared(&[1.0, 2.0, 3.0, 4.0, 7.0], &[0.0, 4.0, 3.0, 1.0, 2.0]), 39.0);
    }
}
