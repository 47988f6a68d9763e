//! Ids of customers that are quick to compare wherever they lie.

use std::cmp::Ordering;

/// An id with its first bytes as a number: most ids are told apart by it, without a look at the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Id<'i> {
    front: u128,
    pub text: &'i str,
}

const FRONT_BYTES: usize = size_of::<u128>();

impl<'i> Id<'i> {
    pub fn of(text: &'i str) -> Id<'i> {
        let mut front = [0; FRONT_BYTES];
        let n = text.len().min(FRONT_BYTES);
        front[..n].copy_from_slice(&text.as_bytes()[..n]);
        Id { front: u128::from_be_bytes(front), text }
    }
}

impl Ord for Id<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.front.cmp(&other.front).then_with(|| {
            let are_whole = self.text.len().max(other.text.len()) <= FRONT_BYTES;
            // Of those that end where the other one has a zero the shorter comes first.
            let rest = || self.text.cmp(other.text);
            if are_whole { self.text.len().cmp(&other.text.len()) } else { rest() }
        })
    }
}

impl PartialOrd for Id<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Id<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Id<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_the_order_of_their_texts() {
        let long = "0123456789abcdef";
        let mut texts = vec!["", "\0", "a", "a\0", "a\0\0", "ab", "b", "é", long];
        let longer = ["", "\0", "0", "1", "10"].map(|end| format!("{long}{end}"));
        texts.extend(longer.iter().map(String::as_str));
        for a in &texts {
            for b in &texts {
                assert_eq!(Id::of(a).cmp(&Id::of(b)), a.cmp(b), "{a:?} {b:?}");
                assert_eq!(Id::of(a) == Id::of(b), a == b);
            }
        }
    }
}
