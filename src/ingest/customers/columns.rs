//! Which column of a customers file holds what.

use super::super::IngestError;
use super::super::columns::{each_once, names_in, place};
use super::report::CustomerRejection;
use csv::ByteRecord;
use habitus_engine::domain::RawValue;
use serde::{Deserialize, Serialize};

/// The names of the columns of a customers file. What is not mapped is unknown of every customer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomerColumns {
    pub customer: String,
    /// When the customer registered, as a time or a date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_at: Option<String>,
    /// Whether the customer opted out of being scored and learned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opt_out: Option<String>,
    /// Whether the customer's contract ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_date: Option<String>,
    /// Columns that hold numbers, in the order of the attributes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<String>,
    /// Columns that hold categories, in the order of the attributes, after the numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
}

/// Where the fields stand in the rows of one file.
#[derive(Debug)]
pub(super) struct Layout {
    n_columns: usize,
    pub(super) customer: usize,
    pub(super) registered_at: Option<usize>,
    pub(super) opt_out: Option<usize>,
    pub(super) label: Option<usize>,
    pub(super) label_date: Option<usize>,
    pub(super) numbers: Vec<usize>,
    pub(super) categories: Vec<usize>,
}

impl CustomerColumns {
    /// The names of the attributes: of the numbers, then of the categories.
    pub fn attribute_names(&self) -> Vec<String> {
        self.numbers.iter().chain(&self.categories).cloned().collect()
    }

    /// Every mapped column, with its field.
    pub(super) fn mapped(&self) -> Vec<(&'static str, &str)> {
        let fields = [
            ("customer", Some(self.customer.as_str())),
            ("registered_at", self.registered_at.as_deref()),
            ("opt out", self.opt_out.as_deref()),
            ("label", self.label.as_deref()),
            ("label date", self.label_date.as_deref()),
        ];
        let fields = fields.into_iter().filter_map(|(field, column)| Some((field, column?)));
        let attributes = self.numbers.iter().chain(&self.categories);
        fields.chain(attributes.map(|column| ("attribute", column.as_str()))).collect()
    }

    /// The columns that a file without a header has to have in some line. A line may lack what is
    /// null in it, so most columns may be in none; but a wish to be left alone must not be lost
    /// because its column is misspelt.
    pub(super) fn required(&self) -> Vec<(&'static str, &str)> {
        let wanted = ["customer", "opt out"];
        self.mapped().into_iter().filter(|(field, _)| wanted.contains(field)).collect()
    }

    /// The names of the mapped columns, each once, though it may hold several fields.
    pub(super) fn names(&self) -> Vec<String> {
        each_once(&self.mapped())
    }

    /// Finds every mapped column in the header of a CSV file.
    ///
    /// # Errors
    /// As [`CustomerColumns::locate`].
    pub(super) fn locate_in(&self, header: &ByteRecord, file: &str) -> Result<Layout, IngestError> {
        self.locate(&names_in(header), file)
    }

    /// Finds every mapped column among the names of a file's columns.
    ///
    /// # Errors
    /// [`IngestError::MissingColumn`] and [`IngestError::DuplicateColumn`].
    pub(super) fn locate(&self, names: &[String], file: &str) -> Result<Layout, IngestError> {
        let one = |field, column: &str| place(names, file, field, column);
        let optional = |field, column: &Option<String>| match column {
            Some(column) => one(field, column).map(Some),
            None => Ok(None),
        };
        let several = |columns: &[String]| -> Result<Vec<usize>, IngestError> {
            columns.iter().map(|column| one("attribute", column)).collect()
        };
        Ok(Layout {
            n_columns: names.len(),
            customer: one("customer", &self.customer)?,
            registered_at: optional("registered_at", &self.registered_at)?,
            opt_out: optional("opt out", &self.opt_out)?,
            label: optional("label", &self.label)?,
            label_date: optional("label date", &self.label_date)?,
            numbers: several(&self.numbers)?,
            categories: several(&self.categories)?,
        })
    }
}

impl Layout {
    /// The fields of a CSV row, as text.
    ///
    /// # Errors
    /// [`CustomerRejection::Ragged`] and [`CustomerRejection::NotUtf8`].
    pub(super) fn texts<'r>(
        &self,
        record: &'r ByteRecord,
    ) -> Result<impl Fn(usize) -> Option<RawValue<'r>>, CustomerRejection> {
        if record.len() != self.n_columns {
            return Err(CustomerRejection::Ragged);
        }
        // As in a log: one check serves all fields, and slicing finds the invalid neighbours that
        // form a valid text together.
        let row = std::str::from_utf8(record.as_slice()).map_err(|_| CustomerRejection::NotUtf8)?;
        let field = move |place: usize| record.range(place).and_then(|range| row.get(range));
        if self.places().any(|place| field(place).is_none()) {
            return Err(CustomerRejection::NotUtf8);
        }
        Ok(move |place: usize| field(place).map(RawValue::Text))
    }

    fn places(&self) -> impl Iterator<Item = usize> {
        let single = [self.registered_at, self.opt_out, self.label, self.label_date];
        let attributes = self.numbers.iter().chain(&self.categories).copied();
        std::iter::once(self.customer).chain(single.into_iter().flatten()).chain(attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::columns;
    use super::*;

    fn record(fields: &[&str]) -> ByteRecord {
        ByteRecord::from(fields.to_vec())
    }

    const HEADER: [&str; 8] = ["plan", " id ", "since", "out", "gone", "gone_on", "age", "visits"];

    #[test]
    fn columns_are_found_in_any_order() {
        let layout = columns().locate_in(&record(&HEADER), "customers.csv").unwrap();
        let row = record(&["gold", "7", "", "no", "", "", "40", "3"]);
        let texts = layout.texts(&row).unwrap();
        let text = |place: usize| texts(place).map(|value| value.text().into_owned());
        assert_eq!(text(layout.customer).as_deref(), Some("7"));
        assert_eq!(text(layout.numbers[1]).as_deref(), Some("3"));
        assert_eq!(text(layout.categories[0]).as_deref(), Some("gold"));
        assert_eq!(columns().attribute_names(), ["age", "visits", "plan"]);
    }

    #[test]
    fn a_missing_or_repeated_column_is_named_with_what_it_should_hold() {
        for (left_out, field) in [
            (1, "customer"),
            (2, "registered_at"),
            (3, "opt out"),
            (4, "label"),
            (5, "label date"),
            (6, "attribute"),
            (0, "attribute"),
        ] {
            let mut header = HEADER.to_vec();
            let name = header.remove(left_out);
            match columns().locate_in(&record(&header), "customers.csv") {
                Err(IngestError::MissingColumn { field: found, column, .. }) => {
                    assert_eq!((found, column.as_str()), (field, name.trim()));
                }
                other => panic!("{other:?}"),
            }
            let mut header = HEADER.to_vec();
            header.push(name);
            match columns().locate_in(&record(&header), "customers.csv") {
                Err(IngestError::DuplicateColumn { field: found, .. }) => assert_eq!(found, field),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn halves_of_a_character_in_two_fields_are_not_utf8() {
        let columns = CustomerColumns { customer: "id".into(), ..CustomerColumns::default() };
        let layout = columns.locate_in(&record(&["id", "x"]), "customers.csv").unwrap();
        let split = ByteRecord::from(vec![&b"\xc3"[..], &b"\xa9"[..]]);
        assert_eq!(layout.texts(&split).err(), Some(CustomerRejection::NotUtf8));
    }

    #[test]
    fn a_column_may_hold_several_fields() {
        let columns = CustomerColumns {
            customer: "id".into(),
            label: Some("gone".into()),
            categories: vec!["gone".into()],
            ..CustomerColumns::default()
        };
        assert_eq!(columns.names(), ["id", "gone"]);
        let layout = columns.locate(&columns.names(), "customers").unwrap();
        assert_eq!((layout.label, layout.categories.as_slice()), (Some(1), &[1][..]));
    }

    #[test]
    fn what_is_not_mapped_is_left_out_of_json() {
        let columns = CustomerColumns { customer: "id".into(), ..CustomerColumns::default() };
        let json = serde_json::to_string(&columns).unwrap();
        assert_eq!(json, r#"{"customer":"id"}"#);
        assert_eq!(serde_json::from_str::<CustomerColumns>(&json).unwrap(), columns);
        assert!(serde_json::from_str::<CustomerColumns>(r#"{"customer":"id","x":1}"#).is_err());
        assert!(serde_json::from_str::<CustomerColumns>(r#"{"opt_out":"out"}"#).is_err());
    }
}
