//! How often each text came.

use std::collections::HashMap;

/// Up to so many different texts are found by a small table, which is faster than a map.
const FEW: usize = 64;

/// The table has two places for each, so that hardly any is looked for at more than one.
const N_PLACES: usize = 2 * FEW;

/// Counts of texts that are borrowed from the events.
#[derive(Debug)]
pub(super) struct Texts<'e> {
    few: Vec<Entry<'e>>,
    /// Where those stand among the few whose tags are spread to each place or shortly before it,
    /// counted from 1; 0 where there is none.
    places: [u8; N_PLACES],
    /// All of them, once they are more than few.
    many: HashMap<&'e str, u32>,
    total: u32,
}

#[derive(Debug)]
struct Entry<'e> {
    /// Differs only where the texts do, so that few texts are compared in full.
    tag: u64,
    text: &'e str,
    count: u32,
}

impl Entry<'_> {
    /// Whether it is of this text, whose tag is the same.
    #[inline]
    fn is_of(&self, text: &str) -> bool {
        // The tag of a short text holds all its bytes.
        self.text.len() == text.len() && (text.len() < 8 || self.text == text)
    }
}

impl<'e> Texts<'e> {
    /// Nothing yet, with room for so many different texts.
    pub fn with_room(n_texts: usize) -> Texts<'e> {
        Texts {
            few: Vec::with_capacity(n_texts),
            places: [0; N_PLACES],
            many: HashMap::new(),
            total: 0,
        }
    }

    /// Takes one more text.
    pub fn add(&mut self, text: &'e str) {
        self.total += 1;
        if !self.many.is_empty() {
            *self.many.entry(text).or_default() += 1;
            return;
        }
        let tag = tag(text);
        let mut place = spread(tag);
        while let Some(known) = usize::from(self.places[place]).checked_sub(1) {
            let entry = &mut self.few[known];
            if entry.tag == tag && entry.is_of(text) {
                entry.count += 1;
                return;
            }
            place = (place + 1) % N_PLACES;
        }
        if self.few.len() < FEW {
            self.few.push(Entry { tag, text, count: 1 });
            self.places[place] = self.few.len() as u8;
        } else {
            self.many.extend(self.few.drain(..).map(|entry| (entry.text, entry.count)));
            self.many.insert(text, 1);
        }
    }

    /// Number of different texts.
    pub fn distinct(&self) -> f64 {
        (self.few.len() + self.many.len()) as f64
    }

    /// Share of the commonest text among all; `None` of nothing.
    pub fn top_share(&self) -> Option<f64> {
        let few = self.few.iter().map(|entry| entry.count);
        let top = few.chain(self.many.values().copied()).max()?;
        Some(f64::from(top) / f64::from(self.total))
    }
}

/// A number made of the ends of a text and its length. Equal texts have equal numbers.
fn tag(text: &str) -> u64 {
    let bytes = text.as_bytes();
    match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(head), Some(tail)) => {
            let (head, tail) = (u64::from_le_bytes(*head), u64::from_le_bytes(*tail));
            head ^ tail.rotate_left(21) ^ bytes.len() as u64
        }
        // Most are so short that their ends, which overlap, are all of them.
        _ => match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            (Some(head), Some(tail)) => {
                u64::from(u32::from_le_bytes(*head)) << 32 | u64::from(u32::from_le_bytes(*tail))
            }
            _ => bytes.iter().fold(0, |tag, &byte| (tag << 8) | u64::from(byte)),
        },
    }
}

/// The first place of a tag.
#[inline]
fn spread(tag: u64) -> usize {
    (tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - N_PLACES.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_no_share() {
        let texts = Texts::with_room(0);
        assert_eq!((texts.distinct(), texts.top_share()), (0.0, None));
    }

    #[test]
    fn few_and_many_texts_are_counted_alike() {
        for n_texts in [1, 2, FEW - 1, FEW, FEW + 1, 3 * FEW] {
            let names: Vec<String> = (0..n_texts).map(|text| format!("text {text}")).collect();
            let mut texts = Texts::with_room(4);
            for round in 0..3 {
                names.iter().for_each(|name| texts.add(name));
                // The first comes twice in every round but the last.
                if round < 2 {
                    texts.add(&names[0]);
                }
            }
            assert_eq!(texts.distinct(), n_texts as f64);
            let share = 5.0 / (3.0 * n_texts as f64 + 2.0);
            assert_eq!(texts.top_share(), Some(share), "{n_texts}");
        }
    }

    #[test]
    fn texts_that_differ_in_the_middle_or_by_a_zero_byte_are_two() {
        let (a, b) = ("category/coat/category", "category/shoe/category");
        assert_eq!(tag(a), tag(b));
        let mut texts = Texts::with_room(0);
        [a, b, a, "\0x", "x", "", "\0"].into_iter().for_each(|text| texts.add(text));
        assert_eq!((texts.distinct(), texts.top_share()), (6.0, Some(2.0 / 7.0)));
    }
}
