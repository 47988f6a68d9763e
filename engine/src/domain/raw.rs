//! One row of a log before any rule has looked at it.

use super::decimal;
use std::borrow::Cow;

/// One field of a row, in the type in which its file has it. Texts are read by the rules; what a
/// typed file already knows is taken as it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RawValue<'a> {
    Text(&'a str),
    Integer(i64),
    Float(f64),
    /// UTC milliseconds since 1970.
    Instant(i64),
    /// Milliseconds since 1970 on the clock of the rules' zone.
    Local(i64),
    /// Days since 1970 in the rules' zone.
    Date(i32),
    /// A number as a text spells it, of which nothing is lost but the letters: a count of
    /// `10^-digits` units, so that `12.50` is 1250 with two digits. There are at most nine.
    Decimal {
        units: i64,
        digits: u8,
    },
}

impl<'a> RawValue<'a> {
    /// The decimal whose text is exactly this; `None` where none is, as of `+1`, `01` or `1e3`.
    pub fn decimal(text: &str) -> Option<RawValue<'static>> {
        decimal::canonical(text).map(|(units, digits)| RawValue::Decimal { units, digits })
    }

    /// The value as text without blanks around it; a float by its shortest decimal.
    pub fn text(self) -> Cow<'a, str> {
        match self {
            RawValue::Text(text) => Cow::Borrowed(trimmed(text)),
            RawValue::Integer(number) => Cow::Owned(number.to_string()),
            RawValue::Float(number) => Cow::Owned(number.to_string()),
            RawValue::Instant(ms) => Cow::Owned(super::Timestamp(ms).to_string()),
            RawValue::Local(ms) => {
                // The local clock's face reads like an instant without its zone.
                Cow::Owned(super::Timestamp(ms).to_string().trim_end_matches('Z').to_owned())
            }
            RawValue::Date(days) => Cow::Owned(super::Day(days).to_string()),
            RawValue::Decimal { units, digits } => Cow::Owned(decimal::spelled(units, digits)),
        }
    }

    /// The same, an integer written into `buffer` instead of into memory of its own.
    pub fn text_in<'b>(self, buffer: &'b mut itoa::Buffer) -> Cow<'b, str>
    where
        'a: 'b,
    {
        match self {
            RawValue::Integer(number) | RawValue::Decimal { units: number, digits: 0 } => {
                Cow::Borrowed(buffer.format(number))
            }
            other => other.text(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_blank(self) -> bool {
        matches!(self, RawValue::Text(text) if trimmed(text).is_empty())
    }
}

/// The text without blanks around it. Most texts have none, which their ends tell at once.
fn trimmed(text: &str) -> &str {
    match text.as_bytes() {
        [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic() => text,
        _ => text.trim(),
    }
}

impl<'a> From<&'a str> for RawValue<'a> {
    fn from(text: &'a str) -> RawValue<'a> {
        RawValue::Text(text)
    }
}

/// One row, field by field. A field that the log lacks is `None`, as is one that is null.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RawEvent<'a> {
    pub customer: Option<RawValue<'a>>,
    pub time: Option<RawValue<'a>>,
    pub amount: Option<RawValue<'a>>,
    pub kind: Option<RawValue<'a>>,
    pub quantity: Option<RawValue<'a>>,
    pub discount: Option<RawValue<'a>>,
    pub currency: Option<RawValue<'a>>,
    pub rating: Option<RawValue<'a>>,
    pub order_id: Option<RawValue<'a>>,
    pub event_id: Option<RawValue<'a>>,
    pub item: Option<RawValue<'a>>,
    pub category: Option<RawValue<'a>>,
    pub channel: Option<RawValue<'a>>,
}

impl<'a> RawEvent<'a> {
    /// All fields, whose it is first.
    pub fn fields(&self) -> [Option<RawValue<'a>>; 13] {
        [
            self.customer,
            self.time,
            self.amount,
            self.kind,
            self.quantity,
            self.discount,
            self.currency,
            self.rating,
            self.order_id,
            self.event_id,
            self.item,
            self.category,
            self.channel,
        ]
    }
}
