//! Texts of digits, as ids mostly are, in half of their bytes.
//!
//! A sixteenth, half a byte, stands for a digit or one of `a` to `e`; what else ids are made of takes two,
//! and any other letter of ASCII four. So a UUID takes some 21 bytes instead of 36.

/// Bytes of the longest text that is packed.
pub(super) const MOST_BYTES: usize = 63;

/// Room for the longest text that comes out again, and one letter more.
pub(super) const LONGEST: usize = 2 * MOST_BYTES + 1;

/// What one sixteenth stands for.
const FIRST: &[u8; 15] = b"0123456789abcde";

/// What another one stands for behind [`MORE`].
const SECOND: &[u8; 15] = b"f-_.:/oxvtrsniu";

/// Says that what follows is of [`SECOND`]. Twice, that the next two are the number of a letter, and at
/// the very end nothing.
const MORE: u8 = 15;

/// For each letter how many sixteenths it takes, and what they are, the first the highest.
const CODES: [(u8, u16); 128] = {
    let mut codes = [(0, 0); 128];
    let mut letter = 0;
    while letter < codes.len() {
        codes[letter] = (4, 0xff00 | letter as u16);
        letter += 1;
    }
    let mut at = 0;
    while at < FIRST.len() {
        codes[FIRST[at] as usize] = (1, at as u16);
        codes[SECOND[at] as usize] = (2, (MORE as u16) << 4 | at as u16);
        at += 1;
    }
    codes
};

/// What two sixteenths in a row stand for: up to two letters, how many, and how many sixteenths they took.
/// Of what takes four it is none.
const PAIRS: [([u8; 2], u8, u8); 256] = {
    let mut pairs = [([0; 2], 0, 0); 256];
    let mut byte = 0;
    while byte < pairs.len() {
        let (high, low) = (byte >> 4, byte & 0xf);
        pairs[byte] = match (high < FIRST.len(), low < FIRST.len()) {
            (true, true) => ([FIRST[high], FIRST[low]], 2, 2),
            (true, false) => ([FIRST[high], 0], 1, 1),
            (false, true) => ([SECOND[low], 0], 1, 2),
            (false, false) => ([0; 2], 0, 0),
        };
        byte += 1;
    }
    pairs
};

/// Packs a text behind other bytes, if it is shorter so; otherwise leaves them as they were.
pub(super) fn pack(bytes: &mut Vec<u8>, text: &str) -> bool {
    let start = bytes.len();
    let (mut open, mut n) = (0u64, 0);
    for letter in text.bytes() {
        let Some(&(length, code)) = CODES.get(usize::from(letter)) else {
            bytes.truncate(start);
            return false;
        };
        open = open << (4 * length) | u64::from(code);
        n += length;
        if n >= 8 {
            n -= 8;
            bytes.extend_from_slice(&((open >> (4 * n)) as u32).to_be_bytes());
        }
    }
    if n % 2 == 1 {
        open = open << 4 | u64::from(MORE);
        n += 1;
    }
    let rest = (open << (64 - 4 * n.max(1))).to_be_bytes();
    bytes.extend_from_slice(&rest[..usize::from(n) / 2]);
    let n_bytes = bytes.len() - start;
    let is_shorter = n_bytes < text.len() && n_bytes <= MOST_BYTES;
    if !is_shorter {
        bytes.truncate(start);
    }
    is_shorter
}

/// Spells what was packed. `None` of what never was.
#[inline]
pub(super) fn unpack<'s>(packed: &[u8], into: &'s mut [u8; LONGEST]) -> Option<&'s str> {
    let end = 2 * packed.len();
    // Behind the end there is nothing more.
    let byte = |at: usize| packed.get(at).copied().unwrap_or(MORE << 4 | MORE);
    let pair = |at: usize| match at % 2 {
        0 => byte(at / 2),
        _ => byte(at / 2) << 4 | byte(at / 2 + 1) >> 4,
    };
    let (mut at, mut n) = (0, 0);
    while at < end {
        let (letters, n_letters, n_taken) = PAIRS[usize::from(pair(at))];
        if n_taken == 0 {
            if at + 1 == end {
                break;
            }
            let letter = pair(at + 2);
            if at + 4 > end || !letter.is_ascii() {
                return None;
            }
            *into.get_mut(n)? = letter;
            (at, n) = (at + 4, n + 1);
            continue;
        }
        into.get_mut(n..n + 2)?.copy_from_slice(&letters);
        (at, n) = (at + usize::from(n_taken), n + usize::from(n_letters));
    }
    std::str::from_utf8(&into[..n]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use habitus_engine::domain::{Draws, Seed};

    fn packed(text: &str) -> Option<Vec<u8>> {
        let mut bytes = b"before".to_vec();
        let is_packed = pack(&mut bytes, text);
        let rest = bytes.strip_prefix(b"before").unwrap().to_vec();
        assert!(is_packed || rest.is_empty());
        is_packed.then_some(rest)
    }

    fn again(text: &str) -> Option<usize> {
        let packed = packed(text)?;
        assert_eq!(unpack(&packed, &mut [0; LONGEST]), Some(text));
        Some(packed.len())
    }

    #[test]
    fn ids_take_half() {
        // The bytes are stored: a change here is a change of the store's format.
        assert_eq!(packed("12ab").unwrap(), [0x12, 0xab]);
        assert_eq!(packed("f-012").unwrap(), [0xf0, 0xf1, 0x01, 0x2f]);
        assert_eq!(packed("Z0123456").unwrap(), [0xff, 0x5a, 0x01, 0x23, 0x45, 0x6f]);
        assert_eq!(again("123e4567-e89b-12d3-a456-426614174000"), Some(20));
        assert_eq!(again("ord_20231105-000731"), Some(12));
        assert_eq!(again("114-3941689-8772232"), Some(11));
        for text in ["", "7", "QWERTZ", "evt_QWx", "é123456789", &"1".repeat(127)] {
            assert_eq!(packed(text), None, "{text}");
        }
        assert_eq!(again(&"1".repeat(126)), Some(63));
    }

    #[test]
    fn texts_come_back_and_no_bytes_are_too_odd() {
        let mut draws = Draws::new(Seed(1));
        let letters: Vec<char> = ('\u{0}'..='\u{7f}').chain(['é', '𝄞']).collect();
        for round in 0..20_000 {
            // Ids of few letters and of many, and such as no id is made of.
            let some = match round % 3 {
                0 => &letters[48..58],
                1 => &letters[32..127],
                _ => &letters,
            };
            let n = draws.below(135);
            let text: String =
                (0..n).map(|_| some[draws.below(some.len() as u32) as usize]).collect();
            let n_bytes = again(&text);
            let is_number = round % 3 == 0 && (2..=126).contains(&n);
            assert!(!is_number || n_bytes == Some(n.div_ceil(2) as usize));
            let bytes: Vec<u8> =
                (0..draws.below(64)).map(|_| draws.below(256) as u8 | 0xf0).collect();
            if let Some(text) = unpack(&bytes, &mut [0; LONGEST]) {
                assert!(text.is_ascii() && text.len() <= 2 * bytes.len());
            }
        }
    }
}
