//! Between what customers did, as messages, and rows and records.

use super::pb;
use super::{RpcError, convert};
use crate::store::{About, MAX_ID_BYTES, MAX_NAMES};
use habitus_engine::domain::{
    AttributeValue, Attributes, Label, RawEvent, RawValue, Rejection, Timestamp,
};
use std::sync::Arc;
use thiserror::Error;

/// A text of an event is not longer. What a shop writes into an order is a few dozen bytes.
const MAX_TEXT_BYTES: usize = 4096;

/// Attributes of one customer, at most.
const MAX_ATTRIBUTES: usize = 256;

/// Why a record is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    #[error("the record is empty")]
    Empty,
    #[error("the customer id is longer than {MAX_ID_BYTES} bytes")]
    CustomerTooLong,
    #[error("`{field}` is longer than {MAX_TEXT_BYTES} bytes")]
    TooLong { field: &'static str },
    #[error("there are more than {MAX_ATTRIBUTES} attributes")]
    TooManyAttributes,
    #[error("the attribute `{name}` is not finite")]
    NotFinite { name: String },
    #[error(transparent)]
    Rules(#[from] Rejection),
    #[error("the customer was erased")]
    Erased,
    #[error("what is kept of the customer is damaged")]
    Damaged,
    #[error("an attribute has a new name, and the store has no room for more than {MAX_NAMES}")]
    TooManyNames,
}

impl Refused {
    /// The stable name, for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Refused::Empty => "EMPTY_RECORD",
            Refused::CustomerTooLong => "CUSTOMER_TOO_LONG",
            Refused::TooLong { .. } | Refused::TooManyAttributes => "TOO_LONG",
            Refused::NotFinite { .. } => "NON_FINITE_ATTRIBUTE",
            Refused::Erased => "ERASED",
            Refused::Damaged => "DAMAGED",
            Refused::TooManyNames => "TOO_MANY_NAMES",
            Refused::Rules(rejection) => match rejection {
                Rejection::Ragged | Rejection::NotUtf8 => "EMPTY_RECORD",
                Rejection::MissingCustomer => "MISSING_CUSTOMER",
                Rejection::MissingTime => "MISSING_TIME",
                Rejection::UnreadableTime => "UNREADABLE_TIME",
                Rejection::FutureTime => "FUTURE_TIME",
                Rejection::MissingAmount => "MISSING_AMOUNT",
                Rejection::MissingQuantity => "MISSING_QUANTITY",
                Rejection::UnreadableAmount => "UNREADABLE_AMOUNT",
                Rejection::NonFiniteAmount => "NON_FINITE_AMOUNT",
                Rejection::AmountOutOfRange => "AMOUNT_OUT_OF_RANGE",
                Rejection::NegativeAmount => "NEGATIVE_AMOUNT",
                Rejection::UnknownKind => "UNKNOWN_KIND",
                Rejection::OtherCurrency => "OTHER_CURRENCY",
                Rejection::Ignored => "IGNORED",
            },
        }
    }
}

/// A customer's id without the blanks around it.
///
/// # Errors
/// [`Refused`] where there is none, or it is too long.
pub fn customer(id: &str) -> Result<&str, Refused> {
    match id.trim() {
        "" => Err(Refused::Rules(Rejection::MissingCustomer)),
        id if id.len() > MAX_ID_BYTES => Err(Refused::CustomerTooLong),
        id => Ok(id),
    }
}

/// The row that an event is, without its customer.
///
/// # Errors
/// [`Refused`] where its time is none or a text is too long.
pub fn row(event: &pb::CustomerEvent) -> Result<RawEvent<'_>, Refused> {
    let time = event.time.ok_or(Refused::Rules(Rejection::MissingTime))?;
    let instant = convert::instant("time", Some(time));
    let instant = instant.map_err(|_| Refused::Rules(Rejection::UnreadableTime))?;
    let text = |field: &'static str, text: &'_ str| match text.len() {
        0 => Ok(None),
        1..=MAX_TEXT_BYTES => Ok(Some(())),
        _ => Err(Refused::TooLong { field }),
    };
    macro_rules! field {
        ($name:ident) => {
            text(stringify!($name), &event.$name)?.map(|()| RawValue::Text(&event.$name))
        };
    }
    Ok(RawEvent {
        customer: None,
        time: instant.map(|at| RawValue::Instant(at.0)),
        amount: field!(amount),
        kind: field!(kind),
        quantity: field!(quantity),
        discount: field!(discount),
        currency: field!(currency),
        rating: field!(rating),
        order_id: field!(order_id),
        event_id: field!(event_id),
        item: field!(item),
        category: field!(category),
        channel: field!(channel),
    })
}

/// What is told of a customer besides events.
///
/// # Errors
/// [`Refused`] where a time is none or a number is not finite.
pub fn about(told: &pb::CustomerAttributes) -> Result<About, Refused> {
    if told.numbers.len() + told.categories.len() > MAX_ATTRIBUTES {
        return Err(Refused::TooManyAttributes);
    }
    let instant = |time| -> Result<Option<Timestamp>, Refused> {
        let instant: Result<_, RpcError> = convert::instant("time", time);
        instant.map_err(|_| Refused::Rules(Rejection::UnreadableTime))
    };
    let mut values = Vec::with_capacity(told.numbers.len() + told.categories.len());
    for (name, &number) in &told.numbers {
        if name.len() > MAX_TEXT_BYTES {
            return Err(Refused::TooLong { field: "numbers" });
        }
        if !number.is_finite() {
            return Err(Refused::NotFinite { name: name.clone() });
        }
        values.push((name.clone(), AttributeValue::Number(number)));
    }
    for (name, text) in &told.categories {
        if text.len() > MAX_TEXT_BYTES || name.len() > MAX_TEXT_BYTES {
            return Err(Refused::TooLong { field: "categories" });
        }
        values.push((name.clone(), AttributeValue::Category(text.as_str().into())));
    }
    // A map has no order of its own.
    values.sort_by(|(a, _), (b, _)| a.cmp(b));
    let at = instant(told.churned_at)?;
    Ok(About {
        registered: instant(told.registered_at)?,
        opted_out: told.opt_out,
        label: told.churned.map(|churned| Label { churned, at }),
        values,
    })
}

/// The same as attributes of a history.
pub fn attributes(about: About) -> Attributes {
    let (names, values): (Vec<String>, Vec<AttributeValue>) = about.values.into_iter().unzip();
    let names: Arc<[String]> = names.into();
    let mut attributes = Attributes::new(names, values.into_iter().map(Some).collect());
    attributes.registered = about.registered;
    attributes.opted_out = about.opted_out == Some(true);
    attributes.label = about.label;
    attributes
}
