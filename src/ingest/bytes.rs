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
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

/// Takes a number that [`put_number`] wrote from the front.
#[inline]
pub(crate) fn take_number(bytes: &mut &[u8]) -> Option<i64> {
    // Most numbers take a byte.
    if let [byte @ ..0x80, rest @ ..] = *bytes {
        *bytes = rest;
        return Some(i64::from(byte >> 1) ^ -i64::from(byte & 1));
    }
    take_longer(bytes)
}

fn take_longer(bytes: &mut &[u8]) -> Option<i64> {
    let mut word = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        word |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((word >> 1) as i64 ^ -((word & 1) as i64));
        }
    }
    None
}

/// The length, and the text.
#[inline]
pub(crate) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_number(bytes, text.len() as i64);
    bytes.extend_from_slice(text.as_bytes());
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
