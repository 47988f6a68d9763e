//! Rows laid out feature by feature, so that each lane is a row.

use super::lanes::Singles;

/// Rows in a block.
pub(super) const BLOCK: usize = 32;

/// Writes rows into `block`, `(n_features, BLOCK)`, moved so that `origin` becomes zero. Row `i` of the block is row
/// `picked[i]` of `rows`; lanes without a row are zero.
///
/// # Safety
/// The instruction set of `S` must be present.
#[inline(always)]
pub(super) unsafe fn fill<S: Singles>(
    block: &mut [f32],
    rows: &[f32],
    picked: &[u32],
    origin: &[f32],
) {
    let d = origin.len();
    if picked.len() < BLOCK {
        block.fill(0.0);
    }
    let mut lane = 0;
    #[cfg(target_arch = "x86_64")]
    while S::WIDTH == SIXTEEN && lane + SIXTEEN <= picked.len() {
        // SAFETY: so many lanes mean that AVX-512 is present.
        unsafe { transpose_sixteen(block, lane, rows, &picked[lane..lane + SIXTEEN], origin) };
        lane += SIXTEEN;
    }
    while lane + 4 <= picked.len() {
        let row = |i: usize| {
            let start = picked[lane + i] as usize * d;
            &rows[start..start + d]
        };
        let four = [row(0), row(1), row(2), row(3)];
        transpose_four(&mut block[lane..], four, origin);
        lane += 4;
    }
    for (lane, &row) in picked.iter().enumerate().skip(lane) {
        let start = row as usize * d;
        for (j, (value, origin)) in rows[start..start + d].iter().zip(origin).enumerate() {
            block[j * BLOCK + lane] = value - origin;
        }
    }
}

/// Rows that AVX-512 transposes together.
#[cfg(target_arch = "x86_64")]
const SIXTEEN: usize = 16;

/// Four features of sixteen rows at a time: each register holds those of four rows, and its quarters
/// are transposed side by side.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn transpose_sixteen(
    block: &mut [f32],
    lane: usize,
    rows: &[f32],
    picked: &[u32],
    origin: &[f32],
) {
    use std::arch::x86_64::*;
    let d = origin.len();
    let n = rows.len() / d;
    assert!(block.len() == d * BLOCK && lane + SIXTEEN <= BLOCK && picked.len() == SIXTEEN);
    let mut starts = [rows.as_ptr(); SIXTEEN];
    for (start, &row) in starts.iter_mut().zip(picked) {
        assert!((row as usize) < n);
        // SAFETY: the row is there.
        *start = unsafe { rows.as_ptr().add(row as usize * d) };
    }
    let mut j = 0;
    while j + 4 <= d {
        // SAFETY: each load reads four of the `d` values of a row after `j`, and each store writes
        // sixteen lanes of a feature below `d`.
        unsafe {
            let zero = _mm512_broadcast_f32x4(_mm_loadu_ps(origin.as_ptr().add(j)));
            let load = |first: usize| {
                let quarter = |index: usize| _mm_loadu_ps(starts[first + 4 * index].add(j));
                let four = _mm512_castps128_ps512(quarter(0));
                let four = _mm512_insertf32x4::<1>(four, quarter(1));
                let four = _mm512_insertf32x4::<2>(four, quarter(2));
                _mm512_sub_ps(_mm512_insertf32x4::<3>(four, quarter(3)), zero)
            };
            let (a, b, c, e) = (load(0), load(1), load(2), load(3));
            let pairs = |low: __m512, high: __m512| {
                (
                    _mm512_castps_pd(_mm512_unpacklo_ps(low, high)),
                    _mm512_castps_pd(_mm512_unpackhi_ps(low, high)),
                )
            };
            let ((ab_low, ab_high), (ce_low, ce_high)) = (pairs(a, b), pairs(c, e));
            let to = block.as_mut_ptr().add(j * BLOCK + lane);
            let store = |feature: usize, values: __m512d| {
                _mm512_storeu_ps(to.add(feature * BLOCK), _mm512_castpd_ps(values));
            };
            store(0, _mm512_unpacklo_pd(ab_low, ce_low));
            store(1, _mm512_unpackhi_pd(ab_low, ce_low));
            store(2, _mm512_unpacklo_pd(ab_high, ce_high));
            store(3, _mm512_unpackhi_pd(ab_high, ce_high));
        }
        j += 4;
    }
    for (j, zero) in origin.iter().enumerate().skip(j) {
        for (index, &row) in picked.iter().enumerate() {
            block[j * BLOCK + lane + index] = rows[row as usize * d + j] - zero;
        }
    }
}

/// Four values each of four rows, turned into four rows each of four values.
///
/// # Safety
/// Four values must follow each pointer.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn four_by_four(rows: [*const f32; 4]) -> [std::arch::x86_64::__m128; 4] {
    use std::arch::x86_64::*;
    // SAFETY: SSE is part of x86-64, and the caller promises the values.
    unsafe {
        let [a, b, c, e] = rows.map(|row| _mm_loadu_ps(row));
        let (ab_low, ab_high) = (_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
        let (ce_low, ce_high) = (_mm_unpacklo_ps(c, e), _mm_unpackhi_ps(c, e));
        [
            _mm_movelh_ps(ab_low, ce_low),
            _mm_movehl_ps(ce_low, ab_low),
            _mm_movelh_ps(ab_high, ce_high),
            _mm_movehl_ps(ce_high, ab_high),
        ]
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transpose_four(block: &mut [f32], rows: [&[f32]; 4], origin: &[f32]) {
    use std::arch::x86_64::*;
    let d = origin.len();
    assert!(block.len() + 28 >= d * BLOCK && rows.iter().all(|row| row.len() == d));
    let mut j = 0;
    while j + 4 <= d {
        // SAFETY: SSE is part of x86-64. Each load reads four of the `d` values after `j`, and each
        // store writes four lanes of a feature below `d`, both checked above.
        unsafe {
            let turned = four_by_four(rows.map(|row| row.as_ptr().add(j)));
            for (feature, values) in turned.into_iter().enumerate() {
                let zero = _mm_set1_ps(*origin.as_ptr().add(j + feature));
                let to = block.as_mut_ptr().add((j + feature) * BLOCK);
                _mm_storeu_ps(to, _mm_sub_ps(values, zero));
            }
        }
        j += 4;
    }
    for j in j..d {
        for (lane, row) in rows.iter().enumerate() {
            block[j * BLOCK + lane] = row[j] - origin[j];
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn transpose_four(block: &mut [f32], rows: [&[f32]; 4], origin: &[f32]) {
    for (lane, row) in rows.iter().enumerate() {
        for (j, (value, origin)) in row.iter().zip(origin).enumerate() {
            block[j * BLOCK + lane] = value - origin;
        }
    }
}

/// Asks for the first of the picked rows before they are needed: rows that are picked here and there
/// come too late by themselves.
#[inline(always)]
pub(super) fn prefetch(rows: &[f32], picked: &[u32], d: usize) {
    #[cfg(target_arch = "x86_64")]
    for &row in &picked[..picked.len().min(BLOCK)] {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = row as usize * d;
        if let (Some(first), Some(last)) = (rows.get(start), rows.get(start + d - 1)) {
            // SAFETY: SSE is part of x86-64, and both are places within the rows.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(first).cast());
                _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(last).cast());
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (rows, picked, d);
}
