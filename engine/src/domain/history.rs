//! One customer's events in time order, and the fingerprint of all of them.

use super::shape::{self, Spread};
use super::{AsOf, Attributes, Event, Timestamp};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
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

    /// A number that spreads ids evenly (FNV-1a, finished as in MurmurHash3). It is part of what
    /// fingerprints and samples are made by, so it never changes.
    pub fn hash(&self) -> u64 {
        hash(self.as_str())
    }

    /// One of 256 buckets: the first byte of the hash.
    pub fn bucket(&self) -> u8 {
        bucket(self.as_str())
    }
}

impl std::borrow::Borrow<str> for CustomerId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<CustomerId> for String {
    fn from(id: CustomerId) -> String {
        id.0.into()
    }
}

impl From<CustomerId> for Box<str> {
    fn from(id: CustomerId) -> Box<str> {
        id.0
    }
}

impl fmt::Display for CustomerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The hash of an id's text; see [`CustomerId::hash`].
#[inline]
pub fn hash(id: &str) -> u64 {
    let fnv = id.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    finish(fnv)
}

/// The bucket of an id's text; see [`CustomerId::bucket`].
#[inline]
pub fn bucket(id: &str) -> u8 {
    (hash(id) >> 56) as u8
}

/// Mixes every bit into every other (Appleby's fmix64).
#[inline]
pub(super) fn finish(mut word: u64) -> u64 {
    word ^= word >> 33;
    word = word.wrapping_mul(0xff51_afd7_ed55_8ccd);
    word ^= word >> 33;
    word = word.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

/// One customer's events in canonical order, the lines of an order merged.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    customer: CustomerId,
    events: Vec<Event>,
    /// The orders that took more than an instant.
    spread: Vec<Spread>,
    /// What a customers file says of the customer.
    attributes: Option<Box<Attributes>>,
}

impl History {
    /// Puts events that need no shaping into canonical order; rows of a log go through
    /// [`EventRules::shape`](super::EventRules::shape) instead.
    pub fn new(customer: CustomerId, mut events: Vec<Event>) -> History {
        events.sort_unstable();
        History { customer, events, spread: Vec::new(), attributes: None }
    }

    /// The events of an earlier history, in its order.
    pub fn again(customer: CustomerId, events: Vec<Event>) -> History {
        History::shaped(customer, events, Vec::new())
    }

    pub(super) fn shaped(customer: CustomerId, events: Vec<Event>, spread: Vec<Spread>) -> History {
        History { customer, events, spread, attributes: None }
    }

    /// The same with what a customers file says of the customer.
    pub fn with_attributes(self, attributes: Option<Attributes>) -> History {
        History { attributes: attributes.map(Box::new), ..self }
    }

    /// Whose history it is.
    pub fn customer(&self) -> &CustomerId {
        &self.customer
    }

    /// The id alone.
    pub fn into_customer(self) -> CustomerId {
        self.customer
    }

    /// What a customers file says of the customer; `None` without one.
    pub fn attributes(&self) -> Option<&Attributes> {
        self.attributes.as_deref()
    }

    /// Whether the customer opted out of being scored and learned from.
    pub fn opted_out(&self) -> bool {
        self.attributes.as_ref().is_some_and(|attributes| attributes.opted_out)
    }

    /// Whether the customer is known at `as_of`: by an event, or by the customers file unless that
    /// says that they registered later.
    pub fn is_known_at(&self, as_of: AsOf) -> bool {
        let registered = |attributes: &Attributes| {
            attributes.registered.is_none_or(|registered| registered <= as_of.at)
        };
        !self.is_empty_until(as_of) || self.attributes().is_some_and(registered)
    }

    /// All events, in canonical order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Whether an order took more than an instant, so that events and attributes are not all that
    /// an answer may need.
    pub fn has_spread_orders(&self) -> bool {
        !self.spread.is_empty()
    }

    /// The instant of the newest row, which may be a line of an order that began earlier.
    pub fn newest(&self) -> Option<Timestamp> {
        let event = self.events.last().map(|event| event.at);
        let line = self.spread.iter().filter_map(|order| order.lines.last()).map(|line| line.at);
        event.max(line.max())
    }

    /// Whether nothing had happened by `as_of`.
    pub fn is_empty_until(&self, as_of: AsOf) -> bool {
        self.events.first().is_none_or(|event| event.at > as_of.at)
    }

    /// The events that an answer at `as_of` may see, in canonical order. Of an order whose lines are
    /// of several instants it sees the lines up to then.
    pub fn until(&self, as_of: AsOf) -> Cow<'_, [Event]> {
        let seen = &self.events[..self.events.partition_point(|event| event.at <= as_of.at)];
        if self.spread.is_empty() {
            return Cow::Borrowed(seen);
        }
        let parts: Vec<&[Event]> =
            self.spread.iter().filter_map(|order| order.part_until(as_of)).collect();
        if parts.is_empty() {
            return Cow::Borrowed(seen);
        }
        let same = |event: &Event, line: &Event| {
            event.order_id == line.order_id && event.kind == line.kind
        };
        let mut events: Vec<Event> = seen
            .iter()
            .filter(|event| !parts.iter().any(|lines| same(event, &lines[0])))
            .cloned()
            .collect();
        events.extend(parts.into_iter().filter_map(shape::merge));
        events.sort_unstable();
        Cow::Owned(events)
    }
}

impl Spread {
    /// The lines up to `as_of`, where that is some of them but not all.
    fn part_until(&self, as_of: AsOf) -> Option<&[Event]> {
        let seen = self.lines.partition_point(|line| line.at <= as_of.at);
        (0 < seen && seen < self.lines.len()).then(|| &self.lines[..seen])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_what_they_always_were() {
        let buckets = ["1", "2", "00004", "c0000123"].map(bucket);
        assert_eq!(buckets, BUCKETS);
        let mut sizes = [0u32; 256];
        (0..25_600).for_each(|id| sizes[usize::from(bucket(&id.to_string()))] += 1);
        assert!(sizes.iter().all(|&size| (60..=150).contains(&size)), "{sizes:?}");
    }

    const BUCKETS: [u8; 4] = [124, 189, 26, 66];
}
