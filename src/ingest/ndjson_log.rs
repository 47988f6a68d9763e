//! A log of JSON objects, one a line, so that a bad line costs only itself.
//!
//! Numbers keep the digits they are written with. A line may lack a column; a file in which no line
//! has one that every log needs is refused.

use super::rows::RowVisitor;
use super::stream::{self, BUFFER_BYTES};
use super::{Columns, Example, IngestError, Source, excerpt};
use habitus_engine::domain::{RawValue as Field, Rejection};
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

/// The longest line that is read whole. What is longer is no event, and is cut, so that it does not
/// fit into an object any more.
const MAX_LINE_BYTES: u64 = 1 << 24;

/// How many names are kept for the message that a column is missing.
const MAX_PRESENT: usize = 64;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The text of each mapped column in one line; `None` where it is absent or null.
type Texts<'l> = Vec<Option<Cow<'l, str>>>;

/// Reads a value, as it is written in its line, as text.
type ReadValue = fn(&str) -> Result<Option<Cow<'_, str>>, Rejection>;

/// What is wanted of the lines of a file.
pub(super) struct Wanted<'c> {
    /// The mapped columns, each once.
    pub(super) names: &'c [String],
    /// The columns that some line has to have, with their fields.
    pub(super) required: &'c [(&'static str, &'c str)],
    pub(super) value: ReadValue,
}

/// Shows the rows of one source, in their order.
///
/// # Errors
/// [`IngestError`] where the file cannot be read, is empty, or lacks a column that every log needs,
/// and the first error of the visitor.
pub(super) fn read<V: RowVisitor>(
    source: &Source,
    columns: &Columns,
    visitor: &mut V,
    progress: &mut dyn FnMut(u64),
) -> Result<(), V::Error> {
    let (names, required) = (columns.names(), columns.required());
    let layout = columns.locate(&names, &source.name())?;
    let wanted = Wanted { names: &names, required: &required, value: text };
    lines(source, progress, &wanted, |texts, example| match texts {
        Ok(texts) => {
            let value = |place: usize| texts[place].as_deref().map(Field::Text);
            visitor.visit(Ok(&layout.raw_of(value)), example)
        }
        Err(rejection) => visitor.visit(Err(rejection), example),
    })
}

/// Reads one source line by line. `take` sees the texts of the wanted columns, in their order, or
/// why a line has none: [`Rejection::Ragged`] or [`Rejection::NotUtf8`].
///
/// # Errors
/// [`IngestError`] where the file cannot be read, is empty, or lacks a required column, and the
/// first error of `take`.
pub(super) fn lines<F, E>(
    source: &Source,
    progress: &mut dyn FnMut(u64),
    wanted: &Wanted<'_>,
    mut take: F,
) -> Result<(), E>
where
    F: FnMut(Result<Texts<'_>, Rejection>, &dyn Fn() -> Example) -> Result<(), E>,
    E: From<IngestError>,
{
    let file = source.name();
    let failed = |source: io::Error| IngestError::Io { file: file.clone(), source };
    let mut input = BufReader::with_capacity(BUFFER_BYTES, stream::open(source, progress)?);
    let mut keys =
        Keys { names: wanted.names, awaited: wanted.required.to_vec(), present: BTreeSet::new() };
    let mut is_empty = true;
    let mut bytes = Vec::new();
    let mut line = 0;
    while next_line(&mut input, &mut bytes).map_err(failed)? {
        line += 1;
        let mut record = bytes.as_slice();
        if line == 1 {
            record = record.strip_prefix(BYTE_ORDER_MARK).unwrap_or(record);
        }
        if record.trim_ascii().is_empty() {
            continue;
        }
        is_empty = false;
        let example = || Example { file: file.clone(), line, text: excerpt::line(record) };
        take(texts(record, &mut keys, wanted.value), &example)?;
    }
    if is_empty {
        return Err(IngestError::Empty { file }.into());
    }
    match keys.awaited.first() {
        None => Ok(()),
        Some(&(field, column)) => Err(IngestError::MissingColumn {
            file,
            field,
            column: column.to_owned(),
            present: keys.present.iter().map(|name| excerpt::printable(name)).collect(),
        }
        .into()),
    }
}

/// Reads the next line, with its end; `false` after the last.
fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let n_bytes = input.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', line)?;
    if n_bytes as u64 == MAX_LINE_BYTES && !line.ends_with(b"\n") {
        input.skip_until(b'\n')?;
    }
    Ok(n_bytes > 0)
}

/// The text of each mapped column in one line.
fn texts<'l>(line: &'l [u8], keys: &mut Keys<'_>, read: ReadValue) -> Result<Texts<'l>, Rejection> {
    let line = std::str::from_utf8(line).map_err(|_| Rejection::NotUtf8)?;
    let mut json = serde_json::Deserializer::from_str(line);
    let values = json.deserialize_map(keys).map_err(|_| Rejection::Ragged)?;
    json.end().map_err(|_| Rejection::Ragged)?;
    values.into_iter().map(|value| value.map_or(Ok(None), |value| read(value.get()))).collect()
}

/// A value as text: a string without its quotes, a number as it is written, nothing for null.
pub(super) fn text(value: &str) -> Result<Option<Cow<'_, str>>, Rejection> {
    match value.as_bytes() {
        [b'"', .., b'"'] if !value.contains('\\') => {
            Ok(Some(Cow::Borrowed(&value[1..value.len() - 1])))
        }
        [b'"', ..] => match serde_json::from_str(value) {
            Ok(text) => Ok(Some(Cow::Owned(text))),
            Err(_) => Err(Rejection::Ragged),
        },
        [b'-' | b'0'..=b'9', ..] => Ok(Some(Cow::Borrowed(value))),
        b"null" => Ok(None),
        _ => Err(Rejection::Ragged),
    }
}

/// The mapped columns, and which of the necessary ones no line has had yet.
struct Keys<'c> {
    names: &'c [String],
    awaited: Vec<(&'static str, &'c str)>,
    present: BTreeSet<String>,
}

impl Keys<'_> {
    /// The place of a name among the mapped columns.
    fn place(&mut self, name: &str) -> Option<usize> {
        if !self.awaited.is_empty() {
            self.awaited.retain(|(_, column)| *column != name);
            if self.present.len() < MAX_PRESENT {
                self.present.insert(name.to_owned());
            }
        }
        self.names.iter().position(|column| column == name)
    }
}

/// Reads an object: the values of the mapped columns, as they are written.
impl<'de> Visitor<'de> for &mut Keys<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values: Vec<Option<&'de RawValue>> = vec![None; self.names.len()];
        while let Some(place) = map.next_key_seed(Key(&mut *self))? {
            match place {
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some(place) => {
                    if values[place].replace(map.next_value()?).is_some() {
                        return Err(de::Error::custom("a mapped column stands twice in a line"));
                    }
                }
            }
        }
        Ok(values)
    }
}

/// Reads a key, without a copy of it.
struct Key<'k, 'c>(&'k mut Keys<'c>);

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Option<usize>, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_, '_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0.place(name))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{as_of, counts, log_in, validation};
    use super::super::{IngestError, Log};
    use super::*;
    use std::fs;

    fn log(text: impl AsRef<[u8]>) -> Result<Log, IngestError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.ndjson");
        fs::write(&path, text).unwrap();
        log_in(&path, &mut |_| ())
    }

    const ROW: &str = r#"{"id":"1","date":"1997-01-01","amount":5}"#;

    #[test]
    fn a_faulty_line_costs_only_itself() {
        let faulty = [
            r#"{"id":"1","date":"1997-01-01","amount":true}"#,
            r#"{"id":["1"],"date":"1997-01-01","amount":5}"#,
            r#"{"id":"1","date":"1997-01-01","amount":{}}"#,
            r#"{"id":"1","date":"1997-01-01","amount":5,"id":"2"}"#,
            r#"{"id":"\ud800","date":"1997-01-01","amount":5}"#,
            r#"{"id":"1","date":"1997-01-01","amount":5"#,
            r#"{"id":"1","date":"1997-01-01","amount":5} {}"#,
            r#"{"id":"1","date":"1997-01-01","amount":05}"#,
            r#"["1","1997-01-01",5]"#,
            "1,1997-01-01,5",
        ];
        let text = format!("{ROW}\n{}\n{ROW}", faulty.join("\n"));
        let end = as_of("2020-01-01");
        let counts = counts(&log(&text).unwrap(), end);
        assert_eq!((counts.accepted, counts.rejected[&Rejection::Ragged]), (2, 10));
    }

    #[test]
    fn lines_are_counted_with_the_blank_ones() {
        let mut text = format!("\u{feff}{ROW}\r\n\r\n \n").into_bytes();
        text.extend_from_slice(b"{\"id\":\"\xff\"}\n[]\n");
        let examples =
            validation(&log(text).unwrap(), as_of("2020-01-01")).account.rejected_examples;
        assert_eq!(examples[&Rejection::NotUtf8][0].line, 4);
        let ragged = &examples[&Rejection::Ragged][0];
        assert_eq!((ragged.line, ragged.text.as_str()), (5, "[]"));
    }

    #[test]
    fn null_and_missing_are_absent() {
        let text = format!(
            "{ROW}\n{}\n{}\n",
            r#"{"id":null,"date":"1997-01-01","amount":5}"#, r#"{"id":"1","date":"1997-01-01"}"#
        );
        let counts = counts(&log(text).unwrap(), as_of("2020-01-01"));
        assert_eq!(counts.rejected[&Rejection::MissingCustomer], 1);
        assert_eq!(counts.rejected[&Rejection::MissingAmount], 1);
    }

    #[test]
    fn texts_are_unescaped_and_numbers_keep_their_digits() {
        for (value, expected) in [
            ("12.10", Some("12.10")),
            ("-1e3", Some("-1e3")),
            ("123456789012345678901234567890", Some("123456789012345678901234567890")),
            ("null", None),
            (r#""""#, Some("")),
            (r#""a b""#, Some("a b")),
            (r#""\"\u00e9\\""#, Some("\"é\\")),
        ] {
            assert_eq!(text(value).unwrap().as_deref(), expected, "{value}");
        }
        assert_eq!(text("true"), Err(Rejection::Ragged));
    }

    #[test]
    fn a_column_that_no_line_has_is_missing() {
        let error = log("{\"id\":1,\"day\":\"1997-01-01\"}\n{\"amount\":null}\n").unwrap_err();
        match error {
            IngestError::MissingColumn { field: "time", column, present, .. } => {
                assert_eq!((column.as_str(), present.join(" ")), ("date", "amount day id".into()));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(log("id,date,amount\n"), Err(IngestError::MissingColumn { .. })));
    }

    #[test]
    fn a_line_beyond_the_limit_is_one_ragged_row() {
        let long = format!("{{\"x\":\"{}\"}}", "x".repeat(MAX_LINE_BYTES as usize));
        let log = log(format!("{ROW}\n{long}\n{ROW}\n")).unwrap();
        let seen = counts(&log, as_of("2020-01-01"));
        assert_eq!((seen.rows, seen.accepted), (3, 2));
        assert_eq!(
            validation(&log, as_of("2020-01-01")).account.rejected_examples[&Rejection::Ragged][0]
                .line,
            2
        );
    }
}
