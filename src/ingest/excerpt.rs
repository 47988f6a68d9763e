//! Foreign text made fit for a message: one line, short, no control characters.

use csv::ByteRecord;
use habitus_engine::domain::RawValue;

/// How many characters of a row or a column name a message shows.
const LIMIT: usize = 120;

/// A text without control characters, which could break a line or a terminal, cut to the limit.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::new();
    // One character may become several, but never fewer, so more than the limit is not needed.
    for character in text.chars().take(LIMIT + 1) {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    match shown.char_indices().nth(LIMIT) {
        None => shown,
        Some(_) => shown.chars().take(LIMIT - 1).chain(['…']).collect(),
    }
}

/// The start of a line; what is not UTF-8 is replaced.
pub(super) fn line(bytes: &[u8]) -> String {
    // No character takes more than four bytes, so this much fills the limit.
    let start = &bytes[..bytes.len().min(4 * (LIMIT + 1))];
    printable(String::from_utf8_lossy(start).trim_end())
}

/// A row as its file has it, nearly: what is not UTF-8 is replaced, and quotes stand only where the
/// fields need them.
pub(super) fn row(record: &ByteRecord) -> String {
    let mut text = String::new();
    for (place, field) in record.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        // A stray quote can make one field of a whole file; its start is all that is shown.
        let start = &field[..field.len().min(4 * LIMIT)];
        let start = String::from_utf8_lossy(start);
        if start.contains([',', '"', '\n', '\r']) {
            text.push('"');
            text.push_str(&start.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(&start);
        }
        if text.len() > 4 * LIMIT {
            break;
        }
    }
    printable(&text)
}

/// Fields that came from no file, as a row.
pub(super) fn fields<'f>(fields: impl Iterator<Item = RawValue<'f>>) -> String {
    row(&fields.map(|field| field.text().into_owned()).collect::<Vec<_>>().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_shown_on_one_line() {
        let record = ByteRecord::from(vec!["7", "a,b", "c\nd", "\u{1b}[31m"]);
        assert_eq!(row(&record), "7,\"a,b\",\"c\\nd\",\\u{1b}[31m");
        assert_eq!(row(&ByteRecord::from(vec![&b"\xff"[..], &b"x"[..]])), "\u{fffd},x");
    }

    #[test]
    fn a_line_is_shown_without_its_end() {
        assert_eq!(line(b"{\"id\": 7}\r\n"), "{\"id\": 7}");
        assert_eq!(line(b"\xff\n"), "\u{fffd}");
        assert_eq!(line("é".repeat(1000).as_bytes()).chars().count(), LIMIT);
    }

    #[test]
    fn a_long_row_is_cut() {
        let long = "é".repeat(1000);
        let shown = row(&ByteRecord::from(vec!["7", &long]));
        assert_eq!(shown.chars().count(), LIMIT);
        assert!(shown.ends_with('…'));
        assert_eq!(printable(&"x".repeat(LIMIT)).chars().count(), LIMIT);
        assert!(!printable(&"x".repeat(LIMIT)).ends_with('…'));
    }
}
