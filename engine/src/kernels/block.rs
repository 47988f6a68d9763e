//! Rows laid out feature by feature, so that each lane is a row.

use super::lanes::Singles;

/// Rows in a block.
pub(super) const BLOCK: usize = 32;

/// Writes rows into `block`, `(n_features, BLOCK)`, moved so that `origin` becomes zero. Row `i` of the block is row
/// `picked[i]` of `rows`; lanes without a row are zero.
///
/// # Safety
/// The instruction set of `S` must be present, and every row that is picked must be there.
#[inline(always)]
pub(super) unsafe fn fill<S: Singles>(
    block: &mut [f32],
    rows: &[f32],
    picked: &[u32],
    origin: &[f32],
) {
    let d = origin.len();
    assert!(block.len() == d * BLOCK && picked.len() <= BLOCK);
    if picked.len() < BLOCK {
        block.fill(0.0);
    }
    let row = |lane: usize| rows.as_ptr().wrapping_add((picked[lane] as usize).wrapping_mul(d));
    let mut lane = 0;
    #[cfg(target_arch = "x86_64")]
    while S::WIDTH == SIXTEEN && lane + SIXTEEN <= picked.len() {
        let mut starts = [rows.as_ptr(); SIXTEEN];
        for (index, start) in starts.iter_mut().enumerate() {
            *start = row(lane + index);
        }
        // SAFETY: so many lanes mean that AVX-512 is present. Each pointer is that of a row, and lanes
        // stay below `BLOCK`.
        unsafe { transpose_sixteen(block, lane, starts, origin) };
        lane += SIXTEEN;
    }
    while lane + 4 <= picked.len() {
        let starts = [row(lane), row(lane + 1), row(lane + 2), row(lane + 3)];
        // SAFETY: as above.
        unsafe { transpose_four(block, lane, starts, origin) };
        lane += 4;
    }
    for (lane, picked) in picked.iter().enumerate().skip(lane) {
        let start = (*picked as usize).wrapping_mul(d);
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
///
/// # Safety
/// AVX-512 must be present. As many values as the origin has must follow each pointer, and the block
/// must have room for sixteen lanes after `lane` of as many features.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn transpose_sixteen(
    block: &mut [f32],
    lane: usize,
    starts: [*const f32; SIXTEEN],
    origin: &[f32],
) {
    use std::arch::x86_64::*;
    let d = origin.len();
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
        for (index, start) in starts.iter().enumerate() {
            // SAFETY: the caller promises a value for each feature.
            block[j * BLOCK + lane + index] = unsafe { *start.add(j) } - zero;
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

/// # Safety
/// As of `transpose_sixteen`, for four lanes and any instruction set.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn transpose_four(block: &mut [f32], lane: usize, starts: [*const f32; 4], origin: &[f32]) {
    use std::arch::x86_64::*;
    let d = origin.len();
    let mut j = 0;
    while j + 4 <= d {
        // SAFETY: SSE is part of x86-64. Each load reads four of the `d` values after `j`, and each
        // store writes four lanes of a feature below `d`, as the caller promises.
        unsafe {
            let turned = four_by_four(starts.map(|start| start.add(j)));
            for (feature, values) in turned.into_iter().enumerate() {
                let zero = _mm_set1_ps(*origin.as_ptr().add(j + feature));
                let to = block.as_mut_ptr().add((j + feature) * BLOCK + lane);
                _mm_storeu_ps(to, _mm_sub_ps(values, zero));
            }
        }
        j += 4;
    }
    for (j, zero) in origin.iter().enumerate().skip(j) {
        for (index, start) in starts.iter().enumerate() {
            // SAFETY: the caller promises a value for each feature.
            block[j * BLOCK + lane + index] = unsafe { *start.add(j) } - zero;
        }
    }
}

/// # Safety
/// As many values as the origin has must follow each pointer.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn transpose_four(block: &mut [f32], lane: usize, starts: [*const f32; 4], origin: &[f32]) {
    for (index, start) in starts.iter().enumerate() {
        for (j, zero) in origin.iter().enumerate() {
            // SAFETY: the caller promises a value for each feature.
            block[j * BLOCK + lane + index] = unsafe { *start.add(j) } - zero;
        }
    }
}

/// Asks for the first of the picked rows before they are needed. Memory is not fast enough by itself:
/// rows here and there are no pattern, and one that is ends with each page.
#[inline(always)]
pub(super) fn prefetch(rows: &[f32], picked: &[u32], d: usize) {
    if let Some(steps @ [first, .., last]) = picked.get(..BLOCK) {
        let at = |row: u32| (row as usize).wrapping_mul(d);
        if last.wrapping_sub(*first) as usize == BLOCK - 1 {
            // They follow each other.
            (0..BLOCK * d).step_by(LINE).for_each(|value| ask_for(rows, at(*first) + value));
        } else {
            steps.iter().for_each(|&row| ask_for_row(rows, at(row), d));
        }
    }
}

/// Values that memory brings at a time.
const LINE: usize = 16;

/// Asks for a row that begins at a place.
#[inline(always)]
pub(super) fn ask_for_row(rows: &[f32], start: usize, d: usize) {
    ask_for(rows, start);
    ask_for(rows, start.wrapping_add(d - 1));
}

/// Asks memory for what will be read soon.
#[inline(always)]
pub(super) fn ask_for<T>(values: &[T], place: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64. Nothing is read, so that any address may be asked for.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, place);
}
