//! The purchase summary of a history, through the same accumulator as every feature.

use super::accumulator::Accumulator;
use crate::domain::{AsOf, Currency, Day, EventKind, History, Lifetime};

const DAYS_OF_WEEK: i32 = 7;

/// The same, with nothing in it for a customer of whom there is no event.
pub fn lifetime_or_none(history: &History, as_of: AsOf, currency: &Currency) -> Lifetime {
    lifetime(history, as_of, currency).unwrap_or_default()
}

/// Summarises the purchases up to `as_of`; `None` without an event. A customer who did something but
/// bought nothing has no purchase days and counts from the first event.
pub fn lifetime(history: &History, as_of: AsOf, currency: &Currency) -> Option<Lifetime> {
    let mut purchases = Accumulator::default();
    let (mut first_day_spend, mut ln_gaps, mut last_gap) = (0i128, 0.0, 0);
    let events = history.until(as_of);
    let bought = || events.iter().filter(|event| event.kind == EventKind::Purchase);
    for event in bought() {
        let amount = event.amount.map(|amount| amount.0);
        if let Some(last) = purchases.last.filter(|&last| last < event.day) {
            last_gap = event.day.since(last);
            ln_gaps += libm::log(f64::from(last_gap));
        }
        purchases.add(event.day, amount);
        if purchases.first == Some(event.day) {
            first_day_spend += i128::from(amount.unwrap_or(0));
        }
    }
    let first = purchases.first.unwrap_or(events.first()?.day);
    let last = purchases.last.unwrap_or(first);
    let days = |days: i32| days.max(0) as u32;
    let frequency = purchases.days.saturating_sub(1);
    // Days before the as-of that are less than this share of T; of an age of days all are recent.
    let lately = |share: f64| {
        let within = share * f64::from(as_of.day.since(first).max(DAYS_OF_WEEK));
        let mut seen = None;
        let is_new = |day: &Day| {
            let is_new = seen.is_none_or(|seen| seen < *day);
            seen = seen.max(Some(*day));
            is_new
        };
        let recent = |day: &Day| f64::from(as_of.day.since(*day)) < within;
        bought().map(|event| event.day).filter(recent).filter(is_new).count() as u32
    };
    let major = |minor: i128| minor as f64 / currency.minor_per_major();
    Some(Lifetime {
        purchase_days: purchases.days,
        frequency,
        recency_days: days(last.since(first)),
        age_days: days(as_of.day.since(first)),
        days_since_last_purchase: days(as_of.day.since(last)),
        last_gap_days: days(last_gap),
        in_last_quarter: lately(0.25),
        in_last_half: lately(0.5),
        ln_gaps,
        total_spend: major(purchases.sum),
        monetary_value: if frequency == 0 {
            0.0
        } else {
            major(purchases.sum - first_day_spend) / f64::from(frequency)
        },
        inactive_days: None,
    })
}
