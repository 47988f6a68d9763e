//! The purchase summary of a history, through the same accumulator as every feature.

use super::accumulator::Accumulator;
use crate::domain::{AsOf, Currency, EventKind, History, Lifetime};

/// The same, with nothing in it for a customer of whom there is no event.
pub fn lifetime_or_none(history: &History, as_of: AsOf, currency: &Currency) -> Lifetime {
    lifetime(history, as_of, currency).unwrap_or(Lifetime {
        purchase_days: 0,
        frequency: 0,
        recency_days: 0,
        age_days: 0,
        days_since_last_purchase: 0,
        ln_gaps: 0.0,
        total_spend: 0.0,
        monetary_value: 0.0,
    })
}

/// Summarises the purchases up to `as_of`; `None` without an event. A customer who did something but
/// bought nothing has no purchase days and counts from the first event.
pub fn lifetime(history: &History, as_of: AsOf, currency: &Currency) -> Option<Lifetime> {
    let mut purchases = Accumulator::default();
    let (mut first_day_spend, mut ln_gaps) = (0i128, 0.0);
    let events = history.until(as_of);
    for event in events.iter().filter(|event| event.kind == EventKind::Purchase) {
        let amount = event.amount.map(|amount| amount.0);
        if let Some(last) = purchases.last.filter(|&last| last < event.day) {
            ln_gaps += libm::log(f64::from(event.day.since(last)));
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
    let major = |minor: i128| minor as f64 / currency.minor_per_major();
    Some(Lifetime {
        purchase_days: purchases.days,
        frequency,
        recency_days: days(last.since(first)),
        age_days: days(as_of.day.since(first)),
        days_since_last_purchase: days(as_of.day.since(last)),
        ln_gaps,
        total_spend: major(purchases.sum),
        monetary_value: if frequency == 0 {
            0.0
        } else {
            major(purchases.sum - first_day_spend) / f64::from(frequency)
        },
    })
}
