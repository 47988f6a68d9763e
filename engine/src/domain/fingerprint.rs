//! A digest of histories, the same however they were partitioned.

use super::digest::hex;
use super::{AsOf, AttributeValue, Attributes, Event, History, IdHash, Label, Line};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// SHA-256 over every event up to an as-of: customers by bucket, those of a bucket by id, the events
/// of a customer in canonical order, and what a customers file says. Customers who are unknown by
/// then do not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// One digest per bucket that holds a customer.
    buckets: BTreeMap<u8, [u8; 32]>,
}

impl Fingerprint {
    /// Of histories sorted by customer id, which hold all customers of the buckets that they touch.
    pub fn of(histories: &[History], as_of: AsOf) -> Fingerprint {
        let mut hashers: BTreeMap<u8, Sha256> = BTreeMap::new();
        let mut bytes = Vec::new();
        for history in histories.iter().filter(|history| history.is_known_at(as_of)) {
            let events = history.until(as_of);
            bytes.clear();
            put_text(&mut bytes, Some(history.customer().as_str()));
            bytes.extend_from_slice(&(events.len() as u64).to_le_bytes());
            events.iter().for_each(|event| put_event(&mut bytes, event));
            if let Some(attributes) = history.attributes() {
                put_attributes(&mut bytes, attributes, as_of);
            }
            hashers.entry(history.customer().bucket()).or_default().update(&bytes);
        }
        let buckets =
            hashers.into_iter().map(|(bucket, hasher)| (bucket, hasher.finalize().into()));
        Fingerprint { buckets: buckets.collect() }
    }

    /// Joins the fingerprint of other buckets to this one.
    pub fn join(&mut self, other: Fingerprint) {
        self.buckets.extend(other.buckets);
    }

    /// The digest of all buckets, in hex.
    pub fn hex(&self) -> String {
        let mut hasher = Sha256::new();
        for (bucket, digest) in &self.buckets {
            hasher.update([*bucket]);
            hasher.update(digest);
        }
        hex(&hasher.finalize())
    }
}

/// The fingerprint of all histories of a log, sorted by customer id.
pub fn fingerprint(histories: &[History], as_of: AsOf) -> String {
    Fingerprint::of(histories, as_of).hex()
}

/// Every field with a mark for presence and a length where needed, so that no two different events
/// share an encoding.
fn put_event(bytes: &mut Vec<u8>, event: &Event) {
    bytes.extend_from_slice(&event.at.0.to_le_bytes());
    bytes.push(event.kind as u8);
    put_number(bytes, event.amount.map(|amount| amount.0));
    put_number(bytes, event.quantity);
    put_number(bytes, event.discount.map(|discount| discount.0));
    put_text(bytes, event.item.get());
    put_text(bytes, event.category.get());
    let ids = [event.order_id, event.event_id];
    if ids == [None; 2] && event.details.is_none() {
        bytes.push(0);
        return;
    }
    bytes.push(1);
    for id in ids {
        bytes.push(u8::from(id.is_some()));
        bytes.extend_from_slice(&id.map_or([0; 16], IdHash::to_bytes));
    }
    let details = event.details.as_deref();
    put_text(bytes, details.and_then(|details| details.channel.get()));
    put_number(bytes, details.and_then(|details| details.rating));
    let lines = details.map_or(&[][..], |details| &details.lines);
    put_number(bytes, Some(lines.len() as i64));
    lines.iter().for_each(|line| put_line(bytes, line));
}

fn put_attributes(bytes: &mut Vec<u8>, attributes: &Attributes, as_of: AsOf) {
    put_number(bytes, attributes.registered.map(|at| at.0));
    bytes.push(u8::from(attributes.opted_out));
    if let Some(Label { churned, at }) = attributes.label {
        // A contract that ends after the as-of is one that has not ended.
        let is_later = at.is_some_and(|at| at > as_of.at);
        bytes.push(u8::from(churned && !is_later));
        put_number(bytes, at.filter(|_| !is_later).map(|at| at.0));
    }
    for (name, value) in attributes.names().iter().zip(attributes.values()) {
        put_text(bytes, Some(name));
        match value {
            None => bytes.push(0),
            Some(AttributeValue::Number(number)) => {
                bytes.push(1);
                bytes.extend_from_slice(&number.to_bits().to_le_bytes());
            }
            Some(AttributeValue::Category(text)) => {
                bytes.push(2);
                put_text(bytes, text.get());
            }
        }
    }
}

fn put_line(bytes: &mut Vec<u8>, line: &Line) {
    put_number(bytes, line.amount.map(|amount| amount.0));
    put_number(bytes, line.quantity);
    put_number(bytes, line.discount.map(|discount| discount.0));
    put_text(bytes, line.item.get());
    put_text(bytes, line.category.get());
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
