//! Numbers and texts as bytes: what rows that wait on disk, and lines that are stored, are made of.
//!
//! What is taken stood at the front of the bytes and is gone from them. `None` says that the bytes
//! end too soon, or are none that were put so.

/// Takes one byte from the front.
pub(crate) fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (&byte, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(byte)
}

/// LEB128 of the zigzag.
#[inline]
pub(crate) fn put_number(bytes: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    // Most numbers are short. Which length they have is hard to foresee, so that nothing asks.
    if rest < 1 << 28 {
        let n_more = [1 << 7, 1 << 14, 1 << 21].map(|limit| u32::from(rest >= limit));
        let n_more: u32 = n_more.iter().sum();
        let goes_on = 0x0080_8080_8080 & !(u64::MAX << (8 * n_more));
        put_word(bytes, spread(rest) | goes_on, n_more as usize + 1);
        return;
    }
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

/// Appends the lowest bytes of a word, by a write of all of them.
#[inline]
fn put_word(bytes: &mut Vec<u8>, word: u64, n_bytes: usize) {
    let end = bytes.len() + n_bytes;
    bytes.extend_from_slice(&word.to_le_bytes());
    bytes.truncate(end);
}

/// Seven bits to a byte, of at most 28.
#[inline]
fn spread(bits: u64) -> u64 {
    let twos = (bits & 0x3fff) | (bits & 0x0fff_c000) << 2;
    (twos & 0x007f_007f) | (twos & 0x3f80_3f80) << 1
}

/// The other way round; the highest bit of each byte does not matter.
#[inline]
fn close(bytes: u64) -> u64 {
    let twos = (bytes & 0x007f_007f_007f_007f) | (bytes & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = (twos & 0x0000_3fff_0000_3fff) | (twos & 0x3fff_0000_3fff_0000) >> 2;
    (fours & 0x0fff_ffff) | (fours & 0x0fff_ffff_0000_0000) >> 4
}

/// Takes a number that [`put_number`] wrote from the front.
#[inline]
pub(crate) fn take_number(bytes: &mut &[u8]) -> Option<i64> {
    // Most numbers take a byte.
    if let [byte @ ..0x80, rest @ ..] = *bytes {
        *bytes = rest;
        return Some(signed(u64::from(*byte)));
    }
    let word = bytes.first_chunk().map(|word| u64::from_le_bytes(*word));
    let ends = word.map_or(0, |word| !word & 0x8080_8080_8080_8080);
    if ends == 0 {
        return take_longer(bytes);
    }
    let n_bits = ends.trailing_zeros() + 1;
    *bytes = bytes.get(n_bits as usize / 8..)?;
    Some(signed(close(word? & (u64::MAX >> (u64::BITS - n_bits)))))
}

/// The number whose zigzag this is.
#[inline]
fn signed(zigzag: u64) -> i64 {
    (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)
}

fn take_longer(bytes: &mut &[u8]) -> Option<i64> {
    let mut word = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        word |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(signed(word));
        }
    }
    None
}

/// The length, and the text.
#[inline]
pub(crate) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let text = text.as_bytes();
    if text.len() < 8 {
        // Length and text in one word.
        put_word(bytes, short_word(text) << 8 | (text.len() as u64) << 1, text.len() + 1);
        return;
    }
    put_number(bytes, text.len() as i64);
    bytes.extend_from_slice(text);
}

/// The bytes of a text of at most eight, the first lowest.
#[inline]
fn short_word(text: &[u8]) -> u64 {
    // By its ends, which overlap.
    match (text.first_chunk(), text.last_chunk()) {
        (Some(head), Some(tail)) => {
            let (head, tail) = (u32::from_le_bytes(*head), u32::from_le_bytes(*tail));
            u64::from(head) | u64::from(tail) << (8 * (text.len() - 4))
        }
        _ => text.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

/// Passes over a text without looking into it.
pub(crate) fn skip_text(bytes: &mut &[u8]) -> Option<()> {
    take_bytes(bytes).map(|_| ())
}

/// Takes a text that [`put_text`] wrote from the front.
#[inline]
pub(crate) fn take_text<'b>(bytes: &mut &'b [u8]) -> Option<&'b str> {
    std::str::from_utf8(take_bytes(bytes)?).ok()
}

/// The same, as bytes of which nobody has looked whether they are a text.
#[inline]
pub(crate) fn take_bytes<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(take_number(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stores hold them, so they stay what they are.
    #[test]
    fn numbers_of_every_length_are_leb128_of_their_zigzag() {
        for bits in 0..64 {
            let power = 1i64 << bits;
            for number in [power, power.wrapping_sub(1), power.wrapping_neg()] {
                let mut expected = Vec::new();
                let mut rest = (number.wrapping_shl(1) ^ (number >> 63)) as u64;
                while rest >= 0x80 {
                    expected.push(rest as u8 | 0x80);
                    rest >>= 7;
                }
                expected.push(rest as u8);
                let mut bytes = Vec::new();
                put_number(&mut bytes, number);
                assert_eq!(bytes, expected, "{number}");
                for more in [0, 9] {
                    bytes.resize(expected.len() + more, 0xff);
                    let mut rest = bytes.as_slice();
                    assert_eq!((take_number(&mut rest), rest.len()), (Some(number), more));
                }
            }
        }
    }

    #[test]
    fn texts_are_their_length_and_their_bytes() {
        for length in 0..40 {
            let text: String = ('a'..='z').cycle().take(length).collect();
            let mut bytes = vec![7];
            put_text(&mut bytes, &text);
            assert_eq!(bytes, [&[7, 2 * length as u8], text.as_bytes()].concat());
            assert_eq!(take_text(&mut &bytes[1..]), Some(text.as_str()));
        }
    }

    #[test]
    fn numbers_and_texts_come_back_from_no_more_bytes_than_they_took() {
        let numbers = [0, 1, -1, 63, 64, -64, -65, 1 << 53, i64::MAX, i64::MIN];
        let mut bytes = Vec::new();
        for number in numbers {
            put_number(&mut bytes, number);
            put_text(&mut bytes, &"é".repeat(number.unsigned_abs() as usize % 100));
        }
        for end in 0..bytes.len() {
            let mut rest = &bytes[..end];
            while take_number(&mut rest).is_some() && take_text(&mut rest).is_some() {}
        }
        let mut rest = bytes.as_slice();
        for number in numbers {
            assert_eq!(take_number(&mut rest), Some(number));
            assert!(take_text(&mut rest).is_some());
        }
        assert_eq!(take_byte(&mut rest), None);
        // A length below zero, and a number that never ends.
        assert_eq!(take_text(&mut [1, b'x'].as_slice()), None);
        assert_eq!(take_number(&mut [0xff; 11].as_slice()), None);
    }
}
