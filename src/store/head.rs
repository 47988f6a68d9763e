//! The records of one customer: the head, which most customers need no more than, and further chunks.
//!
//! Each begins with a checksum of the rest and of whose it is, so that what a disk made of it, or put
//! in its place, is noticed before it is answered with.

use crate::ingest::bytes::{put_number, take_number};

/// A chunk of lines that is longer takes no more of them. It is what one more line costs a customer
/// of many: the chunk is written anew. With its id it shall fit into a page of 4 KiB.
pub const CHUNK_BYTES: usize = 3 << 10;

/// Stands for the head where a further chunk has its number.
const HEAD: u32 = u32::MAX;

const HAS_ABOUT: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// What is known of a customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<'b> {
    /// The store's sequence before the customer's first record.
    pub first_sequence: u64,
    /// Further chunks of lines.
    pub n_more: u32,
    /// What is told of the customer besides events ([`super::About`]).
    pub about: Option<&'b [u8]>,
    /// The first chunk of lines.
    pub lines: &'b [u8],
}

impl<'b> Head<'b> {
    /// Of somebody of whom nothing is in the records.
    pub fn new(first_sequence: u64) -> Head<'b> {
        Head { first_sequence, n_more: 0, about: None, lines: &[] }
    }

    /// Reads the record of a customer; `None` where it is damaged, or somebody else's.
    pub fn take(customer: &str, record: &'b [u8]) -> Option<Head<'b>> {
        let (&flags, mut rest) = unsealed(customer, HEAD, record)?.split_first()?;
        let first_sequence = u64::try_from(take_number(&mut rest)?).ok()?;
        let n_more = u32::try_from(take_number(&mut rest)?).ok()?;
        let about = if flags & HAS_ABOUT == 0 {
            None
        } else {
            let length = usize::try_from(take_number(&mut rest)?).ok()?;
            let (about, lines) = rest.split_at_checked(length)?;
            rest = lines;
            Some(about)
        };
        Some(Head { first_sequence, n_more, about, lines: rest })
    }

    /// The same as a record of a customer.
    pub fn record(&self, customer: &str) -> Vec<u8> {
        let about = self.about.unwrap_or_default();
        let mut record = Vec::with_capacity(24 + about.len() + self.lines.len());
        record.extend_from_slice(&[0; CHECKSUM_BYTES]);
        record.push(if self.about.is_some() { HAS_ABOUT } else { 0 });
        put_number(&mut record, self.first_sequence as i64);
        put_number(&mut record, i64::from(self.n_more));
        if self.about.is_some() {
            put_number(&mut record, about.len() as i64);
            record.extend_from_slice(about);
        }
        record.extend_from_slice(self.lines);
        seal(customer, HEAD, &mut record);
        record
    }
}

/// A customer's further chunk of lines as a record.
pub fn chunk_record(customer: &str, number: u32, lines: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(CHECKSUM_BYTES + lines.len());
    record.extend_from_slice(&[0; CHECKSUM_BYTES]);
    record.extend_from_slice(lines);
    seal(customer, number, &mut record);
    record
}

/// The lines of a customer's further chunk; `None` where the checksum does not vouch for them.
pub fn chunk_lines<'b>(customer: &str, number: u32, record: &'b [u8]) -> Option<&'b [u8]> {
    unsealed(customer, number, record)
}

fn unsealed<'b>(customer: &str, number: u32, record: &'b [u8]) -> Option<&'b [u8]> {
    let (checksum, rest) = record.split_first_chunk::<CHECKSUM_BYTES>()?;
    (checksum_of(customer, number, rest) == u32::from_le_bytes(*checksum)).then_some(rest)
}

fn seal(customer: &str, number: u32, record: &mut [u8]) {
    let (checksum, rest) = record.split_at_mut(CHECKSUM_BYTES);
    checksum.copy_from_slice(&checksum_of(customer, number, rest).to_le_bytes());
}

fn checksum_of(customer: &str, number: u32, rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(rest);
    hasher.update(&number.to_le_bytes());
    hasher.update(customer.as_bytes());
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_a_flipped_bit_does_not() {
        for about in [None, Some(&b"told"[..]), Some(&b""[..])] {
            let head = Head { first_sequence: 1 << 40, n_more: 3, about, lines: b"lines" };
            let mut record = head.record("ann");
            assert_eq!(Head::take("ann", &record), Some(head));
            for bit in 0..record.len() * 8 {
                record[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Head::take("ann", &record), None, "bit {bit}");
                record[bit / 8] ^= 1 << (bit % 8);
            }
            for end in 0..record.len() {
                assert_eq!(Head::take("ann", &record[..end]), None);
            }
        }
        let chunk = chunk_record("ann", 7, b"more");
        assert_eq!(chunk_lines("ann", 7, &chunk), Some(&b"more"[..]));
        assert_eq!(chunk_lines("ann", 6, &chunk), None);
        assert_eq!(chunk_lines("anna", 7, &chunk), None);
    }
}
