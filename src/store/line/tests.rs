//! Lines come back as they were put, whatever the log had in them and whatever became of the bytes.

use super::{Damaged, Lines, Tail, append, each_event_id};
use habitus_engine::domain::{
    AmountIs, Currency, Draws, EventKind, EventRules, KindRule, RawEvent, RawValue, RuleField,
    RuleTest, RuledKind, Seed, Timestamp, Zone,
};
use std::collections::BTreeMap;

const END_OF_TIME: Timestamp = Timestamp(i64::MAX);

/// Texts that a log may hold, from ordinary to odd.
const TEXTS: [&str; 60] = [
    "",
    " ",
    "\u{a0}",
    "7",
    "-7",
    "007",
    "+7",
    "-0",
    "-0.00",
    "0",
    "0.00",
    "12.50",
    " 12.50 ",
    "-0.05",
    "12.",
    ".5",
    "1e3",
    "1.5e-7",
    "NaN",
    "inf",
    "-inf",
    "0.125",
    "0.1234567",
    "0.123456789",
    "0.1234567891",
    "999999999999999999",
    "9223372036854775807",
    "9007199254740993",
    "99999999999",
    "-99999999999.5",
    "536365",
    "C536365",
    "85123A",
    "22423",
    "purchase",
    " refund ",
    "Refund",
    "buy",
    "login",
    "teleport",
    "USD",
    "EUR",
    "web",
    "tea & cake",
    "é",
    "１２",
    "2011-12-09T12:50:00Z",
    "2011-12-09T12:50:00.250Z",
    "2011-12-09 12:50:01",
    "2011-12-09 12:50",
    "2011-12-09T12:50:59",
    "2011-12-09T12:50",
    "2011-12-09",
    "1997-02-29",
    "2011-03-27 01:30",
    "2011-10-30 01:30",
    "2011-12-09T12:50:00+01:00",
    "12/9/2011 12:50",
    "1323434999",
    "someday",
];

fn any_number(draws: &mut Draws) -> i64 {
    let bits = (i64::from(draws.below(u32::MAX)) << 32) ^ i64::from(draws.below(u32::MAX));
    match draws.below(8) {
        0 => [i64::MIN, i64::MAX, -1, 0, 1][draws.below(5) as usize],
        _ => bits >> draws.below(64),
    }
}

fn any_float(draws: &mut Draws) -> f64 {
    match draws.below(5) {
        0 => f64::from_bits(any_number(draws) as u64),
        1 => any_number(draws) as f64 / 10f64.powi(draws.below(12) as i32),
        2 => [-0.0, 0.0, 9e9, -9e9, 0.1 + 0.2, 5e-7, 1e15, f64::INFINITY][draws.below(8) as usize],
        _ => (f64::from(draws.below(2_000_000)) - 1e6) / 100.0,
    }
}

/// A moment between 1900 and 2100, mostly a whole one.
fn any_ms(draws: &mut Draws) -> i64 {
    let unit = [1, 1_000, 60_000, 3_600_000, 86_400_000][draws.below(5) as usize];
    let ms = (draws.unit() * 6_311_000_000_000.0) as i64 - 2_208_988_800_000;
    ms.div_euclid(unit) * unit
}

fn any_value<'t>(draws: &mut Draws, texts: &'t [String]) -> RawValue<'t> {
    match draws.below(12) {
        0 => RawValue::Integer(any_number(draws)),
        1 => RawValue::Integer(i64::from(draws.below(50)) - 5),
        2 | 3 => RawValue::Float(any_float(draws)),
        4 => RawValue::Instant(any_number(draws)),
        5 => RawValue::Local(any_ms(draws)),
        6 => RawValue::Date(any_number(draws) as i32),
        7 => RawValue::Decimal { units: any_number(draws) >> 8, digits: draws.below(10) as u8 },
        _ => RawValue::Text(&texts[draws.below(texts.len() as u32) as usize]),
    }
}

fn any_time<'t>(draws: &mut Draws, texts: &'t [String]) -> RawValue<'t> {
    match draws.below(4) {
        0 => RawValue::Instant(any_ms(draws)),
        1 => RawValue::Local(any_ms(draws)),
        2 => RawValue::Date((any_ms(draws) / 86_400_000) as i32),
        _ => any_value(draws, texts),
    }
}

/// Odd texts, texts of random characters, and ordinary amounts and times.
fn any_texts(draws: &mut Draws) -> Vec<String> {
    let mut texts: Vec<String> = TEXTS.map(str::to_owned).to_vec();
    texts.push("a text of more than a hundred and twenty-eight bytes ".repeat(4));
    for _ in 0..40 {
        let letters = ['a', 'é', '0', '9', '.', '-', ' ', '𝄞'];
        let length = draws.below(140);
        texts.push((0..length).map(|_| letters[draws.below(8) as usize]).collect());
        texts.push(format!("{}.{:02}", draws.below(300), draws.below(100)));
        texts.push(format!("{:08x}-{:04x}", draws.below(u32::MAX), draws.below(1 << 16)));
        texts.push(Timestamp(any_ms(draws)).to_string());
        texts.push(Timestamp(any_ms(draws)).to_string().replace('T', " ").replace('Z', ""));
    }
    texts
}

fn any_line<'t>(draws: &mut Draws, texts: &'t [String], before: &RawEvent<'t>) -> RawEvent<'t> {
    let fullness = draws.unit();
    let mut raw = RawEvent { time: Some(any_time(draws, texts)), ..RawEvent::default() };
    if draws.chance(0.05) {
        raw.time = before.time;
    }
    for (field, old) in fields_mut(&mut raw).into_iter().zip(fields(before)) {
        if draws.chance(fullness) {
            *field = if draws.chance(0.3) { old } else { Some(any_value(draws, texts)) };
        }
    }
    raw
}

fn fields<'a>(raw: &RawEvent<'a>) -> [Option<RawValue<'a>>; 11] {
    let mut raw = *raw;
    fields_mut(&mut raw).map(|field| *field)
}

fn fields_mut<'r, 'a>(raw: &'r mut RawEvent<'a>) -> [&'r mut Option<RawValue<'a>>; 11] {
    [
        &mut raw.amount,
        &mut raw.kind,
        &mut raw.quantity,
        &mut raw.discount,
        &mut raw.currency,
        &mut raw.rating,
        &mut raw.order_id,
        &mut raw.event_id,
        &mut raw.item,
        &mut raw.category,
        &mut raw.channel,
    ]
}

/// Random lines, with many texts and numbers in them.
fn with_lines(seed: u64, n: usize, mut see: impl FnMut(&[RawEvent<'_>])) {
    let mut draws = Draws::new(Seed(seed));
    let texts = any_texts(&mut draws);
    let mut lines: Vec<RawEvent<'_>> = Vec::new();
    for _ in 0..n {
        let before = lines.last().copied().unwrap_or_default();
        lines.push(any_line(&mut draws, &texts, &before));
    }
    see(&lines);
}

fn chunk_of(lines: &[RawEvent<'_>]) -> Vec<u8> {
    let (mut chunk, mut tail) = (Vec::new(), Tail::default());
    for raw in lines {
        append(&mut chunk, &mut tail, raw);
    }
    chunk
}

/// What is told of a field: nothing, if there is nothing but blanks in it.
fn told(value: Option<RawValue<'_>>) -> Option<String> {
    value.filter(|value| !value.is_blank()).map(|value| value.text().into_owned())
}

fn plain(zone: &str) -> EventRules {
    let currency = Currency { code: "USD".into(), digits: 2 };
    EventRules::plain(Zone::named(zone).unwrap(), currency)
}

/// Rules that look at every field in every way.
fn rule_sets() -> Vec<EventRules> {
    let rule = |field, is, kind| KindRule { field, is, kind };
    let refund = RuledKind::Event(EventKind::Refund);
    let one_of = |texts: &[&str]| RuleTest::OneOf(texts.iter().map(|&text| text.into()).collect());
    let kind_rules = vec![
        rule(RuleField::Item, one_of(&["22423", "0.00"]), RuledKind::Ignore),
        rule(RuleField::OrderId, RuleTest::StartsWith("C".into()), refund),
        rule(RuleField::OrderId, RuleTest::StartsWith("53".into()), refund),
        rule(RuleField::Quantity, RuleTest::Negative, refund),
        rule(RuleField::Category, RuleTest::Zero, RuledKind::Event(EventKind::Visit)),
        rule(RuleField::Channel, RuleTest::Missing, RuledKind::Event(EventKind::Cart)),
        rule(RuleField::Amount, RuleTest::Negative, refund),
        rule(RuleField::Kind, RuleTest::Negative, RuledKind::Ignore),
    ];
    let ruled = EventRules {
        kind_rules,
        kinds: BTreeMap::from([
            ("buy".into(), EventKind::Purchase),
            ("7".into(), EventKind::Visit),
        ]),
        ..plain("Europe/London")
    };
    let formatted = |format: &str| Some(format.to_owned());
    vec![
        plain("UTC"),
        EventRules { amount_is: AmountIs::UnitPrice, ..ruled.clone() },
        EventRules { time_format: formatted("%Y-%m-%d %H:%M"), ..plain("Europe/London") },
        EventRules { time_format: formatted("%Y-%m-%d"), default_kind: EventKind::Visit, ..ruled },
        EventRules { time_format: formatted("%s"), ..plain("UTC") },
        EventRules {
            currency: Currency { code: "EUR".into(), digits: 0 },
            default_kind: EventKind::Cart,
            ..plain("Asia/Tokyo")
        },
    ]
}

#[test]
fn every_field_is_told_as_it_was_put() {
    for seed in 0..200 {
        with_lines(seed, 60, |lines| {
            let chunk = chunk_of(lines);
            let mut reading = Lines::new(&chunk, false);
            for raw in lines {
                let found = reading.read().unwrap().unwrap();
                assert_eq!(found.customer, None);
                assert_eq!(told(found.time), told(raw.time), "{raw:?}");
                for (found, put) in fields(&found).into_iter().zip(fields(raw)) {
                    assert_eq!(told(found), told(put), "{raw:?}");
                }
            }
            assert_eq!(reading.read(), Ok(None));
        });
    }
}

#[test]
fn rules_make_the_same_of_a_line_as_of_its_row() {
    let rule_sets = rule_sets();
    let (mut n_accepted, mut n_read) = (0, 0);
    for seed in 200..400 {
        with_lines(seed, 60, |lines| {
            let chunk = chunk_of(lines);
            for rules in &rule_sets {
                for plain_times in [false, true] {
                    if plain_times && rules.time_format.is_some() {
                        continue;
                    }
                    let mut reading = Lines::new(&chunk, plain_times);
                    for raw in lines {
                        let customer = Some("c".into());
                        let found = RawEvent { customer, ..reading.read().unwrap().unwrap() };
                        let expected = rules.read(&RawEvent { customer, ..*raw }, END_OF_TIME);
                        assert_eq!(rules.read(&found, END_OF_TIME), expected, "{raw:?}");
                        n_accepted += usize::from(expected.is_ok());
                        n_read += 1;
                    }
                }
            }
        });
    }
    assert!(n_accepted * 20 > n_read, "only {n_accepted} of {n_read} say much");
}

#[test]
fn numbers_that_a_log_has_as_such_keep_every_bit() {
    let odd = f64::from_bits(0x7ff8_0000_dead_beef);
    let put = |value| RawEvent { amount: Some(value), ..RawEvent::default() };
    let floats = [odd, -0.0, 1e300, 0.1 + 0.2, f64::MIN_POSITIVE, -9e9, 1e-7];
    let values: Vec<RawEvent<'_>> = floats
        .map(|number| put(RawValue::Float(number)))
        .into_iter()
        .chain([i64::MIN, i64::MAX].map(|number| put(RawValue::Integer(number))))
        .chain([put(RawValue::Decimal { units: i64::MIN, digits: 9 })])
        .collect();
    let chunk = chunk_of(&values);
    let mut reading = Lines::new(&chunk, true);
    for raw in &values {
        let found = reading.read().unwrap().unwrap();
        match (raw.amount, found.amount) {
            (Some(RawValue::Float(put)), Some(RawValue::Float(found))) => {
                assert_eq!(found.to_bits(), put.to_bits());
            }
            (put, found) => assert_eq!(found, put),
        }
    }
}

#[test]
fn a_chunk_goes_on_where_it_ended() {
    with_lines(1, 80, |lines| {
        let (mut chunk, mut tail) = (Vec::new(), Tail::default());
        for raw in lines {
            assert_eq!(Tail::of(&chunk).as_ref(), Ok(&tail));
            let mut found_again = Tail::of(&chunk).unwrap();
            let mut other = chunk.clone();
            append(&mut other, &mut found_again, raw);
            append(&mut chunk, &mut tail, raw);
            assert_eq!(other, chunk);
        }
    });
}

#[test]
fn what_was_read_to_be_stored_again_gives_the_same_bytes() {
    for seed in 500..550 {
        with_lines(seed, 60, |lines| {
            let chunk = chunk_of(lines);
            let (mut copy, mut tail) = (Vec::new(), Tail::default());
            let mut reading = Lines::new(&chunk, false);
            for raw in lines {
                // A line alone, as one that is waiting to be put behind others.
                let alone = chunk_of(&[*raw]);
                let mut waiting = Lines::new(&alone, false);
                append(&mut copy, &mut tail, &waiting.read().unwrap().unwrap());
                assert_eq!(chunk_of(&[reading.read().unwrap().unwrap()]), alone);
            }
            assert_eq!(copy, chunk);
        });
    }
}

#[test]
fn event_ids_are_found_without_their_lines() {
    for seed in 600..650 {
        with_lines(seed, 60, |lines| {
            let chunk = chunk_of(lines);
            let mut found: Vec<(usize, String)> = Vec::new();
            each_event_id(&chunk, |line, id| found.push((line, id.to_owned()))).unwrap();
            let numbered = lines.iter().enumerate();
            let expected: Vec<(usize, String)> =
                numbered.filter_map(|(line, raw)| Some((line, told(raw.event_id)?))).collect();
            assert_eq!(found, expected);
        });
    }
}

/// Reads bytes in every way, to see that this comes to an end. Whether they are whole lines.
fn read_all(bytes: &[u8]) -> bool {
    let mut is_whole = false;
    for plain_times in [false, true] {
        let mut reading = Lines::new(bytes, plain_times);
        let mut n = 0;
        is_whole = loop {
            match reading.read() {
                Ok(None) => break true,
                Ok(Some(raw)) => assert!(told(raw.time).is_none_or(|text| !text.is_empty())),
                Err(Damaged { at }) => {
                    assert!(at < bytes.len());
                    assert_eq!(reading.read(), Ok(None), "nothing is read after what is damaged");
                    break false;
                }
            }
            n += 1;
            assert!(2 * n <= bytes.len(), "more lines than bytes could hold");
        };
    }
    let tail = Tail::of(bytes);
    let mut n_ids = 0;
    let are_whole = each_event_id(bytes, |_, _| n_ids += 1).is_ok();
    assert!(n_ids <= bytes.len());
    // They look at less, and so see less that is wrong.
    assert!(!is_whole || (tail.is_ok() && are_whole));
    if let Ok(mut tail) = tail {
        let mut longer = bytes.to_vec();
        let dated = RawEvent { time: Some("1997-01-01".into()), ..RawEvent::default() };
        append(&mut longer, &mut tail, &dated);
        let mut reading = Lines::new(&longer, true);
        while let Ok(Some(_)) = reading.read() {}
    }
    is_whole
}

#[test]
fn bytes_that_are_no_lines_are_refused_in_the_end() {
    let mut draws = Draws::new(Seed(7));
    for round in 0..40_000 {
        // Small bytes are flags and tags more often.
        let most = if round % 2 == 0 { 256 } else { 48 };
        let length = draws.below(60);
        let bytes: Vec<u8> = (0..length).map(|_| draws.below(most) as u8).collect();
        read_all(&bytes);
    }
}

#[test]
fn what_was_cut_or_flipped_is_read_or_refused() {
    let mut draws = Draws::new(Seed(8));
    for seed in 700..720 {
        with_lines(seed, 12, |lines| {
            let chunk = chunk_of(lines);
            assert!(read_all(&chunk));
            let ends: Vec<usize> = (0..=12).map(|n| chunk_of(&lines[..n]).len()).collect();
            for end in 0..chunk.len() {
                assert_eq!(read_all(&chunk[..end]), ends.contains(&end), "cut at {end}");
            }
            for _ in 0..400 {
                let mut flipped = chunk.clone();
                let place = draws.below(chunk.len() as u32) as usize;
                flipped[place] ^= 1 << draws.below(8);
                read_all(&flipped);
            }
        });
    }
    let damaged = [chunk_of(&[RawEvent::default()]), vec![0, 0xff]].concat();
    let mut reading = Lines::new(&damaged, true);
    assert!(reading.read().unwrap().is_some());
    let fault = reading.read().unwrap_err();
    assert_eq!(fault.to_string(), "the stored line that begins at byte 2 of its chunk is damaged");
}

#[test]
fn a_plain_purchase_takes_about_ten_bytes() {
    // Weeks apart and of up to a thousand dollars; days, seconds and milliseconds tell the time.
    for (unit, most) in [(86_400_000, 8), (1_000, 10), (1, 11)] {
        let mut draws = Draws::new(Seed(9));
        let mut ms: i64 = 1_600_000_000_000;
        let (mut chunk, mut tail) = (Vec::new(), Tail::default());
        for _ in 0..20 {
            ms += (draws.unit() * 60.0 * 86_400_000.0) as i64;
            let time = Some(RawValue::Instant(ms / unit * unit));
            let units = i64::from(draws.below(100_000));
            let amount = Some(RawValue::Decimal { units, digits: 2 });
            append(&mut chunk, &mut tail, &RawEvent { time, amount, ..RawEvent::default() });
        }
        assert!(chunk.len() <= 20 * most, "{} bytes to {unit} ms", chunk.len());
    }
}

#[test]
fn the_lines_of_an_order_take_few_bytes() {
    let text = |text| Some(RawValue::Text(text));
    let line = |item, amount, quantity| RawEvent {
        time: text("2010-12-01 08:26"),
        order_id: text("536365"),
        item: text(item),
        quantity: text(quantity),
        amount: text(amount),
        kind: text("purchase"),
        currency: text("GBP"),
        channel: text("a web shop in the United Kingdom"),
        ..RawEvent::default()
    };
    let lines =
        [line("85123A", "2.55", "6"), line("71053", "3.39", "6"), line("84406B", "2.75", "8")];
    let chunk = chunk_of(&lines);
    assert!(chunk.len() <= 68 + 2 * 21, "{} bytes", chunk.len());
}
