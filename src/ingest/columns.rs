//! Which column of a log holds which field.

use super::IngestError;
use super::excerpt;
use csv::ByteRecord;
use habitus_engine::domain::{RawEvent, Rejection};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;

/// The names of a log's columns, field by field. A field that is not mapped is absent from every
/// row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// Where the fields stand in the rows of one file.
#[derive(Debug)]
pub(super) struct Layout {
    n_columns: usize,
    customer: usize,
    time: usize,
    amount: usize,
    kind: Option<usize>,
    quantity: Option<usize>,
    discount: Option<usize>,
    order_id: Option<usize>,
    event_id: Option<usize>,
    item: Option<usize>,
    category: Option<usize>,
    channel: Option<usize>,
}

impl Columns {
    /// The columns that every log has, with their fields.
    pub(super) fn required(&self) -> [(&'static str, &str); 3] {
        [("customer", &self.customer), ("time", &self.time), ("amount", &self.amount)]
    }

    /// Every mapped column, with its field.
    pub(super) fn mapped(&self) -> Vec<(&'static str, &str)> {
        let optional = [
            ("kind", &self.kind),
            ("quantity", &self.quantity),
            ("discount", &self.discount),
            ("order id", &self.order_id),
            ("event id", &self.event_id),
            ("item", &self.item),
            ("category", &self.category),
            ("channel", &self.channel),
        ];
        let optional = optional
            .into_iter()
            .filter_map(|(field, column)| column.as_deref().map(|column| (field, column)));
        self.required().into_iter().chain(optional).collect()
    }

    /// The names of the mapped columns, each once, though it may hold several fields.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (_, column) in self.mapped() {
            if !names.iter().any(|name| name == column) {
                names.push(column.to_owned());
            }
        }
        names
    }

    /// Finds every mapped column in the header of a CSV file.
    ///
    /// # Errors
    /// As [`Columns::locate`].
    pub(super) fn locate_in(&self, header: &ByteRecord, file: &str) -> Result<Layout, IngestError> {
        let names: Vec<String> =
            header.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        self.locate(&names, file)
    }

    /// Finds every mapped column among the names of a file's columns.
    ///
    /// # Errors
    /// [`IngestError::MissingColumn`] and [`IngestError::DuplicateColumn`].
    pub(super) fn locate(&self, names: &[String], file: &str) -> Result<Layout, IngestError> {
        let find = |field, column: &str| place(names, file, field, column);
        let find_mapped = |field, column: Option<&str>| {
            column.map(|column| place(names, file, field, column)).transpose()
        };
        Ok(Layout {
            n_columns: names.len(),
            customer: find("customer", &self.customer)?,
            time: find("time", &self.time)?,
            amount: find("amount", &self.amount)?,
            kind: find_mapped("kind", self.kind.as_deref())?,
            quantity: find_mapped("quantity", self.quantity.as_deref())?,
            discount: find_mapped("discount", self.discount.as_deref())?,
            order_id: find_mapped("order id", self.order_id.as_deref())?,
            event_id: find_mapped("event id", self.event_id.as_deref())?,
            item: find_mapped("item", self.item.as_deref())?,
            category: find_mapped("category", self.category.as_deref())?,
            channel: find_mapped("channel", self.channel.as_deref())?,
        })
    }
}

/// The one place of a column among the names of a header.
fn place(
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
            field.map(Some).ok_or(Rejection::NotUtf8)
        })
    }

    /// The fields of a row whose texts are at hand; `None` stands for an absent one.
    pub(super) fn raw_of<'r>(&self, text: impl Fn(usize) -> Option<&'r str>) -> RawEvent<'r> {
        let Ok(raw) = self.event(|place| Ok::<_, Infallible>(text(place)));
        raw
    }

    fn event<'r, E>(
        &self,
        field: impl Fn(usize) -> Result<Option<&'r str>, E>,
    ) -> Result<RawEvent<'r>, E> {
        let mapped = |place: Option<usize>| place.map_or(Ok(None), &field);
        Ok(RawEvent {
            customer: field(self.customer)?.unwrap_or_default(),
            time: field(self.time)?.unwrap_or_default(),
            amount: field(self.amount)?,
            kind: mapped(self.kind)?,
            quantity: mapped(self.quantity)?,
            discount: mapped(self.discount)?,
            order_id: mapped(self.order_id)?,
            event_id: mapped(self.event_id)?,
            item: mapped(self.item)?,
            category: mapped(self.category)?,
            channel: mapped(self.channel)?,
        })
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
        assert_eq!((raw.customer, raw.time, raw.amount), ("7", "1997-01-01", Some("1.50")));
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
        let raw = layout.raw_of(|place| texts[place]);
        assert_eq!((raw.customer, raw.order_id, raw.amount), ("7", Some("7"), None));
        assert_eq!((raw.item, raw.category, raw.channel), (Some("tea"), Some("tea"), None));
    }
}
