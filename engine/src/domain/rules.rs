//! From what a log says to what happened: the rules that shape events.
//!
//! The rules belong to a model version and are applied by the same function to rows of a file and
//! to streamed events.

use super::decimal::{self, DecimalError};
use super::kinds::{KindRule, RuleField, RuledKind};
use super::{
    Currency, Details, Duplicates, Event, EventKind, IdHash, Money, ParsedTime, QUANTITY_DIGITS,
    RawEvent, RawValue, Text, Timestamp, Zone,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// Prices are read to so many digits before they are multiplied.
const PRICE_DIGITS: u8 = 6;

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
    /// Asked before the row's own kind; the first that holds decides.
    pub kind_rules: Vec<KindRule>,
    pub amount_is: AmountIs,
    /// Whether events with the same order id and kind are one.
    pub merge_orders: bool,
    pub duplicates: Duplicates,
}

/// What the amount of a row says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AmountIs {
    /// What was paid for the row.
    #[default]
    Total,
    /// What one unit cost: the row's quantity times it was paid.
    UnitPrice,
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
    #[error("the quantity, by which the unit price is multiplied, is missing or cannot be read")]
    MissingQuantity,
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
    #[error("the currency is not the model's")]
    OtherCurrency,
    #[error("a rule leaves such rows out")]
    Ignored,
}

impl Rejection {
    /// Whether something is wrong with such a row, rather than that nobody wants it.
    pub fn is_fault(self) -> bool {
        self != Rejection::Ignored
    }

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

/// What was mended, or is worth knowing, in a row that was taken.
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
    #[error("the rating cannot be read and was left out")]
    RatingDropped,
    #[error("the rating was rounded half-even to thousandths")]
    RatingRounded,
    #[error("the amount of the purchase is zero; it was taken as it is")]
    ZeroAmount,
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
    /// Rules for a log that needs none of its own: every row is a purchase of the given amount.
    pub fn plain(zone: Zone, currency: Currency) -> EventRules {
        EventRules {
            zone,
            currency,
            time_format: None,
            default_kind: EventKind::Purchase,
            kinds: BTreeMap::new(),
            kind_rules: Vec::new(),
            amount_is: AmountIs::Total,
            merge_orders: true,
            duplicates: Duplicates::Keep,
        }
    }

    /// Reads one row. `now` is the clock at the start of the run: what lies after it cannot have
    /// happened.
    ///
    /// # Errors
    /// The first [`Rejection`] found, in the order customer, time, kind, currency, amount.
    pub fn read(&self, raw: &RawEvent<'_>, now: Timestamp) -> Result<Accepted, Rejection> {
        let mut repairs = Vec::new();
        self.event(raw, now, &mut repairs).map(|event| Accepted { event, repairs })
    }

    /// The same, where what was mended is added to what others had mended.
    ///
    /// # Errors
    /// As [`EventRules::read`].
    pub fn event(
        &self,
        raw: &RawEvent<'_>,
        now: Timestamp,
        repairs: &mut Vec<Repair>,
    ) -> Result<Event, Rejection> {
        let of_customer = |rule: &&KindRule| rule.field == RuleField::Customer && rule.holds(raw);
        let nobody = self.kind_rules.iter().find(of_customer);
        if nobody.is_some_and(|rule| rule.kind == RuledKind::Ignore) {
            return Err(Rejection::Ignored);
        }
        if present(raw.customer).is_none() {
            return Err(Rejection::MissingCustomer);
        }
        let time = self.time(raw)?;
        if time.at > now {
            return Err(Rejection::FutureTime);
        }
        if time.adjusted {
            repairs.push(Repair::LocalTimeAdjusted);
        }
        let kind = self.kind(raw)?;
        if present(raw.currency).is_some_and(|code| *code.text() != *self.currency.code) {
            return Err(Rejection::OtherCurrency);
        }
        let mut optional = |field, digits, notes| optional(field, digits, notes, repairs);
        let quantity = optional(
            raw.quantity,
            QUANTITY_DIGITS,
            [Repair::QuantityDropped, Repair::QuantityRounded],
        );
        let discount = optional(
            raw.discount,
            self.currency.digits,
            [Repair::DiscountDropped, Repair::DiscountRounded],
        );
        let rating =
            optional(raw.rating, QUANTITY_DIGITS, [Repair::RatingDropped, Repair::RatingRounded]);
        let amount = self.amount(raw, kind, quantity, repairs)?;
        // What was given back is told by the kind; its size needs no sign.
        let magnitude = |number: i64| if kind == EventKind::Refund { number.abs() } else { number };
        Ok(Event {
            at: time.at,
            day: self.zone.day_of(time.at),
            kind,
            amount: amount.map(|amount| Money(magnitude(amount.0))),
            quantity: quantity.map(magnitude),
            discount: discount.map(Money),
            item: text(raw.item),
            category: text(raw.category),
            order_id: id(raw.order_id),
            event_id: id(raw.event_id),
            details: details(raw.channel, rating),
        })
    }

    /// The time of a row, whatever else is wrong with it.
    ///
    /// # Errors
    /// [`Rejection::MissingTime`] and [`Rejection::UnreadableTime`].
    pub fn time(&self, raw: &RawEvent<'_>) -> Result<ParsedTime, Rejection> {
        let value = present(raw.time).ok_or(Rejection::MissingTime)?;
        let time = match value {
            RawValue::Instant(ms) => self.zone.of_instant(ms),
            RawValue::Local(ms) => self.zone.of_local(ms),
            RawValue::Date(days) => self.zone.of_date(super::Day(days)),
            text => self.zone.parse(&text.text(), self.time_format.as_deref()).ok(),
        };
        time.ok_or(Rejection::UnreadableTime)
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
        conflict("data.kinds", format!("{:?}", self.kinds), format!("{:?}", configured.kinds))?;
        let json = |value: serde_json::Value| value.to_string();
        for (rule, value) in [
            ("data.kind_rules", (|r| serde_json::json!(r.kind_rules)) as fn(&EventRules) -> _),
            ("data.amount_is", |r| serde_json::json!(r.amount_is)),
            ("data.merge_orders", |r| serde_json::json!(r.merge_orders)),
            ("data.duplicates", |r| serde_json::json!(r.duplicates)),
        ] {
            conflict(rule, json(value(self)), json(value(configured)))?;
        }
        Ok(())
    }

    fn kind(&self, raw: &RawEvent<'_>) -> Result<EventKind, Rejection> {
        match self.kind_rules.iter().find(|rule| rule.holds(raw)).map(|rule| rule.kind) {
            Some(RuledKind::Ignore) => return Err(Rejection::Ignored),
            Some(RuledKind::Event(kind)) => return Ok(kind),
            None => {}
        }
        let Some(value) = present(raw.kind) else { return Ok(self.default_kind) };
        let text = value.text();
        match self.kinds.get(&*text) {
            Some(kind) => Ok(*kind),
            None => text.parse().map_err(|()| Rejection::UnknownKind),
        }
    }

    fn amount(
        &self,
        raw: &RawEvent<'_>,
        kind: EventKind,
        quantity: Option<i64>,
        repairs: &mut Vec<Repair>,
    ) -> Result<Option<Money>, Rejection> {
        let is_purchase = kind == EventKind::Purchase;
        let Some(value) = present(raw.amount) else {
            return if is_purchase { Err(Rejection::MissingAmount) } else { Ok(None) };
        };
        let read = match self.amount_is {
            AmountIs::Total => decimal_of(value, self.currency.digits),
            AmountIs::UnitPrice => {
                let Some(quantity) = quantity else {
                    return if is_purchase { Err(Rejection::MissingQuantity) } else { Ok(None) };
                };
                decimal_of(value, PRICE_DIGITS).and_then(|(price, finer)| {
                    let price = (price, PRICE_DIGITS);
                    let quantity = (quantity, QUANTITY_DIGITS);
                    let (units, rounded) = decimal::product(price, quantity, self.currency.digits)?;
                    Ok((units, rounded || finer))
                })
            }
        };
        let (amount, rounded) = read.map_err(|error| match error {
            DecimalError::Unreadable => Rejection::UnreadableAmount,
            DecimalError::NotFinite => Rejection::NonFiniteAmount,
            DecimalError::OutOfRange => Rejection::AmountOutOfRange,
        })?;
        if amount < 0 && is_purchase {
            return Err(Rejection::NegativeAmount);
        }
        if amount == 0 && is_purchase {
            repairs.push(Repair::ZeroAmount);
        }
        if rounded {
            repairs.push(Repair::AmountRounded);
        }
        Ok(Some(Money(amount)))
    }
}

/// A field that holds something.
fn present(field: Option<RawValue<'_>>) -> Option<RawValue<'_>> {
    field.filter(|value| !value.is_blank())
}

fn decimal_of(value: RawValue<'_>, digits: u8) -> Result<(i64, bool), DecimalError> {
    match value {
        RawValue::Float(number) => decimal::of_float(number, digits),
        RawValue::Text(text) => decimal::parse(text, digits),
        RawValue::Decimal { units, digits: given } => decimal::rescale(units, given, digits),
        RawValue::Integer(number) => decimal::rescale(number, 0, digits),
        other => decimal::parse(&other.text(), digits),
    }
}

/// An optional number: absent where the field is, left out and told where it cannot be read, and
/// rounded and told where it is too fine.
fn optional(
    field: Option<RawValue<'_>>,
    digits: u8,
    [dropped, rounded]: [Repair; 2],
    repairs: &mut Vec<Repair>,
) -> Option<i64> {
    match decimal_of(present(field)?, digits) {
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

fn text(field: Option<RawValue<'_>>) -> Text {
    let mut buffer = itoa::Buffer::new();
    present(field).map_or_else(Text::default, |value| Text::from(&*value.text_in(&mut buffer)))
}

fn id(field: Option<RawValue<'_>>) -> Option<IdHash> {
    IdHash::of(&field?.text_in(&mut itoa::Buffer::new()))
}

fn details(channel: Option<RawValue<'_>>, rating: Option<i64>) -> Option<Box<Details>> {
    let channel = present(channel);
    let is_some = channel.is_some() || rating.is_some();
    is_some.then(|| Box::new(Details { channel: text(channel), rating, lines: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use super::super::RuleTest;
    use super::*;

    fn rules() -> EventRules {
        let currency = Currency { code: "USD".into(), digits: 2 };
        EventRules {
            kinds: BTreeMap::from([("buy".into(), EventKind::Purchase)]),
            ..EventRules::plain(Zone::named("UTC").unwrap(), currency)
        }
    }

    fn raw<'a>(customer: &'a str, time: &'a str, amount: &'a str) -> RawEvent<'a> {
        let text = |text: &'a str| Some(RawValue::Text(text));
        RawEvent {
            customer: text(customer),
            time: text(time),
            amount: text(amount),
            ..RawEvent::default()
        }
    }

    fn read(customer: &str, time: &str, amount: &str) -> Result<Accepted, Rejection> {
        let raw = raw(customer, time, amount);
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
            quantity: Some("two".into()),
            discount: Some("?".into()),
            ..raw("7", "1997-01-01", "1")
        };
        let accepted = rules().read(&raw, Timestamp(i64::MAX)).unwrap();
        assert_eq!(accepted.repairs, [Repair::QuantityDropped, Repair::DiscountDropped]);
        assert_eq!((accepted.event.quantity, accepted.event.discount), (None, None));
        let raw =
            RawEvent { quantity: Some("1.23456".into()), discount: Some("0.005".into()), ..raw };
        let accepted = rules().read(&raw, Timestamp(i64::MAX)).unwrap();
        assert_eq!(accepted.repairs, [Repair::QuantityRounded, Repair::DiscountRounded]);
        assert_eq!(accepted.event.quantity, Some(1_235));
    }

    #[test]
    fn kinds_go_by_the_map_or_their_own_name() {
        let kind = |kind: Option<&'static str>| {
            let raw = RawEvent { kind: kind.map(RawValue::Text), ..raw("7", "1997-01-01", "1") };
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

    #[test]
    fn rules_tell_refunds_and_what_is_left_out() {
        let rule = |field, is, kind| KindRule { field, is, kind };
        let refund = RuledKind::Event(EventKind::Refund);
        let rules = EventRules {
            kind_rules: vec![
                rule(RuleField::Item, RuleTest::OneOf(vec!["POST".into()]), RuledKind::Ignore),
                rule(RuleField::OrderId, RuleTest::StartsWith("C".into()), refund),
                rule(RuleField::Quantity, RuleTest::Negative, refund),
            ],
            amount_is: AmountIs::UnitPrice,
            ..rules()
        };
        let read = |order: &'static str, item: &'static str, quantity: &'static str, price| {
            let raw = RawEvent {
                order_id: Some(order.into()),
                item: Some(item.into()),
                quantity: Some(quantity.into()),
                ..raw("7", "1997-01-01", price)
            };
            let event = rules.read(&raw, Timestamp(i64::MAX)).map(|accepted| accepted.event);
            event.map(|event| (event.kind, event.amount.map_or(0, |amount| amount.0)))
        };
        assert_eq!(read("536365", "85123A", "6", "2.55"), Ok((EventKind::Purchase, 1_530)));
        assert_eq!(read("C536379", "22", "1", "27.5"), Ok((EventKind::Refund, 2_750)));
        assert_eq!(read("536379", "22", "-2", "27.5"), Ok((EventKind::Refund, 5_500)));
        assert_eq!(read("536379", "POST", "1", "18"), Err(Rejection::Ignored));
        assert_eq!(read("536379", "22", "", "18"), Err(Rejection::MissingQuantity));
    }

    #[test]
    fn another_currency_is_refused_and_a_gift_is_told() {
        let foreign = RawEvent { currency: Some("EUR".into()), ..raw("7", "1997-01-01", "1") };
        assert_eq!(rules().read(&foreign, Timestamp(i64::MAX)), Err(Rejection::OtherCurrency));
        let same = RawEvent { currency: Some(" USD ".into()), ..foreign };
        assert!(rules().read(&same, Timestamp(i64::MAX)).is_ok());
        assert_eq!(read("7", "1997-01-01", "0").unwrap().repairs, [Repair::ZeroAmount]);
    }

    #[test]
    fn typed_fields_read_as_their_texts_do() {
        let text = read("7", "1997-01-02T03:04:05", "2.5").unwrap();
        let ms = text.event.at.0;
        for time in [RawValue::Instant(ms), RawValue::Local(ms)] {
            let typed = RawEvent {
                customer: Some(RawValue::Integer(7)),
                time: Some(time),
                amount: Some(RawValue::Float(2.5)),
                ..RawEvent::default()
            };
            assert_eq!(rules().read(&typed, Timestamp(i64::MAX)), Ok(text.clone()));
        }
    }
}
