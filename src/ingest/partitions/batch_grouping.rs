//! The rows of a part by customer, where they are columns.

use super::batch::{Batch, Columns};
use super::same_hash::SameHash;
use habitus_engine::domain::{Day, Event, EventKind, Money, Text, Timestamp};
use std::collections::HashMap;
use std::ops::Range;

const MS_PER_DAY: i64 = 86_400_000;

/// It serves one part after the other, so that its memory need not be found again.
#[derive(Debug, Default)]
pub(super) struct BatchGrouping {
    /// What is read at the moment, and the texts of the whole part.
    columns: Columns,
    /// Whose each row is, in the order in which they came.
    of_row: Vec<u32>,
    /// Rows, those of a customer side by side.
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Row {
    at: i64,
    amount: i64,
    /// Indices of the item's and the category's text.
    goods: [u32; 2],
}

impl BatchGrouping {
    /// Groups the rows of a part, and tells whose they are and where those of each stand.
    pub fn of(&mut self, batches: &[Batch], part: usize) -> Vec<(i64, Range<usize>)> {
        let mut known: HashMap<i64, u32, SameHash> = HashMap::default();
        let mut customers: Vec<(i64, Range<usize>)> = Vec::new();
        self.of_row.clear();
        for batch in batches {
            batch.put_customers(part, &mut self.columns);
            for &customer in &self.columns.customers {
                let index = *known.entry(customer).or_insert_with(|| {
                    customers.push((customer, 0..0));
                    customers.len() as u32 - 1
                });
                customers[index as usize].1.end += 1;
                self.of_row.push(index);
            }
        }
        let mut n_rows = 0;
        for (_, range) in &mut customers {
            let begin = n_rows;
            n_rows += range.end;
            *range = begin..begin;
        }
        self.rows.resize(n_rows, Row::default());
        self.columns.texts.clear();
        let mut of_row = self.of_row.as_slice();
        for batch in batches {
            batch.put_events(part, &mut self.columns);
            let Columns { times, amounts, goods: [items, categories], .. } = &self.columns;
            let (of_batch, rest) = of_row.split_at(times.len());
            of_row = rest;
            let goods = items.iter().zip(categories);
            let rows = times.iter().zip(amounts).zip(goods);
            for (&index, ((&at, &amount), (&item, &category))) in of_batch.iter().zip(rows) {
                let end = &mut customers[index as usize].1.end;
                self.rows[*end] = Row { at, amount, goods: [item, category] };
                *end += 1;
            }
        }
        customers
    }

    /// The events of a customer whose rows stand there, by time.
    pub fn events(&mut self, range: Range<usize>) -> Vec<Event> {
        let rows = &mut self.rows[range];
        let texts = &self.columns.texts;
        let text = |index: u32| match index {
            0 => Text::NONE,
            index => texts[index as usize].clone(),
        };
        let order = Order::of(rows);
        if order.is_none() {
            rows.sort_unstable_by_key(|row| row.at);
        }
        let place = |nth: usize| order.as_ref().map_or(nth, |order| usize::from(order.0[nth]));
        // Every field is named, so that an event is made where it stays: moving it costs as much.
        let event = |nth: usize| {
            let row = &rows[place(nth)];
            Event {
                at: Timestamp(row.at),
                day: Day(row.at.div_euclid(MS_PER_DAY) as i32),
                kind: EventKind::Purchase,
                amount: Some(Money(row.amount)),
                quantity: None,
                discount: None,
                item: text(row.goods[0]),
                category: text(row.goods[1]),
                order_id: None,
                event_id: None,
                details: None,
            }
        };
        (0..rows.len()).map(event).collect()
    }
}

/// Customers' ids as the rest of the house has them, end to end.
pub(super) struct Spelled {
    ids: String,
    ends: Vec<usize>,
}

impl Spelled {
    pub fn of(numbers: impl Iterator<Item = i64>) -> Spelled {
        let (mut ids, mut buffer) = (String::new(), itoa::Buffer::new());
        let spell = |number| {
            ids.push_str(buffer.format(number));
            ids.len()
        };
        let ends = numbers.map(spell).collect();
        Spelled { ids, ends }
    }

    pub fn ids(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.ids[start..end])
    }
}

/// In which order a few rows come. Most customers have few, and to sort those by comparing two at a
/// time is slow, because nothing foresees which is the earlier one: here each is compared with all.
struct Order([u8; Order::MOST]);

impl Order {
    const MOST: usize = 1 << Order::INDEX_BITS;
    const INDEX_BITS: u32 = 6;

    /// `None` of more rows than a few.
    fn of(rows: &[Row]) -> Option<Order> {
        if rows.len() > Order::MOST {
            return None;
        }
        let times = || rows.iter().map(|row| row.at);
        let (oldest, newest) = (times().min()?, times().max()?);
        // Roughly when, and which: four of them are compared at once.
        let span_bits = u64::BITS - (newest.wrapping_sub(oldest) as u64).leading_zeros();
        let shift = span_bits.saturating_sub(i32::BITS - 1 - Order::INDEX_BITS);
        let mut keys = [i32::MAX; Order::MOST];
        for (index, (key, at)) in keys.iter_mut().zip(times()).enumerate() {
            let roughly = (at.wrapping_sub(oldest) as u64 >> shift) as i32;
            *key = roughly << Order::INDEX_BITS | index as i32;
        }
        let keys = &keys[..rows.len().next_multiple_of(4)];
        let mut order = [0; Order::MOST];
        for (index, key) in keys[..rows.len()].iter().enumerate() {
            // They are few, and a sum that may not overflow is not made of four at once.
            let earlier = keys.iter().fold(0i32, |n, other| n.wrapping_add((other < key).into()));
            order[earlier as usize] = index as u8;
        }
        // Those of roughly one time, exactly.
        for end in 1..rows.len() {
            let at = |index: u8| rows[usize::from(index)].at;
            let mut place = end;
            while place > 0 && at(order[place - 1]) > at(order[place]) {
                order.swap(place - 1, place);
                place -= 1;
            }
        }
        Some(Order(order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_and_many_come_in_the_order_of_their_times() {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 16) as i64
        };
        for n_rows in (0..70).chain([500]) {
            for apart in [1, 3, 1_000, 1 << 26, 1 << 45, i64::MAX] {
                let row = |_| Row { at: next() % apart - 5, amount: next(), goods: [0; 2] };
                let rows = (0..n_rows).map(row).collect();
                let mut grouping = BatchGrouping { rows, ..BatchGrouping::default() };
                let mut expected: Vec<i64> = grouping.rows.iter().map(|row| row.at).collect();
                expected.sort_unstable();
                let found = grouping.events(0..n_rows);
                assert!(found.iter().map(|event| event.at.0).eq(expected), "{n_rows} {apart}");
            }
        }
    }
}
