//! Which column of a log holds which field.

use super::IngestError;
use super::excerpt;
use csv::ByteRecord;
use habitus_engine::domain::{RawEvent, RawValue, Rejection};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;

/// The names of a log's columns, field by field. A field that is not mapped is absent from every
/// row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    pub customer: String,
    pub time: String,
    pub amount: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discount: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
}

/// How many fields a row has.
const N_FIELDS: usize = 13;

/// Where the fields stand in the rows of one file, in the order of [`Columns::fields`].
#[derive(Debug)]
pub(super) struct Layout {
    n_columns: usize,
    /// Of every mapped field, its index and its place.
    places: Vec<(usize, usize)>,
}

impl Columns {
    /// Every field with the column that holds it.
    fn fields(&self) -> [(&'static str, Option<&str>); N_FIELDS] {
        [
            ("customer", Some(&self.customer)),
            ("time", Some(&self.time)),
            ("amount", Some(&self.amount)),
            ("kind", self.kind.as_deref()),
            ("quantity", self.quantity.as_deref()),
            ("discount", self.discount.as_deref()),
            ("currency", self.currency.as_deref()),
            ("rating", self.rating.as_deref()),
            ("order id", self.order_id.as_deref()),
            ("event id", self.event_id.as_deref()),
            ("item", self.item.as_deref()),
            ("category", self.category.as_deref()),
            ("channel", self.channel.as_deref()),
        ]
    }

    /// The columns that every log has, with their fields.
    pub(super) fn required(&self) -> [(&'static str, &str); 3] {
        [("customer", &self.customer), ("time", &self.time), ("amount", &self.amount)]
    }

    /// Every mapped column, with its field.
    pub(super) fn mapped(&self) -> Vec<(&'static str, &str)> {
        let fields = self.fields().into_iter();
        fields.filter_map(|(field, column)| column.map(|column| (field, column))).collect()
    }

    /// The names of the mapped columns, each once, though it may hold several fields.
    pub(super) fn names(&self) -> Vec<String> {
        each_once(&self.mapped())
    }

    /// Finds every mapped column in the header of a CSV file.
    ///
    /// # Errors
    /// As [`Columns::locate`].
    pub(super) fn locate_in(&self, header: &ByteRecord, file: &str) -> Result<Layout, IngestError> {
        self.locate(&names_in(header), file)
    }

    /// Finds every mapped column among the names of a file's columns.
    ///
    /// # Errors
    /// [`IngestError::MissingColumn`] and [`IngestError::DuplicateColumn`].
    pub(super) fn locate(&self, names: &[String], file: &str) -> Result<Layout, IngestError> {
        let mut places = Vec::with_capacity(N_FIELDS);
        for (index, (field, column)) in self.fields().into_iter().enumerate() {
            if let Some(column) = column {
                places.push((index, place(names, file, field, column)?));
            }
        }
        Ok(Layout { n_columns: names.len(), places })
    }
}

/// The names of mapped columns, each once, though it may hold several fields.
pub(super) fn each_once(mapped: &[(&'static str, &str)]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (_, column) in mapped {
        if !names.iter().any(|name| name == column) {
            names.push((*column).to_owned());
        }
    }
    names
}

/// The names in the header of a CSV file, without the blanks around them.
pub(super) fn names_in(header: &ByteRecord) -> Vec<String> {
    header.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect()
}

/// The one place of a column among the names of a header.
///
/// # Errors
/// [`IngestError::MissingColumn`] and [`IngestError::DuplicateColumn`].
pub(super) fn place(
    names: &[String],
    file: &str,
    field: &'static str,
    column: &str,
) -> Result<usize, IngestError> {
    let mut places = names.iter().enumerate().filter(|(_, name)| name.as_str() == column);
    let (first, second) = (places.next(), places.next());
    if let (Some((place, _)), None) = (first, second) {
        return Ok(place);
    }
    let (file, column) = (file.to_owned(), column.to_owned());
    let present: Vec<String> = names.iter().map(|name| excerpt::printable(name)).collect();
    Err(if first.is_none() {
        IngestError::MissingColumn { file, field, column, present }
    } else {
        IngestError::DuplicateColumn { file, field, column, present }
    })
}

impl Layout {
    /// Where each field stands, in the order of [`Columns::fields`].
    pub(super) fn places(&self) -> [Option<usize>; N_FIELDS] {
        let mut places = [None; N_FIELDS];
        self.places.iter().for_each(|&(index, place)| places[index] = Some(place));
        places
    }

    /// The fields of a row, as text.
    ///
    /// # Errors
    /// [`Rejection::Ragged`] and [`Rejection::NotUtf8`].
    pub(super) fn raw<'r>(&self, record: &'r ByteRecord) -> Result<RawEvent<'r>, Rejection> {
        if record.len() != self.n_columns {
            return Err(Rejection::Ragged);
        }
        // The record keeps its fields end to end, so one check serves them all. Two invalid
        // neighbours may form a valid text together; slicing between them then gives nothing.
        let text = std::str::from_utf8(record.as_slice()).map_err(|_| Rejection::NotUtf8)?;
        self.event(|place| {
            let field = record.range(place).and_then(|range| text.get(range));
            field.map(|text| Some(RawValue::Text(text))).ok_or(Rejection::NotUtf8)
        })
    }

    /// The fields of a row whose values are at hand; `None` stands for an absent one.
    pub(super) fn raw_of<'r>(&self, value: impl Fn(usize) -> Option<RawValue<'r>>) -> RawEvent<'r> {
        let Ok(raw) = self.event(|place| Ok::<_, Infallible>(value(place)));
        raw
    }

    fn event<'r, E>(
        &self,
        value: impl Fn(usize) -> Result<Option<RawValue<'r>>, E>,
    ) -> Result<RawEvent<'r>, E> {
        let mut raw = RawEvent::default();
        for &(index, place) in &self.places {
            *field(&mut raw, index) = value(place)?;
        }
        Ok(raw)
    }
}

/// A field by its index in [`Columns::fields`].
fn field<'e, 'r>(raw: &'e mut RawEvent<'r>, index: usize) -> &'e mut Option<RawValue<'r>> {
    match index {
        0 => &mut raw.customer,
        1 => &mut raw.time,
        2 => &mut raw.amount,
        3 => &mut raw.kind,
        4 => &mut raw.quantity,
        5 => &mut raw.discount,
        6 => &mut raw.currency,
        7 => &mut raw.rating,
        8 => &mut raw.order_id,
        9 => &mut raw.event_id,
        10 => &mut raw.item,
        11 => &mut raw.category,
        _ => &mut raw.channel,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::columns;
    use super::*;

    fn record(fields: &[&str]) -> ByteRecord {
        ByteRecord::from(fields.to_vec())
    }

    #[test]
    fn names_are_trimmed_and_found_in_any_order() {
        let layout = columns().locate_in(&record(&[" amount ", "date", "id"]), "log.csv").unwrap();
        let row = record(&["1.50", "1997-01-01", "7"]);
        let raw = layout.raw(&row).unwrap();
        let texts = [raw.customer, raw.time, raw.amount].map(|field| field.unwrap().text());
        assert_eq!(texts, ["7", "1997-01-01", "1.50"]);
        assert_eq!(raw.kind, None);
    }

    #[test]
    fn a_missing_column_is_named_with_those_that_exist() {
        let error = columns().locate_in(&record(&["id", "day", "amount"]), "log.csv").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`log.csv` has no column `date`, which should hold the time; its columns are: id, day, amount"
        );
    }

    #[test]
    fn a_column_named_twice_is_refused_only_where_it_is_mapped() {
        let twice = columns().locate_in(&record(&["id", "date", "amount", "date"]), "log.csv");
        assert!(matches!(
            twice,
            Err(IngestError::DuplicateColumn { field: "time", column, .. }) if column == "date"
        ));
        assert!(
            columns().locate_in(&record(&["id", "date", "amount", "x", "x"]), "log.csv").is_ok()
        );
    }

    #[test]
    fn a_mapped_optional_column_must_exist() {
        let columns = Columns { channel: Some("shop".into()), ..columns() };
        let missing = columns.locate_in(&record(&["id", "date", "amount"]), "log.csv");
        assert!(matches!(missing, Err(IngestError::MissingColumn { field: "channel", .. })));
    }

    #[test]
    fn halves_of_a_character_in_two_fields_are_not_utf8() {
        let layout = columns().locate_in(&record(&["id", "date", "amount"]), "log.csv").unwrap();
        let split = ByteRecord::from(vec![&b"\xc3"[..], &b"\xa9"[..], &b"1"[..]]);
        assert_eq!(layout.raw(&split).unwrap_err(), Rejection::NotUtf8);
    }

    #[test]
    fn a_column_may_hold_several_fields() {
        let columns = Columns {
            item: Some("what".into()),
            category: Some("what".into()),
            order_id: Some("id".into()),
            ..columns()
        };
        assert_eq!(columns.names(), ["id", "date", "amount", "what"]);
        let layout = columns.locate(&columns.names(), "log").unwrap();
        let texts = [Some("7"), Some("1997-01-01"), None, Some("tea")];
        let raw = layout.raw_of(|place| texts[place].map(RawValue::Text));
        let [seven, tea] = ["7", "tea"].map(|text| Some(RawValue::Text(text)));
        assert_eq!((raw.customer, raw.order_id, raw.amount), (seven, seven, None));
        assert_eq!((raw.item, raw.category, raw.channel), (tea, tea, None));
    }
}
