//! From what a log says to what happened: the rules that shape events.
//!
//! The rules belong to a model version and are applied by the same function to rows of a file and
//! to streamed events.

use super::decimal::{self, DecimalError};
use super::{Currency, Details, Event, EventKind, Money, QUANTITY_DIGITS, Timestamp, Zone};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// How texts become events. Two sources with different rules would give different histories, so a
/// configuration whose rules contradict the version's is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventRules {
    pub zone: Zone,
    pub currency: Currency,
    /// A strptime format, where times are not RFC 3339 or `YYYY-MM-DD[ HH:MM[:SS]]`.
    pub time_format: Option<String>,
    /// The kind of an event whose row names none.
    pub default_kind: EventKind,
    /// The log's own names of kinds; the canonical names are always understood.
    pub kinds: BTreeMap<String, EventKind>,
}

/// One row, field by field, as text. A field that the log lacks is `None`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawEvent<'a> {
    pub customer: &'a str,
    pub time: &'a str,
    pub amount: Option<&'a str>,
    pub kind: Option<&'a str>,
    pub quantity: Option<&'a str>,
    pub discount: Option<&'a str>,
    pub order_id: Option<&'a str>,
    pub event_id: Option<&'a str>,
    pub item: Option<&'a str>,
    pub category: Option<&'a str>,
    pub channel: Option<&'a str>,
}

/// A row that became an event, with what had to be mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub event: Event,
    pub repairs: Vec<Repair>,
}

/// Why a row was not taken.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Error,
)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    #[error("the row does not have the form of its log")]
    Ragged,
    #[error("the row is not valid UTF-8")]
    NotUtf8,
    #[error("the customer is missing")]
    MissingCustomer,
    #[error("the time is missing")]
    MissingTime,
    #[error("the time cannot be read")]
    UnreadableTime,
    #[error("the time lies in the future")]
    FutureTime,
    #[error("the amount is missing")]
    MissingAmount,
    #[error("the amount cannot be read")]
    UnreadableAmount,
    #[error("the amount is not finite")]
    NonFiniteAmount,
    #[error("the amount is too large")]
    AmountOutOfRange,
    #[error("the amount of a purchase is negative")]
    NegativeAmount,
    #[error("the kind is unknown")]
    UnknownKind,
}

impl Rejection {
    /// Whether such a row has a time that can be held against an as-of. What lies in the future
    /// depends on the clock, so it has none either.
    pub fn is_dated(self) -> bool {
        !matches!(
            self,
            Rejection::Ragged
                | Rejection::NotUtf8
                | Rejection::MissingTime
                | Rejection::UnreadableTime
                | Rejection::FutureTime
        )
    }
}

/// What was mended in a row that was taken.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Error,
)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    #[error("the amount was rounded half-even to the currency's minor unit")]
    AmountRounded,
    #[error("the local time does not exist, or exists twice; the ordinary reading was taken")]
    LocalTimeAdjusted,
    #[error("the quantity cannot be read and was left out")]
    QuantityDropped,
    #[error("the quantity was rounded half-even to thousandths")]
    QuantityRounded,
    #[error("the discount cannot be read and was left out")]
    DiscountDropped,
    #[error("the discount was rounded half-even to the currency's minor unit")]
    DiscountRounded,
}

/// A rule in which a configuration contradicts a model version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{rule}` is `{configured}` in the configuration but `{trained}` in the model version")]
pub struct RuleConflict {
    pub rule: &'static str,
    pub configured: String,
    pub trained: String,
}

impl EventRules {
    /// Reads one row. `now` is the clock at the start of the run: what lies after it cannot have
    /// happened.
    ///
    /// # Errors
    /// The first [`Rejection`] found, in the order customer, time, kind, amount.
    pub fn read(&self, raw: &RawEvent<'_>, now: Timestamp) -> Result<Accepted, Rejection> {
        let mut repairs = Vec::new();
        if raw.customer.trim().is_empty() {
            return Err(Rejection::MissingCustomer);
        }
        if raw.time.trim().is_empty() {
            return Err(Rejection::MissingTime);
        }
        let time = self
            .zone
            .parse(raw.time, self.time_format.as_deref())
            .map_err(|_| Rejection::UnreadableTime)?;
        if time.at > now {
            return Err(Rejection::FutureTime);
        }
        if time.adjusted {
            repairs.push(Repair::LocalTimeAdjusted);
        }
        let kind = self.kind(raw.kind)?;
        let amount = self.amount(raw.amount, kind, &mut repairs)?;
        let quantity = optional(
            raw.quantity,
            QUANTITY_DIGITS,
            [Repair::QuantityDropped, Repair::QuantityRounded],
            &mut repairs,
        );
        let discount = optional(
            raw.discount,
            self.currency.digits,
            [Repair::DiscountDropped, Repair::DiscountRounded],
            &mut repairs,
        );
        let discount = discount.map(Money);
        let day = self.zone.day_of(time.at);
        let details = details(raw);
        Ok(Accepted {
            event: Event { at: time.at, day, kind, amount, quantity, discount, details },
            repairs,
        })
    }

    /// Refuses rules that would shape other histories than these.
    ///
    /// # Errors
    /// The first [`RuleConflict`].
    pub fn check_same(&self, configured: &EventRules) -> Result<(), RuleConflict> {
        let conflict = |rule, trained: String, configured: String| {
            if trained == configured {
                Ok(())
            } else {
                Err(RuleConflict { rule, configured, trained })
            }
        };
        let format =
            |rules: &EventRules| rules.time_format.clone().unwrap_or_else(|| "automatic".into());
        conflict("data.zone", self.zone.name().into(), configured.zone.name().into())?;
        conflict("data.currency", self.currency.code.clone(), configured.currency.code.clone())?;
        conflict(
            "data.currency_digits",
            self.currency.digits.to_string(),
            configured.currency.digits.to_string(),
        )?;
        conflict("data.time_format", format(self), format(configured))?;
        conflict(
            "data.default_kind",
            self.default_kind.name().into(),
            configured.default_kind.name().into(),
        )?;
        conflict("data.kinds", format!("{:?}", self.kinds), format!("{:?}", configured.kinds))
    }

    fn kind(&self, text: Option<&str>) -> Result<EventKind, Rejection> {
        match text.map(str::trim) {
            None | Some("") => Ok(self.default_kind),
            Some(text) => match self.kinds.get(text) {
                Some(kind) => Ok(*kind),
                None => text.parse().map_err(|()| Rejection::UnknownKind),
            },
        }
    }

    fn amount(
        &self,
        text: Option<&str>,
        kind: EventKind,
        repairs: &mut Vec<Repair>,
    ) -> Result<Option<Money>, Rejection> {
        let text = text.map(str::trim).unwrap_or_default();
        if text.is_empty() {
            return if kind == EventKind::Purchase {
                Err(Rejection::MissingAmount)
            } else {
                Ok(None)
            };
        }
        let (amount, rounded) = self.currency.parse(text).map_err(|error| match error {
            DecimalError::Unreadable => Rejection::UnreadableAmount,
            DecimalError::NotFinite => Rejection::NonFiniteAmount,
            DecimalError::OutOfRange => Rejection::AmountOutOfRange,
        })?;
        if amount.0 < 0 && kind == EventKind::Purchase {
            return Err(Rejection::NegativeAmount);
        }
        if rounded {
            repairs.push(Repair::AmountRounded);
        }
        Ok(Some(amount))
    }
}

/// An optional number: absent where the field is, left out and told where it cannot be read, and
/// rounded and told where it is too fine.
fn optional(
    text: Option<&str>,
    digits: u8,
    [dropped, rounded]: [Repair; 2],
    repairs: &mut Vec<Repair>,
) -> Option<i64> {
    let text = text.map(str::trim).filter(|text| !text.is_empty())?;
    match decimal::parse(text, digits) {
        Ok((units, false)) => Some(units),
        Ok((units, true)) => {
            repairs.push(rounded);
            Some(units)
        }
        Err(_) => {
            repairs.push(dropped);
            None
        }
    }
}

fn details(raw: &RawEvent<'_>) -> Option<Box<Details>> {
    let text =
        |field: Option<&str>| field.map(str::trim).filter(|text| !text.is_empty()).map(Into::into);
    let details = Details {
        order_id: text(raw.order_id),
        event_id: text(raw.event_id),
        item: text(raw.item),
        category: text(raw.category),
        channel: text(raw.channel),
    };
    (details != Details::default()).then(|| Box::new(details))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> EventRules {
        EventRules {
            zone: Zone::named("UTC").unwrap(),
            currency: Currency { code: "USD".into(), digits: 2 },
            time_format: None,
            default_kind: EventKind::Purchase,
            kinds: BTreeMap::from([("buy".into(), EventKind::Purchase)]),
        }
    }

    fn read(customer: &str, time: &str, amount: &str) -> Result<Accepted, Rejection> {
        let raw = RawEvent { customer, time, amount: Some(amount), ..RawEvent::default() };
        rules().read(&raw, Timestamp(1_700_000_000_000))
    }

    #[test]
    fn each_fault_has_its_name() {
        for (row, rejection) in [
            (("", "1997-01-01", "1"), Rejection::MissingCustomer),
            (("7", " ", "1"), Rejection::MissingTime),
            (("7", "someday", "1"), Rejection::UnreadableTime),
            (("7", "2999-01-01", "1"), Rejection::FutureTime),
            (("7", "1997-01-01", ""), Rejection::MissingAmount),
            (("7", "1997-01-01", "abc"), Rejection::UnreadableAmount),
            (("7", "1997-01-01", "NaN"), Rejection::NonFiniteAmount),
            (("7", "1997-01-01", "-inf"), Rejection::NonFiniteAmount),
            (("7", "1997-01-01", "1e40"), Rejection::AmountOutOfRange),
            (("7", "1997-01-01", "-1"), Rejection::NegativeAmount),
        ] {
            assert_eq!(read(row.0, row.1, row.2), Err(rejection), "{row:?}");
        }
    }

    #[test]
    fn repairs_are_told() {
        assert_eq!(read("7", "1997-01-01", "0.125").unwrap().repairs, [Repair::AmountRounded]);
        let raw = RawEvent {
            customer: "7",
            time: "1997-01-01",
            amount: Some("1"),
            quantity: Some("two"),
            discount: Some("?"),
            ..RawEvent::default()
        };
        let accepted = rules().read(&raw, Timestamp(i64::MAX)).unwrap();
        assert_eq!(accepted.repairs, [Repair::QuantityDropped, Repair::DiscountDropped]);
        assert_eq!((accepted.event.quantity, accepted.event.discount), (None, None));
        let raw = RawEvent { quantity: Some("1.23456"), discount: Some("0.005"), ..raw };
        let accepted = rules().read(&raw, Timestamp(i64::MAX)).unwrap();
        assert_eq!(accepted.repairs, [Repair::QuantityRounded, Repair::DiscountRounded]);
        assert_eq!(accepted.event.quantity, Some(1_235));
    }

    #[test]
    fn kinds_go_by_the_map_or_their_own_name() {
        let kind = |kind| {
            let raw = RawEvent {
                customer: "7",
                time: "1997-01-01",
                amount: Some("1"),
                kind,
                ..RawEvent::default()
            };
            rules().read(&raw, Timestamp(i64::MAX)).map(|accepted| accepted.event.kind)
        };
        assert_eq!(kind(None), Ok(EventKind::Purchase));
        assert_eq!(kind(Some("buy")), Ok(EventKind::Purchase));
        assert_eq!(kind(Some("visit")), Ok(EventKind::Visit));
        assert_eq!(kind(Some("teleport")), Err(Rejection::UnknownKind));
    }

    #[test]
    fn a_contradicting_rule_is_named() {
        let mut other = rules();
        other.zone = Zone::named("Europe/London").unwrap();
        let conflict = rules().check_same(&other).unwrap_err();
        assert_eq!(conflict.rule, "data.zone");
        assert!(rules().check_same(&rules()).is_ok());
    }
}
