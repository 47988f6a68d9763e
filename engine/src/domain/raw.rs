//! One row of a log before any rule has looked at it.

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
}

impl<'a> RawValue<'a> {
    /// The value as text without blanks around it; a float by its shortest decimal.
    pub fn text(self) -> Cow<'a, str> {
        match self {
            RawValue::Text(text) => Cow::Borrowed(text.trim()),
            RawValue::Integer(number) => Cow::Owned(number.to_string()),
            RawValue::Float(number) => Cow::Owned(number.to_string()),
            RawValue::Instant(ms) => Cow::Owned(super::Timestamp(ms).to_string()),
            RawValue::Local(ms) => {
                // The local clock's face reads like an instant without its zone.
                Cow::Owned(super::Timestamp(ms).to_string().trim_end_matches('Z').to_owned())
            }
            RawValue::Date(days) => Cow::Owned(super::Day(days).to_string()),
        }
    }

    /// The same, an integer written into `buffer` instead of into memory of its own.
    pub fn text_in<'b>(self, buffer: &'b mut itoa::Buffer) -> Cow<'b, str>
    where
        'a: 'b,
    {
        match self {
            RawValue::Integer(number) => Cow::Borrowed(buffer.format(number)),
            other => other.text(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_blank(self) -> bool {
        matches!(self, RawValue::Text(text) if text.trim().is_empty())
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
