//! Which rows must be looked at again, and what is noted of those that were.

use super::Level;
use super::nearest::Found;
use super::sums::Move;
use std::ops::Range;

/// The label of a row that has none yet.
pub const NONE: u32 = u32::MAX;

/// More than the few roundings between drift and lead can do, relative to a number.
pub const ROUNDING: f32 = 4.0 * f32::EPSILON;

/// Picks the rows, `(n_rows,)`, whose leads are no more than their centers, and the others, have
/// moved, `(n_centers,)`.
pub fn used_up(level: Level, labels: &[u32], leads: &[f32], moved: &[f32], picked: &mut Vec<u32>) {
    assert!(labels.len() == leads.len() && !moved.is_empty());
    picked.clear();
    // Vectors are written whole, so the last one needs room beyond the rows.
    picked.reserve(labels.len() + WIDE);
    let to = picked.as_mut_ptr();
    // SAFETY: `Level` is what was found on this machine, or chosen of what is present. There is room
    // for every row, and both slices are as long.
    let n_picked = unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => pick_avx512(labels, leads, moved, to),
            _ => pick(0, labels, leads, moved, to, 0),
        }
    };
    // SAFETY: so many were written.
    unsafe { picked.set_len(n_picked) };
}

/// Rows that AVX-512 looks at together.
const WIDE: usize = 16;

/// Looks at the rows from `row` on, after `n_picked` were picked.
#[inline(always)]
unsafe fn pick(
    mut row: usize,
    labels: &[u32],
    leads: &[f32],
    moved: &[f32],
    to: *mut u32,
    mut n_picked: usize,
) -> usize {
    let last = moved.len() - 1;
    while row < labels.len() {
        // SAFETY: both slices are as long, the place of a label is held below the number of centers,
        // and the caller has room for every row.
        unsafe {
            let label = *labels.get_unchecked(row) as usize;
            let moved = *moved.get_unchecked(if label < last { label } else { last });
            *to.add(n_picked) = row as u32;
            // A lead that is no number picks its row too.
            let keeps = *leads.get_unchecked(row) > moved;
            n_picked = n_picked.wrapping_add(usize::from(!keeps));
        }
        row = row.wrapping_add(1);
    }
    n_picked
}

/// How far centers moved, where sixteen places are looked up at once. Up to thirty-two centers fit
/// into two registers, which is several times faster than memory.
#[cfg(target_arch = "x86_64")]
struct Table<'a> {
    all: &'a [f32],
    low: std::arch::x86_64::__m512,
    high: std::arch::x86_64::__m512,
}

#[cfg(target_arch = "x86_64")]
impl Table<'_> {
    #[target_feature(enable = "avx512f")]
    unsafe fn of(all: &[f32]) -> Table<'_> {
        let mut few = [0.0; 2 * WIDE];
        few.iter_mut().zip(all).for_each(|(few, all)| *few = *all);
        // SAFETY: the array holds two registers.
        let half = |half: usize| unsafe {
            std::arch::x86_64::_mm512_loadu_ps(few.as_ptr().add(half * WIDE))
        };
        Table { all, low: half(0), high: half(1) }
    }

    /// The values at places that are there.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn look_up(&self, places: std::arch::x86_64::__m512i) -> std::arch::x86_64::__m512 {
        use std::arch::x86_64::*;
        if self.all.len() <= 2 * WIDE {
            _mm512_permutex2var_ps(self.low, places, self.high)
        } else {
            // SAFETY: the caller promises that the places are there.
            unsafe { _mm512_i32gather_ps::<4>(places, self.all.as_ptr()) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn pick_avx512(labels: &[u32], leads: &[f32], moved: &[f32], to: *mut u32) -> usize {
    use std::arch::x86_64::*;
    let last = _mm512_set1_epi32((moved.len() - 1).min(i32::MAX as usize) as i32);
    let mut rows = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    // SAFETY: the caller promises the instruction set.
    let table = unsafe { Table::of(moved) };
    let (mut row, mut n_picked) = (0, 0);
    while row + WIDE <= labels.len() {
        // SAFETY: sixteen labels and leads follow, places are held below the number of centers, and
        // the caller has room for sixteen beyond what was picked.
        unsafe {
            let label = _mm512_loadu_si512(labels.as_ptr().add(row).cast());
            let place = _mm512_min_epu32(label, last);
            let moved = table.look_up(place);
            let lead = _mm512_loadu_ps(leads.as_ptr().add(row));
            let goes = !_mm512_cmp_ps_mask::<_CMP_GT_OQ>(lead, moved);
            let packed = _mm512_maskz_compress_epi32(goes, rows);
            _mm512_storeu_si512(to.add(n_picked).cast(), packed);
            n_picked += goes.count_ones() as usize;
        }
        rows = _mm512_add_epi32(rows, _mm512_set1_epi32(WIDE as i32));
        row += WIDE;
    }
    // SAFETY: as the caller promises.
    unsafe { pick(row, labels, leads, moved, to, n_picked) }
}

/// Notes what was found for the rows that were picked, and which of them move. A lead is kept larger
/// by what centers had moved before, and smaller by what roundings may have added; without bounds
/// there are no leads.
///
/// # Panics
/// Where a row is not there, or something was not found for each.
pub fn renew(
    level: Level,
    picked: &[u32],
    found: &Found,
    moved: &[f32],
    labels: &mut [u32],
    leads: &mut [f32],
    moves: &mut Vec<Move>,
) {
    let bounded = !leads.is_empty();
    assert!(found.labels.len() == picked.len());
    assert!(!bounded || leads.len() == labels.len() && found.leads.len() == picked.len());
    moves.clear();
    moves.reserve(picked.len());
    let to = moves.as_mut_ptr();
    // SAFETY: `Level` is what was found on this machine, or chosen of what is present. Rows and labels
    // are checked first, and there is room for every move.
    unsafe {
        let n_moves = match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if bounded => note_avx512(picked, found, moved, labels, leads, to),
            _ => {
                check(picked, labels.len(), found, moved);
                note(0..picked.len(), picked, found, moved, labels, leads, to, 0)
            }
        };
        moves.set_len(n_moves);
    }
}

/// Refuses rows and labels that are not there.
#[inline(always)]
fn check(picked: &[u32], n_rows: usize, found: &Found, moved: &[f32]) {
    let largest = |values: &[u32]| values.iter().fold(0, |most, &value| value.max(most)) as usize;
    assert!(picked.is_empty() || largest(picked) < n_rows && largest(&found.labels) < moved.len());
}

/// Notes the rows picked in a range, after `n_moves` that move.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the tail of a loop over the same slices")]
unsafe fn note(
    range: Range<usize>,
    picked: &[u32],
    found: &Found,
    moved: &[f32],
    labels: &mut [u32],
    leads: &mut [f32],
    to: *mut Move,
    mut n_moves: usize,
) -> usize {
    for i in range {
        // SAFETY: the caller has checked rows and labels, and has room for every move.
        unsafe {
            let row = *picked.get_unchecked(i);
            let label = *found.labels.get_unchecked(i);
            if !leads.is_empty() {
                let lead = *found.leads.get_unchecked(i);
                let moved = *moved.get_unchecked(label as usize);
                *leads.get_unchecked_mut(row as usize) =
                    (lead + moved) - ROUNDING * (lead.abs() + moved);
            }
            let own = labels.get_unchecked_mut(row as usize);
            let from = *own;
            *own = label;
            *to.add(n_moves) = Move { row, from, to: label };
            n_moves = n_moves.wrapping_add(usize::from(from != label));
        }
    }
    n_moves
}

/// Sixteen rows at a time where they follow each other, as they do while most are picked.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn note_avx512(
    picked: &[u32],
    found: &Found,
    moved: &[f32],
    labels: &mut [u32],
    leads: &mut [f32],
    to: *mut Move,
) -> usize {
    use std::arch::x86_64::*;
    let steps = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    check(picked, labels.len(), found, moved);
    // SAFETY: the caller promises the instruction set.
    let table = unsafe { Table::of(moved) };
    let (mut i, mut n_moves) = (0, 0);
    while i + WIDE <= picked.len() {
        let first = picked[i] as usize;
        // SAFETY: rows and labels are checked above, the caller has room for every move, and sixteen of
        // what was picked and found follow.
        unsafe {
            let rows = _mm512_loadu_si512(picked.as_ptr().add(i).cast());
            let next = _mm512_add_epi32(_mm512_set1_epi32(first as i32), steps);
            if _mm512_cmpeq_epi32_mask(rows, next) != u16::MAX {
                n_moves = note(i..i + WIDE, picked, found, moved, labels, leads, to, n_moves);
                i += WIDE;
                continue;
            }
            let new = _mm512_loadu_si512(found.labels.as_ptr().add(i).cast());
            let moved = table.look_up(new);
            let lead = _mm512_loadu_ps(found.leads.as_ptr().add(i));
            let size = _mm512_add_ps(_mm512_abs_ps(lead), moved);
            let less = _mm512_mul_ps(_mm512_set1_ps(ROUNDING), size);
            let kept = _mm512_sub_ps(_mm512_add_ps(lead, moved), less);
            _mm512_storeu_ps(leads.as_mut_ptr().add(first), kept);
            let own = labels.as_mut_ptr().add(first);
            let old = _mm512_loadu_si512(own.cast());
            let mut changed = _mm512_cmpneq_epi32_mask(old, new);
            while changed != 0 {
                let lane = changed.trailing_zeros() as usize;
                let (from, label) = (*own.add(lane), *found.labels.as_ptr().add(i + lane));
                *to.add(n_moves) = Move { row: (first + lane) as u32, from, to: label };
                n_moves += 1;
                changed &= changed - 1;
            }
            _mm512_storeu_si512(own.cast(), new);
        }
        i += WIDE;
    }
    // SAFETY: as the caller promises.
    unsafe { note(i..picked.len(), picked, found, moved, labels, leads, to, n_moves) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_picked_whose_leads_are_used_up() {
        let leads = [1.0, 3.0, f32::NAN, 2.0, f32::NEG_INFINITY].repeat(9);
        let labels = [0, 1, 0, 0, NONE].repeat(9);
        let expected: Vec<u32> = (0..45).filter(|row| row % 5 != 1).collect();
        for &level in Level::present() {
            let mut picked = Vec::new();
            used_up(level, &labels, &leads, &[2.0, 2.5], &mut picked);
            assert_eq!(picked, expected, "{level:?}");
        }
    }

    #[test]
    fn what_was_found_is_noted() {
        // Rows that follow each other, a gap, and some more.
        let picked: Vec<u32> = (0..40).chain(43..60).collect();
        let n = picked.len();
        let found = Found {
            labels: (0..n as u32).map(|i| i % 3 % 2).collect(),
            leads: (0..n).map(|i| i as f32 - 9.5).collect(),
        };
        let of = |level| {
            let (mut labels, mut leads, mut moves) = (vec![NONE; 60], vec![0.0; 60], Vec::new());
            labels[2] = 0;
            renew(level, &picked, &found, &[0.0, 2.0], &mut labels, &mut leads, &mut moves);
            (labels, leads, moves)
        };
        let (labels, leads, moves) = of(Level::Plain);
        assert_eq!((labels[1], labels[2], labels[41], labels[59]), (1, 0, NONE, 0));
        assert!(leads[1] < -6.5 && leads[1] > -6.501 && leads[41] == 0.0);
        assert_eq!(moves.len(), n - 1);
        assert_eq!(moves[1], Move { row: 1, from: NONE, to: 1 });
        for &level in Level::present() {
            assert_eq!(of(level), (labels.clone(), leads.clone(), moves.clone()), "{level:?}");
        }
    }
}
