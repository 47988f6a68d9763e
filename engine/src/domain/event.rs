//! One thing a customer did.

use super::{Day, Money, Timestamp};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Quantities are counted in thousandths, so that weighed goods are exact too.
pub const QUANTITY_DIGITS: u8 = 3;

/// What an event is. The default feature pack, the lifetimes and the labels look at purchases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Purchase,
    Refund,
    Visit,
    Cart,
    Login,
    Ticket,
    Rating,
    Campaign,
    Referral,
}

impl EventKind {
    /// All kinds, in their canonical order.
    pub const ALL: [EventKind; 9] = [
        EventKind::Purchase,
        EventKind::Refund,
        EventKind::Visit,
        EventKind::Cart,
        EventKind::Login,
        EventKind::Ticket,
        EventKind::Rating,
        EventKind::Campaign,
        EventKind::Referral,
    ];

    /// The name used in logs and configurations.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Purchase => "purchase",
            EventKind::Refund => "refund",
            EventKind::Visit => "visit",
            EventKind::Cart => "cart",
            EventKind::Login => "login",
            EventKind::Ticket => "ticket",
            EventKind::Rating => "rating",
            EventKind::Campaign => "campaign",
            EventKind::Referral => "referral",
        }
    }

    /// The bit that stands for this kind in a set of kinds.
    pub fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl FromStr for EventKind {
    type Err = ();

    fn from_str(text: &str) -> Result<EventKind, ()> {
        EventKind::ALL.into_iter().find(|kind| kind.name() == text).ok_or(())
    }
}

/// One event. The order of the fields is the canonical order of events: time first, ties broken by
/// everything else, so that shuffled rows give the same history.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Event {
    pub at: Timestamp,
    /// The calendar day of `at` in the zone of the event rules.
    pub day: Day,
    pub kind: EventKind,
    pub amount: Option<Money>,
    /// In thousandths.
    pub quantity: Option<i64>,
    pub discount: Option<Money>,
    /// The rarer texts, behind one pointer so that plain orders stay small.
    pub details: Option<Box<Details>>,
}

/// Texts that a log may carry with an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Details {
    pub order_id: Option<Box<str>>,
    pub event_id: Option<Box<str>>,
    pub item: Option<Box<str>>,
    pub category: Option<Box<str>>,
    pub channel: Option<Box<str>>,
}
