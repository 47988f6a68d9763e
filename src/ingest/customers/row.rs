//! From one row of a customers file to what it says of the customer.

use super::CustomerReading;
use super::columns::Layout;
use super::report::{CustomerRejection, CustomerRepair};
use habitus_engine::domain::{
    AttributeValue, Attributes, EventRules, Label, ParsedTime, RawEvent, RawValue, Text,
};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A row that can be read, with what had to be mended.
#[derive(Debug)]
pub(super) struct Row<'r> {
    /// The customer's id, without blanks around it.
    pub(super) customer: Cow<'r, str>,
    pub(super) attributes: Attributes,
    pub(super) repairs: BTreeSet<CustomerRepair>,
    /// The numbers that cannot be read, by their places among the attributes.
    pub(super) unreadable_numbers: Vec<usize>,
}

/// The words for a wish or a label that holds, in any case.
const YES: [&str; 5] = ["true", "1", "yes", "y", "t"];

/// The words for one that does not.
const NO: [&str; 5] = ["false", "0", "no", "n", "f"];

/// Reads one row. `names` are those of the attributes: the numbers of the layout, then its
/// categories.
///
/// # Errors
/// The first [`CustomerRejection`] found, in the order customer, registration.
pub(super) fn read<'r>(
    reading: &CustomerReading<'_>,
    names: &Arc<[String]>,
    layout: &Layout,
    value: impl Fn(usize) -> Option<RawValue<'r>>,
) -> Result<Row<'r>, CustomerRejection> {
    let present = |place: usize| value(place).filter(|value| !value.is_blank());
    let optional = |place: Option<usize>| place.and_then(present);
    let mut repairs = BTreeSet::new();

    let customer = present(layout.customer).ok_or(CustomerRejection::MissingCustomer)?.text();
    let opted_out = match optional(layout.opt_out).map(word) {
        None => false,
        Some(Some(word)) => word,
        // A wish that cannot be read is respected.
        Some(None) => {
            repairs.insert(CustomerRepair::OptOutUnreadable);
            true
        }
    };
    let registered = optional(layout.registered_at).map(|value| registered(reading, value));
    let registered = match registered.transpose() {
        Ok(time) => time,
        // Rejected, the row would lose the customer's wish.
        Err(_) if opted_out => {
            repairs.insert(CustomerRepair::RegistrationDropped);
            None
        }
        Err(rejection) => return Err(rejection),
    };
    if registered.is_some_and(|time| time.adjusted) {
        repairs.insert(CustomerRepair::LocalTimeAdjusted);
    }
    let label = optional(layout.label)
        .and_then(|value| label(reading, value, optional(layout.label_date), &mut repairs));

    let mut unreadable_numbers = Vec::new();
    let mut values = Vec::with_capacity(names.len());
    for (index, &place) in layout.numbers.iter().enumerate() {
        let field = present(place);
        let number = field.and_then(number);
        if field.is_some() && number.is_none() {
            unreadable_numbers.push(index);
        }
        values.push(number.map(AttributeValue::Number));
    }
    for &place in &layout.categories {
        let text = present(place).map(|value| Text::from(&*value.text()));
        values.push(text.map(AttributeValue::Category));
    }
    let mut attributes = Attributes::new(Arc::clone(names), values);
    attributes.registered = registered.map(|time| time.at);
    attributes.opted_out = opted_out;
    attributes.label = label;
    Ok(Row { customer, attributes, repairs, unreadable_numbers })
}

/// When a customer registered.
fn registered(
    reading: &CustomerReading<'_>,
    value: RawValue<'_>,
) -> Result<ParsedTime, CustomerRejection> {
    let time = time(reading.rules, value).ok_or(CustomerRejection::UnreadableRegistration)?;
    if time.at > reading.now { Err(CustomerRejection::FutureRegistration) } else { Ok(time) }
}

/// The label of a customer whose label says `value`. A date belongs to a contract that ended, so it
/// is not looked at beside any other label.
fn label(
    reading: &CustomerReading<'_>,
    value: RawValue<'_>,
    date: Option<RawValue<'_>>,
    repairs: &mut BTreeSet<CustomerRepair>,
) -> Option<Label> {
    let Some(churned) = word(value) else {
        repairs.insert(CustomerRepair::LabelUnreadable);
        return None;
    };
    let Some(date) = date.filter(|_| churned) else {
        return Some(Label { churned, at: None });
    };
    let Some(time) = time(reading.rules, date) else {
        repairs.insert(CustomerRepair::LabelDateUnreadable);
        return None;
    };
    if time.at > reading.now {
        // A contract that is going to end has not ended.
        repairs.insert(CustomerRepair::LabelInFuture);
        return Some(Label { churned: false, at: None });
    }
    if time.adjusted {
        repairs.insert(CustomerRepair::LocalTimeAdjusted);
    }
    Some(Label { churned, at: Some(time.at) })
}

/// A time, read as the times of events are; `None` where it cannot be.
fn time(rules: &EventRules, value: RawValue<'_>) -> Option<ParsedTime> {
    rules.time(&RawEvent { time: Some(value), ..RawEvent::default() }).ok()
}

/// A yes or a no; `None` where it is neither. Whoever writes missing values as floats writes the
/// others as 1.0 and 0.0.
fn word(value: RawValue<'_>) -> Option<bool> {
    let text = value.text();
    let among = |words: [&str; 5]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if among(YES) {
        return Some(true);
    }
    if among(NO) {
        return Some(false);
    }
    match number(value) {
        Some(1.0) => Some(true),
        Some(0.0) => Some(false),
        _ => None,
    }
}

/// A finite number; `None` where it is none.
fn number(value: RawValue<'_>) -> Option<f64> {
    let number = match value {
        RawValue::Integer(number) => number as f64,
        RawValue::Float(number) => number,
        RawValue::Text(_) | RawValue::Decimal { .. } => value.text().parse().ok()?,
        RawValue::Instant(_) | RawValue::Local(_) | RawValue::Date(_) => return None,
    };
    Some(number).filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{NOW, columns, read_rows, rules};
    use super::super::report::{CustomerRejection as Rejection, CustomerRepair as Repair};
    use super::*;
    use habitus_engine::domain::{Timestamp, Zone};

    /// Row of a file with the columns `id,since,out,gone,gone_on,age,visits,plan`.
    fn one(row: &str) -> (Option<(String, Attributes)>, Vec<Repair>, Vec<Rejection>) {
        let (mut taken, report) = read_rows(row);
        let counts = report.counts;
        assert_eq!(counts.rows, 1, "{row}");
        let repairs = counts.repaired.into_keys().collect();
        (taken.pop(), repairs, counts.rejected.into_keys().collect())
    }

    fn taken(row: &str) -> (Attributes, Vec<Repair>) {
        let (taken, repairs, _) = one(row);
        (taken.unwrap().1, repairs)
    }

    fn at(text: &str) -> Timestamp {
        rules().zone.parse(text, None).unwrap().at
    }

    #[test]
    fn a_row_without_a_customer_is_rejected() {
        for row in [",,,,,,,", "  ,,yes,,,1,1,x"] {
            assert_eq!(one(row), (None, vec![], vec![Rejection::MissingCustomer]));
        }
        assert_eq!(one(" 7 ,,,,,,,").0.unwrap().0, "7");
    }

    #[test]
    fn a_registration_is_read_as_a_time_or_rejects_its_row() {
        for (text, registered) in [
            ("", None),
            (" ", None),
            ("2020-02-03", Some(at("2020-02-03"))),
            ("2020-02-03T10:00:00+02:00", Some(at("2020-02-03T08:00:00Z"))),
        ] {
            let (attributes, repairs) = taken(&format!("7,{text},,,,,,"));
            assert_eq!((attributes.registered, repairs), (registered, vec![]), "{text}");
        }
        for (text, rejection) in [
            ("someday", Rejection::UnreadableRegistration),
            ("2999-01-01", Rejection::FutureRegistration),
        ] {
            assert_eq!(one(&format!("7,{text},,,,,,")), (None, vec![], vec![rejection]));
        }
    }

    #[test]
    fn a_wish_outlives_a_registration_that_cannot_be_taken() {
        for text in ["someday", "2999-01-01"] {
            let (attributes, repairs) = taken(&format!("7,{text},yes,,,,,"));
            assert!(attributes.opted_out && attributes.registered.is_none(), "{text}");
            assert_eq!(repairs, [CustomerRepair::RegistrationDropped], "{text}");
        }
    }

    #[test]
    fn times_are_taken_in_the_zone_and_the_format_of_the_rules() {
        let rules = EventRules {
            zone: Zone::named("Europe/London").unwrap(),
            time_format: Some("%d.%m.%Y %H:%M".into()),
            ..rules()
        };
        let columns = columns();
        let reading = CustomerReading { columns: &columns, rules: &rules, now: NOW };
        let names: Arc<[String]> = columns.attribute_names().into();
        let layout = columns.locate(&columns.names(), "customers").unwrap();
        // Both dates lie in the hour that clocks skipped.
        let (gap, yes) = ("31.03.2019 01:30", "yes");
        let fields = [Some("7"), Some(gap), None, Some(yes), Some(gap), None, None, None];
        let row = read(&reading, &names, &layout, |place| fields[place].map(RawValue::Text));
        let row = row.unwrap();
        assert_eq!(row.attributes.registered, Some(at("2019-03-31T01:30:00Z")));
        assert_eq!(row.attributes.label.unwrap().at, row.attributes.registered);
        assert_eq!(row.repairs, BTreeSet::from([Repair::LocalTimeAdjusted]));
    }

    #[test]
    fn an_opt_out_that_cannot_be_read_is_respected() {
        for text in ["true", "TRUE", "1", "Yes", "y", "T", " t ", "1.0"] {
            let (attributes, repairs) = taken(&format!("7,,{text},,,,,"));
            assert_eq!((attributes.opted_out, repairs), (true, vec![]), "{text}");
        }
        for text in ["false", "False", "0", "NO", "n", "f", "", "  ", "0.0"] {
            let (attributes, repairs) = taken(&format!("7,,{text},,,,,"));
            assert_eq!((attributes.opted_out, repairs), (false, vec![]), "{text}");
        }
        for text in ["maybe", "2", "nein", "NaN", "2020-01-01"] {
            let (attributes, repairs) = taken(&format!("7,,{text},,,,,"));
            let expected = (true, vec![Repair::OptOutUnreadable]);
            assert_eq!((attributes.opted_out, repairs), expected, "{text}");
        }
    }

    #[test]
    fn a_label_has_a_date_only_where_it_holds() {
        let label = |churned, at| Some(Label { churned, at });
        for (fields, expected, repair) in [
            (",", None, None),
            (",2020-01-01", None, None),
            ("no,", label(false, None), None),
            ("no,2020-01-01", label(false, None), None),
            ("no,someday", label(false, None), None),
            ("yes,", label(true, None), None),
            ("Y,2020-01-01", label(true, Some(at("2020-01-01"))), None),
            ("yes,someday", None, Some(Repair::LabelDateUnreadable)),
            ("yes,2999-01-01", label(false, None), Some(Repair::LabelInFuture)),
            ("churned,2020-01-01", None, Some(Repair::LabelUnreadable)),
        ] {
            let (attributes, repairs) = taken(&format!("7,,,{fields},,,"));
            let repair: Vec<Repair> = repair.into_iter().collect();
            assert_eq!((attributes.label, repairs), (expected, repair), "{fields}");
        }
    }

    #[test]
    fn a_number_that_cannot_be_read_is_undefined_and_told_by_its_column() {
        let (taken, report) = read_rows(
            "1,,,,,40,1e3,\n2,,,,, -0.5 ,,\n3,,,,,NaN,inf,\n4,,,,,forty,3,\n5,,,,,,1e400,\n",
        );
        let numbers: Vec<[Option<f64>; 2]> = taken
            .iter()
            .map(|(_, attributes)| ["age", "visits"].map(|name| attributes.number(name)))
            .collect();
        let expected = [
            [Some(40.0), Some(1_000.0)],
            [Some(-0.5), None],
            [None, None],
            [None, Some(3.0)],
            [None, None],
        ];
        assert_eq!(numbers, expected);
        let told: Vec<(String, u64)> = report.counts.unreadable_numbers.into_iter().collect();
        assert_eq!(told, [("age".to_owned(), 2), ("visits".to_owned(), 2)]);
        assert_eq!((report.counts.accepted, report.counts.repaired.len()), (5, 0));
        let lines: Vec<u64> =
            report.number_examples["visits"].iter().map(|example| example.line).collect();
        assert_eq!(lines, [4, 6]);
    }

    #[test]
    fn typed_numbers_are_taken_as_they_are() {
        for (value, expected) in [
            (RawValue::Integer(-3), Some(-3.0)),
            (RawValue::Float(0.25), Some(0.25)),
            (RawValue::Decimal { units: 250, digits: 3 }, Some(0.25)),
            (RawValue::Float(f64::NAN), None),
            (RawValue::Float(f64::INFINITY), None),
            (RawValue::Date(9_863), None),
        ] {
            assert_eq!(number(value), expected, "{value:?}");
        }
    }

    #[test]
    fn a_category_is_its_text_without_blanks() {
        let plan = |text: &str| {
            let (attributes, repairs) = taken(&format!("7,,,,,,,{text}"));
            assert!(repairs.is_empty(), "{text}");
            attributes.category("plan").map(str::to_owned)
        };
        assert_eq!(plan(" gold "), Some("gold".into()));
        assert_eq!(plan("true"), Some("true".into()));
        assert_eq!((plan(""), plan("  ")), (None, None));
    }
}
