//! One thing a customer did.

use super::{Day, IdHash, Money, Text, Timestamp};
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Event {
    pub at: Timestamp,
    /// The calendar day of `at` in the zone of the event rules.
    pub day: Day,
    pub kind: EventKind,
    pub amount: Option<Money>,
    /// In thousandths.
    pub quantity: Option<i64>,
    pub discount: Option<Money>,
    pub item: Text,
    pub category: Text,
    pub order_id: Option<IdHash>,
    /// The id that its source gave it; a merged order has none.
    pub event_id: Option<IdHash>,
    /// What is rarer, behind one pointer so that plain events stay small.
    pub details: Option<Box<Details>>,
}

/// What a log may carry with an event besides time, kind, numbers, goods and ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Details {
    pub channel: Text,
    /// In thousandths of a point.
    pub rating: Option<i64>,
    /// The lines of an order that was merged of several, in canonical order; otherwise empty. The
    /// event then holds their sums and no item or category of its own.
    pub lines: Vec<Line>,
}

/// One line of an order.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line {
    pub amount: Option<Money>,
    /// In thousandths.
    pub quantity: Option<i64>,
    pub discount: Option<Money>,
    pub item: Text,
    pub category: Text,
}

/// One line as it is looked at: of a merged order, or an event that is its own only line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineView<'e> {
    pub amount: Option<Money>,
    pub quantity: Option<i64>,
    pub discount: Option<Money>,
    pub item: Option<&'e str>,
    pub category: Option<&'e str>,
}

impl Event {
    /// An event of which nothing more is known.
    pub fn bare(at: Timestamp, day: Day, kind: EventKind) -> Event {
        Event {
            at,
            day,
            kind,
            amount: None,
            quantity: None,
            discount: None,
            item: Text::default(),
            category: Text::default(),
            order_id: None,
            event_id: None,
            details: None,
        }
    }

    /// How many accepted rows it was made of.
    pub fn n_rows(&self) -> u64 {
        self.details.as_ref().map_or(1, |details| details.lines.len().max(1) as u64)
    }

    /// Where it happened.
    pub fn channel(&self) -> Option<&str> {
        self.details.as_ref()?.channel.get()
    }

    /// An event that was not merged, which is its own only line.
    #[inline]
    pub fn only_line(&self) -> Option<LineView<'_>> {
        let is_merged = self.details.as_ref().is_some_and(|details| !details.lines.is_empty());
        (!is_merged).then(|| LineView {
            amount: self.amount,
            quantity: self.quantity,
            discount: self.discount,
            item: self.item.get(),
            category: self.category.get(),
        })
    }

    /// Its lines; an event that was not merged is its own.
    pub fn lines(&self) -> impl Iterator<Item = LineView<'_>> {
        let lines = self.details.as_ref().map_or(&[][..], |details| &details.lines);
        self.only_line().into_iter().chain(lines.iter().map(|line| LineView {
            amount: line.amount,
            quantity: line.quantity,
            discount: line.discount,
            item: line.item.get(),
            category: line.category.get(),
        }))
    }
}
