//! Every aggregate against numbers by hand, and against slow but plain definitions.

use crate::support::{as_of, rules};
use habitus_engine::domain::{
    AsOf, CustomerId, Day, Event, EventKind, EventRules, History, RawEvent, RawValue, Timestamp,
};
use habitus_engine::features::{Feature, FeatureSpec, Plan};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// One customer's rows: time, kind, amount, quantity, discount, rating, order, item, category and
/// channel. Order A has two lines at once and one a year later.
const LOG: &str = "\
2020-12-31 10:00, purchase,    8.00,  ,     ,    ,  , ball,  toys,   web
2021-01-01 09:00, purchase,   10.00, 1,     ,    , A, novel, books,  web
2021-01-01 09:00, purchase,    5.00, 2, 1.00,    , A, ball,  toys,   web
2021-01-02 09:00, purchase,   20.00, 1,     ,    ,  , novel, books,  shop
2021-01-02 18:00, purchase,    4.00, 1, 0.60,    ,  , atlas, books,  web
2021-01-03 12:00, purchase,    6.00,  ,     ,    ,  ,      ,      ,
2021-02-01 12:00, rating,          ,  ,     ,   3,  , novel, books,
2021-02-10 12:00, cart,            ,  ,     ,    ,  , kite,  toys,   web
2021-02-10 13:00, refund,    -10.00, 1,     ,    ,  , novel, books,  shop
2021-03-30 11:00, cart,            ,  ,     ,    ,  , kite,  toys,   web
2021-03-30 12:00, purchase,   12.00, 4,     ,    ,  , kite,  toys,   web
2021-03-31 09:00, rating,          ,  ,     , 4.5,  , ball,  toys,
2021-03-31 12:00, purchase,   30.00, 2,     ,    ,  , atlas, books,  web
2021-04-01 00:00, purchase, 1000.00, 9, 9.00,    ,  , rose,  garden, fair
2022-01-01 09:00, purchase,  500.00, 7,     ,    , A, rose,  garden, web";

fn row(line: &str) -> Event {
    let fields: Vec<&str> = line.split(',').collect();
    let &[time, kind, amount, quantity, discount, rating, order_id, item, category, channel] =
        &fields[..]
    else {
        panic!("{line}");
    };
    let raw = RawEvent {
        customer: Some(RawValue::Text("c")),
        time: Some(RawValue::Text(time)),
        kind: Some(RawValue::Text(kind)),
        amount: Some(RawValue::Text(amount)),
        quantity: Some(RawValue::Text(quantity)),
        discount: Some(RawValue::Text(discount)),
        rating: Some(RawValue::Text(rating)),
        order_id: Some(RawValue::Text(order_id)),
        item: Some(RawValue::Text(item)),
        category: Some(RawValue::Text(category)),
        channel: Some(RawValue::Text(channel)),
        ..RawEvent::default()
    };
    rules().read(&raw, Timestamp(i64::MAX)).unwrap().event
}

fn shape(rows: Vec<Event>) -> History {
    let rules = EventRules { merge_orders: true, ..rules() };
    rules.shape(CustomerId::new("c"), rows).history
}

/// A feature in few words: its aggregate, and then its keys, with `+` between texts of a list.
fn feature(words: &str) -> Feature {
    let mut words = words.split(' ');
    let mut feature = json!({ "aggregate": words.next() });
    for word in words {
        let (key, value) = word.split_once('=').unwrap();
        let list = || json!(value.split('+').collect::<Vec<_>>());
        match key {
            "kinds" | "over_kinds" => feature[key] = list(),
            "item" | "category" | "channel" => feature["where"][key] = list(),
            "span" => feature[key] = json!(value.parse::<u16>().unwrap()),
            _ => feature[key] = json!(value),
        }
    }
    feature["name"] = json!(feature.to_string());
    serde_json::from_value(feature).unwrap()
}

fn spec<'a>(features: impl IntoIterator<Item = &'a str>) -> FeatureSpec {
    FeatureSpec(features.into_iter().map(feature).collect())
}

fn values(spec: &FeatureSpec, history: &History, as_of: AsOf) -> Vec<f64> {
    let plan = Plan::compile(spec, &rules()).unwrap();
    let mut row = vec![0.0; plan.names().len()];
    plan.evaluate(history, as_of, &mut row);
    row
}

fn near(got: f64, want: f64) -> bool {
    (got.is_nan() && want.is_nan()) || (got - want).abs() <= 1e-12 * want.abs().max(1.0)
}

/// The values at the end of March.
fn check(expected: &[(&str, f64)]) {
    check_at("2021-03-31", expected);
}

/// All features in one plan, so that those that share what they need do.
fn check_at(date: &str, expected: &[(&str, f64)]) {
    let history = shape(LOG.lines().map(row).collect());
    let spec = spec(expected.iter().map(|(words, _)| *words));
    for ((words, want), got) in expected.iter().zip(values(&spec, &history, as_of(date))) {
        assert!(near(got, *want), "{date} {words}: {got} is not {want}");
    }
}

#[test]
fn texts_are_those_of_lines_and_channels_those_of_events() {
    check(&[
        ("distinct of=category", 2.0),
        ("distinct of=item", 4.0),
        ("distinct of=channel", 2.0),
        // Lines with a category: four of books, three of toys.
        ("top_share of=category", 4.0 / 7.0),
        ("top_share of=category window=90d", 4.0 / 6.0),
        // Two balls, two novels, two atlases and a kite.
        ("top_share of=item", 2.0 / 7.0),
        // Order A is one event of the web.
        ("top_share of=channel", 5.0 / 6.0),
        ("distinct kinds=ticket of=item", 0.0),
        ("top_share kinds=ticket of=item", f64::NAN),
    ]);
}

#[test]
fn streaks_months_and_spells_are_of_calendar_days() {
    check(&[
        ("longest_streak", 4.0),
        ("longest_streak window=90d", 3.0),
        ("current_streak", 2.0),
        ("max_per_month", 4.0),
        ("max_per_month of=days", 3.0),
        // 15 + 20 + 4 + 6 in January, 12 + 30 in March.
        ("max_per_month of=amount", 45.0),
        ("max_per_month of=quantity", 6.0),
        ("max_in_days span=2", 3.0),
        ("max_in_days span=3", 4.0),
        ("max_in_days of=days span=3", 3.0),
        ("max_in_days of=amount span=2", 42.0),
        ("max_in_days of=quantity span=1", 4.0),
    ]);
    check_at("2021-01-04", &[("current_streak", 4.0)]);
    check_at("2021-01-05", &[("current_streak", 0.0)]);
}

#[test]
fn nothing_counts_as_none_but_sums_to_nothing_known() {
    check(&[
        ("longest_streak kinds=ticket", 0.0),
        ("current_streak kinds=ticket", 0.0),
        ("max_per_month kinds=ticket", 0.0),
        ("max_per_month kinds=ticket of=days", 0.0),
        ("max_per_month kinds=ticket of=amount", f64::NAN),
        ("max_in_days kinds=ticket span=7", 0.0),
        ("max_in_days kinds=cart of=quantity span=7", f64::NAN),
        ("min kinds=ticket of=amount", f64::NAN),
        ("event_gap_mean kinds=refund", f64::NAN),
        ("event_gap_mean kinds=cart", 48.0),
        ("event_gap_variation kinds=cart", f64::NAN),
        ("ratio over_kinds=ticket", f64::NAN),
        ("ratio kinds=ticket over_kinds=cart", 0.0),
    ]);
}

#[test]
fn ratios_divide_by_other_windows_kinds_and_measures() {
    check(&[
        ("ratio kinds=refund of=amount over_kinds=purchase", 10.0 / 95.0),
        // Of books: 10 came back of 10 + 20 + 4 + 30.
        ("ratio kinds=refund of=amount over_kinds=purchase category=books", 10.0 / 64.0),
        ("ratio of=discount over_of=amount", 1.6 / 95.0),
        ("ratio of=amount over_of=quantity", 95.0 / 11.0),
        ("ratio of=quantity over_of=events", 11.0 / 7.0),
        ("ratio over_kinds=cart", 7.0 / 2.0),
        ("ratio kinds=cart window=30d over=90d", 0.5),
        ("ratio kinds=cart window=30d over=90d over_kinds=purchase", 1.0 / 6.0),
    ]);
}

#[test]
fn filters_take_the_lines_that_pass() {
    check(&[
        ("count category=books", 4.0),
        ("sum of=amount category=books", 64.0),
        ("sum of=discount category=books", 0.6),
        ("sum of=quantity category=toys", 6.0),
        ("mean of=discount category=toys", 1.0),
        ("sum of=amount item=ball", 13.0),
        ("sum of=amount channel=shop", 20.0),
        ("count item=novel+kite", 3.0),
        // Order A has a novel and a toy, but no line that is both.
        ("count item=novel category=toys", 0.0),
        ("count channel=web category=books", 3.0),
        ("distinct of=channel category=toys", 1.0),
        ("distinct of=item category=books", 2.0),
        ("top_share of=item channel=web", 2.0 / 6.0),
        ("longest_streak category=books", 2.0),
        ("max_per_month of=amount category=books", 34.0),
        ("mean kinds=rating of=rating", 3.75),
        ("mean kinds=rating of=rating category=toys", 4.5),
        ("min kinds=rating of=rating", 3.0),
        ("min of=amount", 4.0),
    ]);
}

#[test]
fn a_window_of_ninety_days_holds_ninety() {
    let quarter = "count window=90d";
    // January 1 is the ninetieth day, and December 31 the ninety-first.
    check(&[(quarter, 6.0), ("sum of=amount window=91d", 95.0)]);
    check_at("2021-03-30", &[(quarter, 6.0)]);
    check_at("2021-03-29", &[(quarter, 5.0)]);
    check_at("2021-04-01", &[(quarter, 6.0)]);
}

#[test]
fn thirteen_indicators_of_an_order_log() {
    let gaps = [1.0, 1.0, 0.0, 1.0, 86.0, 1.0];
    let variance = gaps.iter().map(|gap: &f64| (gap - 15.0).powi(2)).sum::<f64>() / 5.0;
    check(&[
        ("days_since_last", 0.0),
        ("days_since_first", 90.0),
        ("count", 7.0),
        ("sum of=amount", 95.0),
        ("mean of=amount", 95.0 / 7.0),
        ("std of=amount", (3470.0f64 / 42.0).sqrt()),
        ("event_gap_mean", 15.0),
        ("event_gap_variation", variance.sqrt() / 15.0),
        ("count window=90d", 6.0),
        ("sum of=amount window=90d", 87.0),
        ("ratio window=30d over=90d", 2.0 / 6.0),
        ("distinct of=category", 2.0),
        ("top_share of=category", 4.0 / 7.0),
        // And over the days with an event, as before.
        ("gap_mean", 18.0),
    ]);
}

const EVERY: [&str; 16] = [
    "distinct of=category window=45d",
    "top_share of=category window=45d",
    "longest_streak window=45d",
    "current_streak window=45d",
    "max_per_month of=amount window=45d",
    "max_in_days of=amount window=45d span=5",
    "max_in_days of=days window=45d span=5",
    "event_gap_mean window=45d",
    "event_gap_variation",
    "min of=amount item=i1",
    "max_per_month category=c2",
    "top_share of=item channel=web",
    "distinct kinds=cart of=channel",
    "max_in_days of=quantity span=30",
    "ratio over_kinds=cart category=c1",
    "ratio of=amount window=30d over_of=quantity",
];

/// The first day of the random logs, 2021-01-01.
const START: Day = Day(18_628);

/// Rows of four months, some of them lines of orders that may take months.
fn rows() -> impl Strategy<Value = Vec<Event>> {
    vec((0i32..120, 0u32..24, 0u32..4, 0u32..12, 0u32..5_000, 0u32..60), 0..40).prop_map(|rows| {
        let rows = rows.into_iter().map(|(day, hour, kind, order, cents, texts)| {
            let kind = if kind == 0 { "cart" } else { "purchase" };
            let order = if order < 4 { order.to_string() } else { String::new() };
            let category = if texts % 4 == 0 { String::new() } else { format!("c{}", texts % 4) };
            let channel = ["web", "shop", ""][(texts % 3) as usize];
            row(&format!(
                "{} {hour:02}:00,{kind},{}.{:02},{},,,{order},i{},{category},{channel}",
                START.plus(day),
                cents / 100,
                cents % 100,
                texts % 7,
                texts % 5,
            ))
        });
        rows.collect()
    })
}

/// What [`EVERY`]'s first eight are by their definitions.
fn plainly(events: &[&Event], as_of: AsOf) -> Vec<f64> {
    let days: BTreeSet<i32> = events.iter().map(|event| event.day.0).collect();
    let run = |first: i32| (first..).take_while(|day| days.contains(day)).count();
    let current = [as_of.day.0, as_of.day.0 - 1]
        .into_iter()
        .find(|last| days.contains(last))
        .map_or(0, |last| (i32::MIN..=last).rev().take_while(|day| days.contains(day)).count());
    let mut categories: BTreeMap<&str, u32> = BTreeMap::new();
    let mut months: BTreeMap<String, i64> = BTreeMap::new();
    for event in events {
        let cents = event.amount.unwrap().0;
        *months.entry(event.day.to_string()[..7].to_owned()).or_default() += cents;
        for category in event.lines().filter_map(|line| line.category) {
            *categories.entry(category).or_default() += 1;
        }
    }
    let lines: u32 = categories.values().sum();
    let within = |first: i32, day: i32| (first..first + 5).contains(&day);
    let spend = |first: &i32| -> i64 {
        let held = events.iter().filter(|event| within(*first, event.day.0));
        held.map(|event| event.amount.unwrap().0).sum()
    };
    let active = |first: &i32| days.iter().filter(|day| within(*first, **day)).count();
    let gaps = (events.len() as f64) - 1.0;
    let length = f64::from(days.last().unwrap_or(&0) - days.first().unwrap_or(&0));
    let defined = |value: Option<f64>| value.unwrap_or(f64::NAN);
    vec![
        categories.len() as f64,
        defined(categories.values().max().map(|&top| f64::from(top) / f64::from(lines))),
        days.iter().map(|&first| run(first)).max().unwrap_or(0) as f64,
        current as f64,
        defined(months.values().max().map(|&cents| cents as f64 / 100.0)),
        defined(days.iter().map(spend).max().map(|cents| cents as f64 / 100.0)),
        days.iter().map(active).max().unwrap_or(0) as f64,
        if gaps > 0.0 { length / gaps } else { f64::NAN },
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn rows_after_the_as_of_change_no_feature(all in rows(), day in 0i32..120) {
        let cut = as_of(&START.plus(day).to_string());
        let before = all.iter().filter(|row| row.at <= cut.at).cloned().collect();
        let spec = spec(EVERY);
        let bits = |rows: Vec<Event>| -> Vec<u64> {
            values(&spec, &shape(rows), cut).into_iter().map(f64::to_bits).collect()
        };
        prop_assert_eq!(bits(all), bits(before));
    }

    #[test]
    fn one_pass_gives_what_the_definitions_say(all in rows(), day in 0i32..120) {
        let cut = as_of(&START.plus(day).to_string());
        let history = shape(all);
        let events = history.until(cut);
        let purchases: Vec<&Event> = events
            .iter()
            .filter(|event| event.kind == EventKind::Purchase && cut.day.since(event.day) < 45)
            .collect();
        let got = values(&spec(EVERY), &history, cut);
        for ((words, got), want) in EVERY.iter().zip(got).zip(plainly(&purchases, cut)) {
            prop_assert!(near(got, want), "{}: {} is not {}", words, got, want);
        }
    }
}
