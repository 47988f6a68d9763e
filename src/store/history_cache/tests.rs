//! Histories come back as they were packed, and what is kept stays within its bytes.

use super::packed::{pack, unpack};
use super::shards::Shards;
use super::{HistoryCache, Shaping};
use habitus_engine::domain::{
    Currency, CustomerId, Day, Details, Draws, Event, EventKind, EventRules, History, IdHash, Line,
    Money, Seed, Timestamp, Zone,
};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

const DAY: i64 = 86_400_000;

fn rules() -> EventRules {
    EventRules::plain(Zone::named("UTC").unwrap(), Currency { code: "EUR".into(), digits: 2 })
}

fn shaping(rules: &EventRules) -> Shaping<'_> {
    Shaping { rules, tag: 7, kept_from: None }
}

fn any_event(draws: &mut Draws, unit: i64) -> Event {
    let at = Timestamp((i64::from(draws.below(40_000)) - 10_000) * unit);
    let day = Day(at.0.div_euclid(DAY) as i32 + draws.below(3) as i32 - 1);
    let kind = EventKind::ALL[draws.below(3) as usize];
    let mut event = Event::bare(at, day, kind);
    let whole = if draws.chance(0.5) { 1_000 } else { 1 };
    event.quantity = draws.chance(0.7).then(|| i64::from(draws.below(9)) * whole - 2_000);
    event.amount = draws.chance(0.8).then(|| Money(i64::from(draws.below(90_000)) - 100));
    event.discount = draws.chance(0.1).then_some(Money(i64::MIN));
    if draws.chance(0.2) {
        (event.item, event.category) = ("a tea of many words and a name".into(), "tea".into());
        event.order_id = IdHash::of("17");
        let lines = vec![Line { quantity: Some(3), ..Line::default() }; draws.below(3) as usize];
        event.details =
            Some(Box::new(Details { rating: Some(4_500), lines, ..Details::default() }));
    }
    event
}

#[test]
fn histories_come_back_without_ids() {
    let (rules, names) = (rules(), Arc::from([]));
    let mut draws = Draws::new(Seed(3));
    for round in 0..3_000 {
        let unit = [1, 1_000, 60_000, 3_600_000, DAY][round % 5];
        let mut events: Vec<Event> =
            (0..draws.below(40)).map(|_| any_event(&mut draws, unit)).collect();
        events.sort();
        if round % 100 == 0 {
            events.insert(0, Event::bare(Timestamp(i64::MIN), Day(0), EventKind::Purchase));
            events.push(Event::bare(Timestamp(i64::MAX), Day(0), EventKind::Purchase));
        }
        let history = History::again(CustomerId::new("é"), events.clone());
        let kept_from = (round % 3 == 0).then_some(Timestamp(-1));
        let shaping = Shaping { kept_from, ..shaping(&rules) };
        let bytes = pack(&history, None, 5, &shaping);
        let again = |bytes: &[u8]| unpack(bytes, "é", 5..=9, &shaping, &names);
        let is_calendar = |event: &Event| event.at.0.unsigned_abs() < 1 << 60;
        let seen = again(&bytes).unwrap();
        assert_eq!(seen.events().len(), events.len());
        for (seen, event) in seen.events().iter().zip(&events) {
            let plain = Event { order_id: None, event_id: None, ..event.clone() };
            assert_eq!(seen.at, plain.at);
            assert!(!is_calendar(&plain) || *seen == plain, "{seen:?} {plain:?}");
        }
        for end in 0..bytes.len() {
            assert_eq!(again(&bytes[..end]), None, "{end} of {}", bytes.len());
        }
        // Of another customer, other rules, another boundary and another moment it is nothing.
        assert_eq!(unpack(&bytes, "e", 5..=9, &shaping, &names), None);
        assert_eq!(unpack(&bytes, "é", 6..=9, &shaping, &names), None);
        assert_eq!(unpack(&bytes, "é", RangeInclusive::new(5, 4), &shaping, &names), None);
        let other = Shaping { tag: 8, ..shaping };
        assert_eq!(unpack(&bytes, "é", 5..=9, &other, &names), None);
        let other = Shaping { kept_from: Some(Timestamp(i64::MIN)), ..shaping };
        assert_eq!(unpack(&bytes, "é", 5..=9, &other, &names), None);
    }
}

#[test]
fn plain_purchases_take_seven_bytes() {
    let rules = rules();
    let purchase = |number: i64| {
        let at = Timestamp(1_600_000_000_000 + number * 17 * DAY + number * 3_599_000);
        let mut event = Event::bare(at, Day(at.0.div_euclid(DAY) as i32), EventKind::Purchase);
        (event.amount, event.quantity) = (Some(Money(4_000 + number)), Some(2_000));
        event
    };
    let history =
        |n: i64| History::again(CustomerId::new("c1234567"), (0..n).map(purchase).collect());
    let length = |n| pack(&history(n), None, 20_000_000, &shaping(&rules)).len();
    assert_eq!((length(60) - length(20)) / 40, 7);
    assert!(length(20) < 180, "{}", length(20));
}

/// What comes out of any bytes of memory is what was last put in, or nothing.
#[test]
fn what_is_kept_is_what_was_put_last() {
    for (round, bytes) in [4 << 10, 100 << 10, 3 << 20, 9 << 20].into_iter().enumerate() {
        let mut draws = Draws::new(Seed(round as u64));
        let shards = Shards::new(bytes);
        let mut model: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let (mut hits, mut most) = (0, 0);
        for _ in 0..200_000 {
            // Some share their lowest bits, as hashes may.
            let hash = u64::from(draws.below(40_000)) << [0, 40][draws.below(2) as usize];
            match draws.below(10) {
                0 => {
                    shards.remove(hash);
                    model.remove(&hash);
                    assert_eq!(shards.get(hash), None);
                }
                1..=4 => {
                    let length =
                        if draws.chance(0.01) { draws.below(40_000) } else { draws.below(300) };
                    let value = vec![draws.below(256) as u8; length as usize];
                    shards.insert(hash, &value);
                    model.insert(hash, value);
                }
                _ => {
                    if let Some(found) = shards.get(hash) {
                        assert_eq!(Some(&found), model.get(&hash));
                        hits += 1;
                    }
                }
            }
            most = most.max(shards.counts().1);
        }
        assert!(most <= bytes as u64 && most > bytes as u64 / 3, "{most} of {bytes}");
        assert!(hits > 20, "{hits}");
        model.keys().for_each(|&hash| shards.remove(hash));
        assert_eq!(shards.counts(), (0, 0));
    }
}

#[test]
fn who_is_asked_for_stays_while_others_pass() {
    let shards = Shards::new(1 << 20);
    let hash = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..1_000).for_each(|number| shards.insert(hash(number), &[1; 100]));
    let mut misses = 0;
    for number in 1_000..50_000 {
        shards.insert(hash(number), &[2; 100]);
        let asked = hash(number % 1_000);
        if shards.get(asked).is_none() {
            misses += 1;
            shards.insert(asked, &[1; 100]);
        }
    }
    assert!(misses < 1_000, "{misses}");
    let (n, bytes) = shards.counts();
    assert!(n > 5_000 && bytes < 1 << 20, "{n} {bytes}");
}

#[test]
fn small_entries_are_bounded_too() {
    let shards = Shards::new(1 << 20);
    (0..200_000u64).for_each(|number| shards.insert(number << 20 | number, &[]));
    let (n, _) = shards.counts();
    assert!((3_000..7_500).contains(&n), "{n}");
    assert!(HistoryCache::new(100).is_none());
}

#[test]
fn what_has_no_room_any_more_goes_at_once() {
    let shards = Shards::new(8 << 20);
    let hash = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let fill = || (0..100_000).for_each(|number| shards.insert(hash(number), &[7; 100]));
    let bytes = || shards.counts().1;
    fill();
    let most = bytes();
    assert!(most > 6 << 20, "{most}");
    shards.allow(4 << 20);
    assert!((1 << 20..4 << 20).contains(&bytes()), "{}", bytes());
    let found = (0..100_000).filter_map(|number| shards.get(hash(number)));
    assert_eq!(found.map(|found| assert_eq!(found, [7; 100])).count() as u64, shards.counts().0);
    fill();
    assert!((1 << 20..4 << 20).contains(&bytes()), "{}", bytes());
    shards.allow(0);
    assert_eq!(shards.counts(), (0, 0));
    fill();
    assert_eq!(shards.counts(), (0, 0));
    shards.allow(8 << 20);
    fill();
    assert!(bytes() > most / 8 * 7, "{} of {most}", bytes());
}
