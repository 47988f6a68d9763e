//! One customer's events in time order, and the fingerprint of all of them.

use super::digest::hex;
use super::{AsOf, Event};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;

/// A customer's id, as the log spells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CustomerId(Box<str>);

impl CustomerId {
    /// The id with this text.
    pub fn new(id: &str) -> CustomerId {
        CustomerId(id.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for CustomerId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CustomerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One customer's events in canonical order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    customer: CustomerId,
    events: Vec<Event>,
}

impl History {
    /// Puts the events into canonical order.
    pub fn new(customer: CustomerId, mut events: Vec<Event>) -> History {
        events.sort_unstable();
        History { customer, events }
    }

    /// Whose history it is.
    pub fn customer(&self) -> &CustomerId {
        &self.customer
    }

    /// All events, in canonical order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The events that an answer at `as_of` may see.
    pub fn until(&self, as_of: AsOf) -> &[Event] {
        &self.events[..self.events.partition_point(|event| event.at <= as_of.at)]
    }
}

/// Collects events as they come and groups them by customer.
#[derive(Debug, Default)]
pub struct HistoryBuilder {
    events: HashMap<CustomerId, Vec<Event>>,
}

impl HistoryBuilder {
    /// Takes one event of one customer.
    pub fn add(&mut self, customer: &str, event: Event) {
        match self.events.get_mut(customer) {
            Some(events) => events.push(event),
            None => {
                self.events.insert(CustomerId::new(customer), vec![event]);
            }
        }
    }

    /// The histories, sorted by customer id.
    pub fn finish(self) -> Vec<History> {
        let mut histories: Vec<History> = self
            .events
            .into_iter()
            .map(|(customer, events)| History::new(customer, events))
            .collect();
        histories.sort_unstable_by(|a, b| a.customer.cmp(&b.customer));
        histories
    }
}

/// SHA-256 over every event up to `as_of`, customer by customer in canonical order, in hex.
///
/// `histories` must be sorted by customer id, as [`HistoryBuilder::finish`] leaves them. Customers
/// without an event by then do not count.
pub fn fingerprint(histories: &[History], as_of: AsOf) -> String {
    let mut hasher = Sha256::new();
    let mut bytes = Vec::new();
    for history in histories {
        let events = history.until(as_of);
        if events.is_empty() {
            continue;
        }
        bytes.clear();
        put_text(&mut bytes, Some(history.customer.as_str()));
        bytes.extend_from_slice(&(events.len() as u64).to_le_bytes());
        for event in events {
            put_event(&mut bytes, event);
        }
        hasher.update(&bytes);
    }
    hex(&hasher.finalize())
}

/// Every field with a mark for presence and a length where needed, so that no two different events
/// share an encoding.
fn put_event(bytes: &mut Vec<u8>, event: &Event) {
    bytes.extend_from_slice(&event.at.0.to_le_bytes());
    bytes.push(event.kind as u8);
    put_number(bytes, event.amount.map(|amount| amount.0));
    put_number(bytes, event.quantity);
    put_number(bytes, event.discount.map(|discount| discount.0));
    match &event.details {
        None => bytes.push(0),
        Some(details) => {
            bytes.push(1);
            for text in [
                &details.order_id,
                &details.event_id,
                &details.item,
                &details.category,
                &details.channel,
            ] {
                put_text(bytes, text.as_deref());
            }
        }
    }
}

fn put_number(bytes: &mut Vec<u8>, number: Option<i64>) {
    bytes.push(u8::from(number.is_some()));
    bytes.extend_from_slice(&number.unwrap_or(0).to_le_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: Option<&str>) {
    let text = text.map(str::as_bytes);
    put_number(bytes, text.map(|text| text.len() as i64));
    bytes.extend_from_slice(text.unwrap_or_default());
}
