//! Rules that tell the kind of an event from the other fields of its row.

use super::{EventKind, RawEvent, RawValue, decimal};
use serde::{Deserialize, Serialize};

/// A number is looked at to so many digits for its sign.
const SIGN_DIGITS: u8 = 6;

/// One rule: where the test holds of the field, the row is of this kind. Rules are asked in their
/// order, before the row's own kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindRule {
    pub field: RuleField,
    pub is: RuleTest,
    pub kind: RuledKind,
}

/// The field that a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleField {
    /// Asked before a row is rejected for having no customer.
    Customer,
    Amount,
    Quantity,
    Kind,
    OrderId,
    Item,
    Category,
    Channel,
}

/// What must hold of the field. A field that is absent passes no test but `missing`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleTest {
    Missing,
    /// A number below zero.
    Negative,
    /// The number zero.
    Zero,
    StartsWith(String),
    OneOf(Vec<String>),
}

/// What a rule makes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuledKind {
    /// The row is left out and counted.
    Ignore,
    #[serde(untagged)]
    Event(EventKind),
}

impl KindRule {
    /// Whether the rule speaks of this row.
    pub fn holds(&self, raw: &RawEvent<'_>) -> bool {
        let field = match self.field {
            RuleField::Customer => raw.customer,
            RuleField::Amount => raw.amount,
            RuleField::Quantity => raw.quantity,
            RuleField::Kind => raw.kind,
            RuleField::OrderId => raw.order_id,
            RuleField::Item => raw.item,
            RuleField::Category => raw.category,
            RuleField::Channel => raw.channel,
        };
        let Some(value) = field.filter(|value| !value.is_blank()) else {
            return self.is == RuleTest::Missing;
        };
        let mut buffer = itoa::Buffer::new();
        match &self.is {
            RuleTest::Missing => false,
            RuleTest::Negative => sign(value) == Some(-1),
            RuleTest::Zero => sign(value) == Some(0),
            RuleTest::StartsWith(start) => value.text_in(&mut buffer).starts_with(start),
            RuleTest::OneOf(texts) => {
                let value = value.text_in(&mut buffer);
                texts.iter().any(|text| *text == value)
            }
        }
    }
}

/// The sign of a number.
fn sign(value: RawValue<'_>) -> Option<i64> {
    match value {
        RawValue::Integer(number) => Some(number.signum()),
        RawValue::Float(number) if number.is_nan() => None,
        RawValue::Float(number) => Some(i64::from(number > 0.0) - i64::from(number < 0.0)),
        RawValue::Decimal { units, digits } => {
            decimal::rescale(units, digits, SIGN_DIGITS).ok().map(|(units, _)| units.signum())
        }
        other => decimal::parse(&other.text(), SIGN_DIGITS).ok().map(|(units, _)| units.signum()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_tested_as_its_text_is() {
        let text = |text: &str| text.to_owned();
        let tests = [
            RuleTest::Missing,
            RuleTest::Negative,
            RuleTest::Zero,
            RuleTest::StartsWith(text("-1")),
            RuleTest::StartsWith(text("0.0")),
            RuleTest::OneOf(vec![text("7"), text("0.00")]),
        ];
        let spelled =
            ["0", "0.00", "7", "-1.50", "0.0000004", "-0.0000006", "9999999999", "0.0625"];
        for spelled in spelled {
            let decimal = RawValue::decimal(spelled).unwrap();
            assert_eq!(decimal.text(), spelled);
            for is in tests.clone() {
                let rule = KindRule { field: RuleField::Item, is, kind: RuledKind::Ignore };
                let holds = |item| rule.holds(&RawEvent { item: Some(item), ..Default::default() });
                assert_eq!(holds(decimal), holds(RawValue::Text(spelled)), "{rule:?} {spelled}");
            }
        }
    }
}
