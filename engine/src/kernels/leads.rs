//! Which rows must be looked at again, and what is noted of those that were.

use super::Level;
use super::block::ask_for;
use super::nearest::Found;
use super::sums::Moves;
use std::ops::Range;

/// The label of a row that has none yet.
pub const NONE: u32 = u32::MAX;

/// More than the few roundings between drift and lead can do, relative to a number.
pub const ROUNDING: f32 = 4.0 * f32::EPSILON;

/// How a row's label and its lead share 32 bits, the row's tag: labels take as many of the lowest as
/// they need, from what the lead's fraction can spare. So a lead is cut off towards zero, which makes
/// it less, or leaves it used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    label: u32,
}

impl Packing {
    /// Of so many centers. Leads are left out where they are not wanted, or labels leave no room.
    pub fn new(n_centers: usize, with_leads: bool) -> Packing {
        // All ones are left for a row without a label.
        let bits = usize::BITS - n_centers.leading_zeros();
        let fits = with_leads && bits < f32::MANTISSA_DIGITS - 1;
        Packing { label: if fits { (1 << bits) - 1 } else { u32::MAX } }
    }

    /// Whether tags have leads.
    pub fn has_leads(self) -> bool {
        self.label != u32::MAX
    }

    /// The tag of a row that has no label yet.
    pub fn unlabelled(self) -> u32 {
        self.without_lead(self.label)
    }

    /// The tag of a row whose lead is used up, whatever centers do.
    pub fn without_lead(self, label: u32) -> u32 {
        self.tag(label, f32::NEG_INFINITY)
    }

    /// The label of a tag that has one.
    pub fn label(self, tag: u32) -> u32 {
        tag & self.label
    }

    #[inline(always)]
    fn tag(self, label: u32, lead: f32) -> u32 {
        lead.to_bits() & !self.label | label
    }

    #[inline(always)]
    fn lead(self, tag: u32) -> f32 {
        f32::from_bits(tag & !self.label)
    }

    /// The label that a row had, or [`NONE`].
    #[inline(always)]
    fn label_before(self, tag: u32) -> u32 {
        let label = self.label(tag);
        if label == self.label { NONE } else { label }
    }
}

/// Picks the rows whose leads, in `tags`, `(n_rows,)`, are no more than their centers, and the others,
/// have moved, `(n_centers,)`.
pub fn used_up(level: Level, packing: Packing, tags: &[u32], moved: &[f32], picked: &mut Vec<u32>) {
    assert!(!moved.is_empty());
    picked.clear();
    // Vectors are written whole, so the last one needs room beyond the rows.
    picked.reserve(tags.len() + WIDE);
    let to = picked.as_mut_ptr();
    // SAFETY: `Level` is what was found on this machine, or chosen of what is present. There is room
    // for every row.
    let n_picked = unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => pick_avx512(packing, tags, moved, to),
            _ => pick(0, packing, tags, moved, to, 0),
        }
    };
    // SAFETY: so many were written.
    unsafe { picked.set_len(n_picked) };
}

/// Rows that AVX-512 looks at together.
const WIDE: usize = 16;

/// How many rows ahead of those that are looked at others are asked for: memory does not look beyond
/// a page by itself.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 32 * WIDE;

/// Looks at the rows from `row` on, after `n_picked` were picked.
#[inline(always)]
unsafe fn pick(
    mut row: usize,
    packing: Packing,
    tags: &[u32],
    moved: &[f32],
    to: *mut u32,
    mut n_picked: usize,
) -> usize {
    let last = moved.len() - 1;
    while row < tags.len() {
        // SAFETY: the row is there, the place of a label is held below the number of centers, and the
        // caller has room for every row.
        unsafe {
            let tag = *tags.get_unchecked(row);
            let moved = *moved.get_unchecked((packing.label(tag) as usize).min(last));
            *to.add(n_picked) = row as u32;
            // A lead that is no number picks its row too.
            let keeps = packing.lead(tag) > moved;
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
unsafe fn pick_avx512(packing: Packing, tags: &[u32], moved: &[f32], to: *mut u32) -> usize {
    use std::arch::x86_64::*;
    let last = _mm512_set1_epi32((moved.len() - 1).min(i32::MAX as usize) as i32);
    let of_label = _mm512_set1_epi32(packing.label as i32);
    let mut rows = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    // SAFETY: the caller promises the instruction set.
    let table = unsafe { Table::of(moved) };
    let (mut row, mut n_picked) = (0, 0);
    while row + WIDE <= tags.len() {
        // SAFETY: sixteen tags follow, places are held below the number of centers, and the caller has
        // room for sixteen beyond what was picked.
        unsafe {
            ask_for(tags, row + AHEAD);
            let tag = _mm512_loadu_si512(tags.as_ptr().add(row).cast());
            let place = _mm512_min_epu32(_mm512_and_si512(tag, of_label), last);
            let moved = table.look_up(place);
            let lead = _mm512_castsi512_ps(_mm512_andnot_si512(of_label, tag));
            let goes = !_mm512_cmp_ps_mask::<_CMP_GT_OQ>(lead, moved);
            let packed = _mm512_maskz_compress_epi32(goes, rows);
            _mm512_storeu_si512(to.add(n_picked).cast(), packed);
            n_picked += goes.count_ones() as usize;
        }
        rows = _mm512_add_epi32(rows, _mm512_set1_epi32(WIDE as i32));
        row += WIDE;
    }
    // SAFETY: as the caller promises.
    unsafe { pick(row, packing, tags, moved, to, n_picked) }
}

/// Notes what was found for the rows that were picked, and which of them move. A lead is kept larger
/// by what centers had moved before, and smaller by what roundings may have added.
///
/// # Panics
/// Where a row is not there, or something was not found for each.
pub fn renew(
    level: Level,
    packing: Packing,
    picked: &[u32],
    found: &Found,
    moved: &[f32],
    tags: &mut [u32],
    moves: &mut Moves,
) {
    assert!(found.labels.len() == picked.len());
    assert!(!packing.has_leads() || found.leads.len() == picked.len());
    let columns = [&mut moves.rows, &mut moves.from, &mut moves.to];
    let to = columns.map(|column| {
        column.clear();
        // Vectors are written whole, so the last one needs room beyond the rows.
        column.reserve(picked.len() + WIDE);
        column.as_mut_ptr()
    });
    // SAFETY: `Level` is what was found on this machine, or chosen of what is present. Rows and labels
    // are checked first, and there is room for every move.
    let n_moves = unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if packing.has_leads() => {
                note_avx512(packing, picked, found, moved, tags, to)
            }
            _ => {
                check(picked, tags.len(), found, moved);
                note(0..picked.len(), packing, picked, found, moved, tags, to, 0)
            }
        }
    };
    for column in [&mut moves.rows, &mut moves.from, &mut moves.to] {
        // SAFETY: so many were written.
        unsafe { column.set_len(n_moves) };
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
    packing: Packing,
    picked: &[u32],
    found: &Found,
    moved: &[f32],
    tags: &mut [u32],
    [rows, froms, tos]: [*mut u32; 3],
    mut n_moves: usize,
) -> usize {
    for i in range {
        // SAFETY: the caller has checked rows and labels, and has room for every move.
        unsafe {
            let row = *picked.get_unchecked(i);
            let label = *found.labels.get_unchecked(i);
            let tag = tags.get_unchecked_mut(row as usize);
            let from = packing.label_before(*tag);
            *tag = if packing.has_leads() {
                let lead = *found.leads.get_unchecked(i);
                let moved = *moved.get_unchecked(label as usize);
                packing.tag(label, (lead + moved) - ROUNDING * (lead.abs() + moved))
            } else {
                label
            };
            *rows.add(n_moves) = row;
            *froms.add(n_moves) = from;
            *tos.add(n_moves) = label;
            n_moves = n_moves.wrapping_add(usize::from(from != label));
        }
    }
    n_moves
}

/// Sixteen rows at a time. Tags are stored together where the rows follow each other, as they do while
/// most are picked.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn note_avx512(
    packing: Packing,
    picked: &[u32],
    found: &Found,
    moved: &[f32],
    tags: &mut [u32],
    to: [*mut u32; 3],
) -> usize {
    use std::arch::x86_64::*;
    let steps = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let of_label = _mm512_set1_epi32(packing.label as i32);
    check(picked, tags.len(), found, moved);
    // SAFETY: the caller promises the instruction set.
    let table = unsafe { Table::of(moved) };
    let (mut i, mut n_moves) = (0, 0);
    while i + WIDE <= picked.len() {
        // SAFETY: rows and labels are checked above, the caller has room for every move, and sixteen of
        // what was picked and found follow.
        unsafe {
            let here = picked.as_ptr().add(i);
            let first = *here as usize;
            let rows = _mm512_loadu_si512(here.cast());
            let label = _mm512_loadu_si512(found.labels.as_ptr().add(i).cast());
            let moved = table.look_up(label);
            let lead = _mm512_loadu_ps(found.leads.as_ptr().add(i));
            let size = _mm512_add_ps(_mm512_abs_ps(lead), moved);
            let less = _mm512_mul_ps(_mm512_set1_ps(ROUNDING), size);
            let kept = _mm512_castps_si512(_mm512_sub_ps(_mm512_add_ps(lead, moved), less));
            let new = _mm512_or_si512(_mm512_andnot_si512(of_label, kept), label);
            let next = _mm512_add_epi32(_mm512_set1_epi32(first as i32), steps);
            let old = if _mm512_cmpeq_epi32_mask(rows, next) == u16::MAX {
                let own = tags.as_mut_ptr().add(first);
                let old = _mm512_loadu_si512(own.cast());
                _mm512_storeu_si512(own.cast(), new);
                old
            } else {
                let (mut each, mut old) = ([0; WIDE], [0; WIDE]);
                _mm512_storeu_si512(each.as_mut_ptr().cast(), new);
                for lane in 0..WIDE {
                    let own = tags.as_mut_ptr().add(*here.add(lane) as usize);
                    old[lane] = *own;
                    *own = each[lane];
                }
                _mm512_loadu_si512(old.as_ptr().cast())
            };
            let from = _mm512_and_si512(old, of_label);
            let is_new = _mm512_cmpeq_epi32_mask(from, of_label);
            let from = _mm512_mask_mov_epi32(from, is_new, _mm512_set1_epi32(NONE as i32));
            let changed = _mm512_cmpneq_epi32_mask(from, label);
            for (to, of) in to.into_iter().zip([rows, from, label]) {
                let packed = _mm512_maskz_compress_epi32(changed, of);
                _mm512_storeu_si512(to.add(n_moves).cast(), packed);
            }
            n_moves += changed.count_ones() as usize;
        }
        i += WIDE;
    }
    // SAFETY: as the caller promises.
    unsafe { note(i..picked.len(), packing, picked, found, moved, tags, to, n_moves) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_keeps_the_label_and_hardly_less_of_the_lead() {
        for n_centers in [1, 2, 3, 8, 16, 255, 256, 70_000] {
            let packing = Packing::new(n_centers, true);
            assert!(packing.has_leads());
            assert_eq!(packing.label_before(packing.unlabelled()), NONE);
            let last = n_centers as u32 - 1;
            for lead in [0.0, 1.0, 3.3, 1e-30, 1e30] {
                let tag = packing.tag(last, lead);
                assert_eq!((packing.label(tag), packing.label_before(tag)), (last, last));
                let kept = packing.lead(tag);
                assert!(kept <= lead && kept >= lead * (1.0 - n_centers as f32 * 2.4e-7), "{kept}");
            }
            for used_up in [-3.3, f32::NEG_INFINITY, f32::NAN] {
                let kept = packing.lead(packing.tag(last, used_up));
                assert!(kept.is_nan() || kept <= 0.0, "{kept}");
            }
        }
        for packing in [Packing::new(8, false), Packing::new(1 << 22, true)] {
            assert!(!packing.has_leads());
            assert_eq!(packing.label(packing.without_lead(5)), 5);
            assert_eq!(packing.label_before(packing.unlabelled()), NONE);
        }
    }

    #[test]
    fn rows_are_picked_whose_leads_are_used_up() {
        let packing = Packing::new(2, true);
        let tags = [
            packing.tag(0, 1.0),
            packing.tag(1, 3.0),
            packing.tag(0, f32::NAN),
            packing.tag(0, 2.0),
            packing.unlabelled(),
        ]
        .repeat(9);
        let expected: Vec<u32> = (0..45).filter(|row| row % 5 != 1).collect();
        for &level in Level::present() {
            let mut picked = Vec::new();
            used_up(level, packing, &tags, &[2.0, 2.5], &mut picked);
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
        for with_leads in [true, false] {
            let packing = Packing::new(2, with_leads);
            let of = |level| {
                let (mut tags, mut moves) = (vec![packing.unlabelled(); 60], Moves::default());
                tags[2] = packing.without_lead(0);
                renew(level, packing, &picked, &found, &[0.0, 2.0], &mut tags, &mut moves);
                (tags, moves)
            };
            let (tags, moves) = of(Level::Plain);
            let label = |row: usize| packing.label_before(tags[row]);
            assert_eq!([label(1), label(2), label(41), label(59)], [1, 0, NONE, 0]);
            let lead = packing.lead(tags[1]);
            assert!(!with_leads || lead <= -6.5 && lead > -6.501, "{lead}");
            assert_eq!(moves.len(), n - 1);
            assert_eq!((moves.rows[1], moves.from[1], moves.to[1]), (1, NONE, 1));
            for &level in Level::present() {
                assert_eq!(of(level), (tags.clone(), moves.clone()), "{level:?}");
            }
        }
    }
}
