//! The history step: from one customer's accepted rows to a history.
//!
//! It drops events that came twice and makes one purchase of the lines of an order. It is applied
//! whenever a history is made, whether its rows are from files or were streamed, so that both give
//! the same histories.

use super::{CustomerId, Event, EventKind, EventRules, History, IdHash, Line, Money, Text};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// What becomes of rows that are equal in every field and have no id to tell them apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duplicates {
    /// Two equal lines may well be two things that were bought.
    #[default]
    Keep,
    Drop,
}

/// A customer's history, and the rows that were dropped on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Shaped {
    pub history: History,
    /// Later rows with the event id of an earlier one.
    pub repeated_ids: Vec<Event>,
    /// Rows beyond the first of those that are equal and have no id; part of the history where
    /// they are kept.
    pub exact_duplicates: Vec<Event>,
}

/// An order whose lines are of several instants, which looks different from between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spread {
    /// In canonical order, before merging.
    pub lines: Vec<Event>,
}

impl EventRules {
    /// Makes the history of `customer` from rows in any order.
    pub fn shape(&self, customer: CustomerId, mut rows: Vec<Event>) -> Shaped {
        if !rows.is_sorted() {
            rows.sort_unstable();
        }
        let repeated_ids = drop_repeated_ids(&mut rows);
        let exact_duplicates = self.exact_duplicates(&mut rows);
        let (events, spread) =
            if self.merge_orders && has_lines(&rows) { merged(rows) } else { (rows, Vec::new()) };
        Shaped {
            history: History::shaped(customer, events, spread),
            repeated_ids,
            exact_duplicates,
        }
    }

    fn exact_duplicates(&self, rows: &mut Vec<Event>) -> Vec<Event> {
        // The instants tell most neighbours apart.
        let equal = |pair: &[Event]| {
            pair[0].at == pair[1].at && pair[0] == pair[1] && pair[0].event_id.is_none()
        };
        let duplicates: Vec<Event> =
            rows.windows(2).filter(|pair| equal(pair)).map(|pair| pair[1].clone()).collect();
        if self.duplicates == Duplicates::Drop && !duplicates.is_empty() {
            rows.dedup_by(|later, earlier| later == earlier && later.event_id.is_none());
        }
        duplicates
    }
}

/// Keeps the first event of each id in canonical order, so that no later one changes the past.
fn drop_repeated_ids(rows: &mut Vec<Event>) -> Vec<Event> {
    if !may_repeat(rows.iter().filter_map(|row| row.event_id)) {
        return Vec::new();
    }
    let mut seen: HashSet<IdHash> = HashSet::new();
    let repeated: Vec<bool> =
        rows.iter().map(|row| row.event_id.is_some_and(|id| !seen.insert(id))).collect();
    let mut dropped = Vec::new();
    let mut kept = Vec::with_capacity(rows.len());
    for (row, repeated) in std::mem::take(rows).into_iter().zip(repeated) {
        if repeated { dropped.push(row) } else { kept.push(row) }
    }
    *rows = kept;
    dropped
}

/// Whether an id may stand there twice, where a no is never wrong. Hardly any history has one twice,
/// and most are short, so that few share a bit of so many.
fn may_repeat(ids: impl Iterator<Item = IdHash>) -> bool {
    const N_BITS: usize = 1 << 13;
    let mut seen = [0u64; N_BITS / 64];
    ids.map(|id| id.bucket(N_BITS)).any(|bit| {
        let (word, mask) = (&mut seen[bit / 64], 1 << (bit % 64));
        let was_seen = *word & mask != 0;
        *word |= mask;
        was_seen
    })
}

/// Whether an order has several lines. Where none has, the rows are the events.
fn has_lines(rows: &[Event]) -> bool {
    if !may_repeat(rows.iter().filter_map(|row| row.order_id)) {
        return false;
    }
    let order = |row: &Event| Some((row.order_id?, row.kind));
    let mut orders: Vec<(IdHash, EventKind)> = rows.iter().filter_map(order).collect();
    orders.sort_unstable();
    orders.windows(2).any(|pair| pair[0] == pair[1])
}

/// One event per order and kind, and the orders that took more than an instant.
fn merged(mut rows: Vec<Event>) -> (Vec<Event>, Vec<Spread>) {
    // Lines of an order stay in canonical order.
    rows.sort_by_key(|row| (row.order_id, row.kind));
    let is_one =
        |a: &Event, b: &Event| a.order_id.is_some() && a.order_id == b.order_id && a.kind == b.kind;
    let (mut events, mut spread) = (Vec::with_capacity(rows.len()), Vec::new());
    for lines in rows.chunk_by(is_one) {
        events.extend(merge(lines));
        let instants = lines.first().map(|line| line.at).zip(lines.last().map(|line| line.at));
        if instants.is_some_and(|(first, last)| first < last) {
            spread.push(Spread { lines: lines.to_vec() });
        }
    }
    events.sort_unstable();
    (events, spread)
}

/// One event of the lines of an order, given in canonical order: at its first instant, with the
/// sums of all lines. `None` of nothing.
pub(super) fn merge(lines: &[Event]) -> Option<Event> {
    let (first, others) = lines.split_first()?;
    if others.is_empty() {
        return Some(first.clone());
    }
    let sum = |value: fn(&Event) -> Option<i64>| {
        lines.iter().filter_map(value).reduce(i64::saturating_add)
    };
    let mut details = first.details.as_deref().cloned().unwrap_or_default();
    details.lines = lines
        .iter()
        .map(|line| Line {
            amount: line.amount,
            quantity: line.quantity,
            discount: line.discount,
            item: line.item.clone(),
            category: line.category.clone(),
        })
        .collect();
    details.lines.sort_unstable();
    Some(Event {
        at: first.at,
        day: first.day,
        kind: first.kind,
        amount: sum(|line| line.amount.map(|amount| amount.0)).map(Money),
        quantity: sum(|line| line.quantity),
        discount: sum(|line| line.discount.map(|discount| discount.0)).map(Money),
        item: Text::default(),
        category: Text::default(),
        order_id: first.order_id,
        event_id: None,
        details: Some(Box::new(details)),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{AsOf, Currency, Day, Timestamp, Zone};
    use super::*;

    fn rules(duplicates: Duplicates) -> EventRules {
        let currency = Currency { code: "USD".into(), digits: 2 };
        EventRules { duplicates, ..EventRules::plain(Zone::named("UTC").unwrap(), currency) }
    }

    fn row(at: i64, amount: i64, order: Option<&str>, id: Option<&str>) -> Event {
        Event {
            amount: Some(Money(amount)),
            quantity: Some(1_000),
            item: Text::from(&*format!("item {amount}")),
            order_id: order.and_then(IdHash::of),
            event_id: id.and_then(IdHash::of),
            ..Event::bare(Timestamp(at), Day(0), EventKind::Purchase)
        }
    }

    fn shape(rows: &[Event], duplicates: Duplicates) -> Shaped {
        let backwards =
            rules(duplicates).shape(CustomerId::new("7"), rows.iter().rev().cloned().collect());
        let shaped = rules(duplicates).shape(CustomerId::new("7"), rows.to_vec());
        assert_eq!(shaped, backwards);
        shaped
    }

    fn amounts(shaped: &Shaped, at: i64) -> Vec<i64> {
        let as_of = AsOf { at: Timestamp(at), day: Day(0) };
        let events = shaped.history.until(as_of).into_owned();
        events.iter().map(|event| event.amount.unwrap().0).collect()
    }

    #[test]
    fn lines_of_an_order_are_one_purchase() {
        let rows =
            [row(5, 10, Some("a"), None), row(5, 20, Some("a"), None), row(6, 7, None, None)];
        let shaped = shape(&rows, Duplicates::Keep);
        assert_eq!(amounts(&shaped, 9), [30, 7]);
        let order = &shaped.history.events()[0];
        assert_eq!((order.n_rows(), order.quantity), (2, Some(2_000)));
        let items: Vec<_> = order.lines().filter_map(|line| line.item).collect();
        assert_eq!(items, ["item 10", "item 20"]);
    }

    #[test]
    fn a_line_after_the_as_of_changes_nothing() {
        let rows =
            [row(5, 10, Some("a"), None), row(7, 20, Some("a"), None), row(6, 7, None, None)];
        let all = shape(&rows, Duplicates::Keep);
        assert_eq!(amounts(&all, 7), [30, 7]);
        for at in [4, 5, 6] {
            let seen: Vec<Event> = rows.iter().filter(|row| row.at.0 <= at).cloned().collect();
            let as_of = AsOf { at: Timestamp(at), day: Day(0) };
            let alone = shape(&seen, Duplicates::Keep);
            assert_eq!(all.history.until(as_of), alone.history.until(as_of), "{at}");
        }
    }

    #[test]
    fn an_id_that_comes_again_is_dropped_wherever_it_stands() {
        let rows =
            [row(5, 10, None, Some("x")), row(9, 99, None, Some("x")), row(6, 7, None, None)];
        let shaped = shape(&rows, Duplicates::Keep);
        assert_eq!(amounts(&shaped, 99), [10, 7]);
        assert_eq!(shaped.repeated_ids, [row(9, 99, None, Some("x"))]);
    }

    #[test]
    fn equal_rows_without_an_id_stay_unless_told_otherwise() {
        let rows = [row(5, 10, None, None), row(5, 10, None, None), row(5, 10, None, None)];
        let kept = shape(&rows, Duplicates::Keep);
        assert_eq!((amounts(&kept, 9).len(), kept.exact_duplicates.len()), (3, 2));
        let dropped = shape(&rows, Duplicates::Drop);
        assert_eq!((amounts(&dropped, 9).len(), dropped.exact_duplicates.len()), (1, 2));
    }
}
