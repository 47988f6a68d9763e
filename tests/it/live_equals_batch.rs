//! What a store answers equals what the files of the same events answer, to the bit, whatever way the
//! events came in.

use crate::support::trained;
use habitus::ingest::{self, Columns, CustomerColumns, Memory, Reading, Source};
use habitus::registry::Registry;
use habitus::serving::kept_at;
use habitus::store::{About, Batch, Outcome, Settings, Shaping, Snapshot, Store};
use habitus_engine::domain::{
    AmountIs, AsOf, CustomerId, Day, Draws, Duplicates, EventKind, EventRules, History, KindRule,
    RawEvent, RawValue, RuleField, RuleTest, RuledKind, Seed, Timestamp, Zone,
};
use habitus_engine::scoring::Scorer;
use habitus_engine::version::ModelVersion;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const CASES: u64 = 48;

/// The clock of whoever takes the events. None of them lies after it.
const NOW: Timestamp = Timestamp(1_800_000_000_000);

const DAY_MS: i64 = 86_400_000;

const SETTINGS: Settings =
    Settings { cache_bytes: 8 << 20, history_bytes: 1 << 20, retention_days: None };

const FIELDS: [&str; 13] = [
    "customer", "time", "amount", "kind", "quantity", "discount", "currency", "rating", "order_id",
    "event_id", "item", "category", "channel",
];
const CUSTOMER: usize = 0;
const TIME: usize = 1;
const AMOUNT: usize = 2;
const EVENT_ID: usize = 9;

/// The texts of a row in the order of [`FIELDS`]. An empty one is absent.
type Row = [String; FIELDS.len()];

fn pick<'t>(draws: &mut Draws, texts: &[&'t str]) -> &'t str {
    texts[draws.below(texts.len() as u32) as usize]
}

fn time(draws: &mut Draws) -> String {
    // The first day of 2020 and the two years after it.
    let any = Day(18_262 + draws.below(700) as i32).to_string();
    let day = match draws.below(8) {
        // When the clocks of London are put forward, and back.
        0 => "2020-03-29".to_owned(),
        1 => "2020-10-25".to_owned(),
        _ => any,
    };
    let (hour, minute) = (draws.below(24), draws.below(60));
    // Late in a summer's evening UTC it is the next day in London.
    let hour = pick(draws, &["00", "01", "02", "23", &format!("{hour:02}")]).to_owned();
    match draws.below(6) {
        0 => day,
        1 => format!("{day} {hour}:{minute:02}"),
        2 => format!("{day}T{hour}:{minute:02}:07"),
        3 => format!("{day}T{hour}:{minute:02}:00+02:00"),
        4 => format!("{day}T{hour}:{minute:02}:59.250Z"),
        _ => format!("{day}T{hour}:{minute:02}:00Z"),
    }
}

fn amount(draws: &mut Draws) -> String {
    match draws.below(16) {
        0 => pick(draws, &["", "free", "nan", "1e300", "-3", "0"]).to_owned(),
        1 => pick(draws, &["12.345", "1e2", " 7.5 ", "+4", "007.10", ".5"]).to_owned(),
        _ => format!("{}.{:02}", draws.below(200), draws.below(100)),
    }
}

/// A log of a few customers, in no order.
fn rows(draws: &mut Draws) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..40 + draws.below(120) {
        let known = rows.len() as u32;
        let again = (known > 0).then(|| rows[draws.below(known) as usize].clone());
        match (draws.below(10), again) {
            // A row that comes twice, exactly.
            (0, Some(row)) => rows.push(row),
            // Another line of an order, now or at another time.
            (1 | 2, Some(mut row)) if !row[8].is_empty() => {
                (row[AMOUNT], row[EVENT_ID]) = (amount(draws), String::new());
                row[10] = pick(draws, &["lamp", "chair", ""]).to_owned();
                if draws.chance(0.5) {
                    row[TIME] = time(draws);
                }
                rows.push(row);
            }
            // Something else under the same id.
            (3, Some(mut row)) if !row[EVENT_ID].is_empty() => {
                match draws.below(3) {
                    0 => row[AMOUNT] = amount(draws),
                    1 => row[TIME] = time(draws),
                    _ => row[10] = pick(draws, &["rug", "7", "0012"]).to_owned(),
                }
                rows.push(row);
            }
            _ => rows.push(row(draws)),
        }
    }
    rows
}

fn row(draws: &mut Draws) -> Row {
    let (order, event) = (draws.below(9), draws.below(60));
    let (order, event) = (format!("o{order}"), format!("{event}"));
    let rare = |draws: &mut Draws, texts: &[&str]| match draws.chance(0.3) {
        true => pick(draws, texts).to_owned(),
        false => String::new(),
    };
    [
        pick(draws, &["ann", " bob", "c 3", "0042", "42", "d\u{e9}d\u{e9}", "\u{1f47e},\"x\""])
            .to_owned(),
        if draws.chance(0.02) { rare(draws, &["soon", "2020-02-30"]) } else { time(draws) },
        amount(draws),
        rare(
            draws,
            &["purchase", "buy", "refund", "visit", "cart", "rating", "return", "teleport"],
        ),
        rare(draws, &["1", "2", "2.5", "-1", "many", "0"]),
        rare(draws, &["1.00", "0.5", "ten"]),
        rare(draws, &["USD", "USD", "USD", "USD", "USD", "EUR"]),
        rare(draws, &["4", "4.5", "-1"]),
        rare(draws, &[&order]),
        rare(draws, &[&event]),
        rare(draws, &["lamp", "chair", "0012", "12", "a \"b\", c", "gift card"]),
        rare(draws, &["light", "seat", "skip"]),
        rare(draws, &["web", "app", "test"]),
    ]
}

fn rules(draws: &mut Draws, version: &ModelVersion) -> EventRules {
    let zone = Zone::named(pick(draws, &["UTC", "Europe/London"])).unwrap();
    let mut rules = EventRules::plain(zone, version.rules.currency.clone());
    rules.merge_orders = draws.chance(0.5);
    rules.duplicates = if draws.chance(0.5) { Duplicates::Keep } else { Duplicates::Drop };
    rules.amount_is = if draws.chance(0.25) { AmountIs::UnitPrice } else { AmountIs::Total };
    if draws.chance(0.2) {
        rules.default_kind = EventKind::Visit;
    }
    let own = [("buy", EventKind::Purchase), ("return", EventKind::Refund)];
    rules.kinds = own.map(|(name, kind)| (name.to_owned(), kind)).into();
    let one_of = |text: &str| RuleTest::OneOf(vec![text.to_owned()]);
    let starts = |text: &str| RuleTest::StartsWith(text.to_owned());
    let refund = RuledKind::Event(EventKind::Refund);
    for (field, is, kind) in [
        (RuleField::Amount, RuleTest::Negative, refund),
        (RuleField::Amount, RuleTest::Zero, RuledKind::Ignore),
        (RuleField::Category, one_of("skip"), RuledKind::Ignore),
        (RuleField::Item, starts("00"), RuledKind::Ignore),
        (RuleField::Item, starts("gift"), RuledKind::Event(EventKind::Campaign)),
        (RuleField::Channel, one_of("test"), RuledKind::Ignore),
        (RuleField::OrderId, one_of("o1"), refund),
        (RuleField::Customer, one_of("42"), RuledKind::Ignore),
        (RuleField::Kind, RuleTest::Missing, RuledKind::Event(EventKind::Purchase)),
    ] {
        if draws.chance(0.2) {
            rules.kind_rules.push(KindRule { field, is, kind });
        }
    }
    rules
}

/// Rules under which just the same rows are faulty, and which make other histories of the rest.
fn others(rules: &EventRules) -> EventRules {
    let zone = if rules.zone.name() == "UTC" { "Europe/London" } else { "UTC" };
    EventRules {
        zone: Zone::named(zone).unwrap(),
        merge_orders: !rules.merge_orders,
        duplicates: match rules.duplicates {
            Duplicates::Keep => Duplicates::Drop,
            Duplicates::Drop => Duplicates::Keep,
        },
        ..rules.clone()
    }
}

fn raw(row: &Row) -> RawEvent<'_> {
    let field = |at: usize| (!row[at].is_empty()).then(|| RawValue::Text(&row[at]));
    RawEvent {
        customer: field(CUSTOMER),
        time: field(TIME),
        amount: field(AMOUNT),
        kind: field(3),
        quantity: field(4),
        discount: field(5),
        currency: field(6),
        rating: field(7),
        order_id: field(8),
        event_id: field(EVENT_ID),
        item: field(10),
        category: field(11),
        channel: field(12),
    }
}

fn columns() -> Columns {
    let name = |at: usize| Some(FIELDS[at].to_owned());
    Columns {
        customer: FIELDS[CUSTOMER].to_owned(),
        time: FIELDS[TIME].to_owned(),
        amount: FIELDS[AMOUNT].to_owned(),
        kind: name(3),
        quantity: name(4),
        discount: name(5),
        currency: name(6),
        rating: name(7),
        order_id: name(8),
        event_id: name(EVENT_ID),
        item: name(10),
        category: name(11),
        channel: name(12),
    }
}

fn write_csv(path: &Path, rows: &[Row]) {
    let mut writer = csv::Writer::from_path(path).unwrap();
    writer.write_record(FIELDS).unwrap();
    rows.iter().for_each(|row| writer.write_record(row).unwrap());
    writer.flush().unwrap();
}

/// What is a plain number is written as one.
fn write_ndjson(path: &Path, rows: &[Row]) {
    let mut text = String::new();
    for row in rows {
        let fields = FIELDS.iter().zip(row).map(|(name, value)| {
            let number = *name == "amount" && RawValue::decimal(value).is_some();
            let value = match value.as_str() {
                "" => "null".to_owned(),
                number_text if number => number_text.to_owned(),
                text => serde_json::to_string(text).unwrap(),
            };
            format!("\"{name}\":{value}")
        });
        let _ = writeln!(text, "{{{}}}", fields.collect::<Vec<_>>().join(","));
    }
    std::fs::write(path, text).unwrap();
}

/// The history that an answer is computed from.
fn recalled(snapshot: &Snapshot, customer: &str, rules: &EventRules) -> Option<History> {
    let (tag, kept_from) = (Shaping::tag_of(rules), snapshot.kept_from());
    snapshot.recall(customer, &Shaping { rules, tag, kept_from }).unwrap()
}

/// A place for one case: a store, and the files that say the same.
struct Case {
    directory: tempfile::TempDir,
    rules: EventRules,
    rows: Vec<Row>,
    /// Who said whether they want to be scored.
    said: Vec<(String, bool)>,
}

impl Case {
    fn new(draws: &mut Draws, version: &ModelVersion) -> Case {
        let (rules, rows) = (rules(draws, version), rows(draws));
        let people = ["ann", "bob", "0042", "nobody"];
        let said = people.into_iter().filter(|_| draws.chance(0.3)).map(str::to_owned);
        let said: Vec<String> = said.collect();
        let said = said.into_iter().map(|id| (id, draws.chance(0.6))).collect();
        Case { directory: tempfile::tempdir().unwrap(), rules, rows, said }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Sends everything to the store in another order, in batches, with restarts between them.
    fn stored(&self, draws: &mut Draws) -> Store {
        let directory = self.path("store");
        let mut order: Vec<&Row> = self.rows.iter().collect();
        for last in (1..order.len()).rev() {
            order.swap(last, draws.below(last as u32 + 1) as usize);
        }
        let mut store = Store::open_or_create(&directory, &SETTINGS).unwrap();
        let mut rest = order.as_slice();
        let mut sent: Vec<&Row> = Vec::new();
        let mut said = self.said.iter();
        while !rest.is_empty() {
            let n = (1 + draws.below(30) as usize).min(rest.len());
            let (now, later) = rest.split_at(n);
            rest = later;
            let mut batch = Batch::default();
            for &row in now {
                self.put(&mut batch, row, draws.chance(0.3));
                sent.push(row);
                // Somebody who is not sure sends again what has an id.
                let again = sent[draws.below(sent.len() as u32) as usize];
                if draws.chance(0.3) && !again[EVENT_ID].is_empty() {
                    self.put(&mut batch, again, draws.chance(0.3));
                }
            }
            if let Some((customer, out)) = said.next() {
                for out in [!out, *out] {
                    batch.about(customer, About { opted_out: Some(out), ..About::default() });
                }
            }
            let outcomes = store.append(&batch, None).unwrap();
            assert!(!outcomes.contains(&Outcome::Erased));
            // What is kept of them now must not be answered from once more has come.
            for row in now.iter().chain(now) {
                recalled(&store.snapshot(), row[CUSTOMER].trim(), &self.rules);
            }
            assert_eq!(outcomes.len(), batch.len());
            match draws.below(6) {
                0 => {
                    drop(store);
                    store = Store::open(&directory, &SETTINGS).unwrap();
                }
                1 => store = store.compact(NOW).unwrap(),
                _ => {}
            }
        }
        let mut batch = Batch::default();
        for (customer, out) in said {
            batch.about(customer, About { opted_out: Some(*out), ..About::default() });
        }
        store.append(&batch, None).unwrap();
        store
    }

    /// Puts a row into a batch, unless it is faulty, with its time as it stands or as an instant. A
    /// local clock's is an instant only to rules that know where it hangs.
    fn put(&self, batch: &mut Batch, row: &Row, with_instant: bool) {
        let raw = raw(row);
        let Ok(at) = kept_at(&self.rules, &raw, NOW) else { return };
        let is_absolute = row[TIME].ends_with('Z') || row[TIME].ends_with("+02:00");
        let instant = (with_instant && is_absolute).then_some(RawValue::Instant(at.0));
        let raw = RawEvent { time: instant.or(raw.time), ..raw };
        batch.line(row[CUSTOMER].trim(), &raw, at);
    }

    /// The same as files give it, under rules of whatever kind.
    fn batch(&self, rows: &[Row], rules: &EventRules, ndjson: bool) -> Vec<History> {
        let (log, people) = (self.path("log"), self.path("people.csv"));
        let log = log.with_extension(if ndjson { "ndjson" } else { "csv" });
        if ndjson {
            write_ndjson(&log, rows)
        } else {
            write_csv(&log, rows)
        }
        let mut text = String::from("id,out\n");
        for (id, out) in &self.said {
            let _ = writeln!(text, "{id},{}", if *out { "yes" } else { "no" });
        }
        std::fs::write(&people, text).unwrap();
        let people = [Source::Path(people)];
        let names = CustomerColumns {
            customer: "id".to_owned(),
            opt_out: Some("out".to_owned()),
            ..CustomerColumns::default()
        };
        let reading = Reading {
            columns: &columns(),
            rules,
            now: NOW,
            as_of: None,
            memory: &Memory::default(),
            customers: (!self.said.is_empty()).then_some((&people[..], &names)),
            keep_in: None,
        };
        let log = ingest::read(&[Source::Path(log)], &reading, &mut |_| {}).unwrap();
        log.histories(rules.zone.as_of(NOW)).unwrap().0
    }

    /// Instants at which something is told apart: around events, and after all of them.
    fn instants(&self, draws: &mut Draws, rules: &EventRules) -> Vec<AsOf> {
        let mut instants = vec![trained().as_of.at, NOW];
        for _ in 0..5 {
            let row = &self.rows[draws.below(self.rows.len() as u32) as usize];
            if let Ok(time) = rules.time(&raw(row)) {
                instants.extend([-1, 0, DAY_MS].map(|by| Timestamp(time.at.0 + by)));
            }
        }
        instants.into_iter().map(|at| rules.zone.as_of(at)).collect()
    }
}

/// Compares the answers about one customer, and says how many of them were numbers.
fn assert_same(
    case: u64,
    scorer: &Scorer,
    live: &History,
    batch: &History,
    instants: &[AsOf],
) -> usize {
    let mut given = 0;
    for &as_of in instants {
        let (ours, theirs) = (scorer.predict(live, as_of), scorer.predict(batch, as_of));
        given += usize::from(ours.value.given().is_some());
        // Each number is printed so that it is read back to the bit.
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "case {case} at {as_of:?}");
    }
    given
}

/// Compares the answers about every customer, and says how many there were, and how many of them were
/// numbers.
fn compare(
    case: u64,
    scorer: &Scorer,
    snapshot: &Snapshot,
    batch: &[History],
    instants: &[AsOf],
) -> (usize, usize) {
    let rules = &scorer.version().rules;
    let kept_from = snapshot.kept_from();
    let live = snapshot.page(None, usize::MAX, rules, kept_from).unwrap();
    assert_eq!(live.len() as u64, snapshot.n_customers());
    let mut given = 0;
    for history in &live {
        let id = history.customer().as_str();
        let alone = snapshot.history(id, rules, kept_from).unwrap();
        assert_eq!(alone.as_ref(), Some(history), "case {case}");
        let nobody = History::new(CustomerId::new(id), Vec::new());
        // A log knows nothing of those whose rows were all left out.
        let same = batch.iter().find(|batch| batch.customer().as_str() == id).unwrap_or(&nobody);
        let bare = |history: &History| history.clone().with_attributes(None);
        assert_eq!(bare(history), bare(same), "case {case}");
        given += assert_same(case, scorer, history, same, instants);
        // From the store, and then from memory.
        for _ in 0..3 {
            let recalled = recalled(snapshot, id, rules).unwrap();
            assert_same(case, scorer, &recalled, same, instants);
        }
    }
    for history in batch {
        assert!(live.iter().any(|live| live.customer() == history.customer()), "case {case}");
    }
    (live.len() * instants.len(), given)
}

#[test]
fn a_store_answers_as_the_files_do_to_the_bit() {
    let shop = trained();
    let version = Registry::open(&shop.models_dir).load(&shop.name, &shop.version).unwrap().version;
    let (mut answers, mut given) = (0, 0);
    for case in 0..CASES {
        let draws = &mut Draws::new(Seed(0x11FE + case));
        let made = Case::new(draws, &version);
        let store = made.stored(draws);
        for rules in [made.rules.clone(), others(&made.rules)] {
            let scorer = Scorer::new(ModelVersion { rules: rules.clone(), ..version.clone() });
            let scorer = scorer.unwrap();
            let instants = made.instants(draws, &rules);
            let snapshot = store.snapshot();
            let batch = made.batch(&made.rows, &rules, draws.chance(0.5));
            let compared = compare(case, &scorer, &snapshot, &batch, &instants);
            (answers, given) = (answers + compared.0, given + compared.1);

            // What lies after an instant changes nothing of what is said at it.
            let as_of = instants[draws.below(instants.len() as u32) as usize];
            let is_seen = |row: &&Row| rules.time(&raw(row)).is_ok_and(|time| time.at <= as_of.at);
            let seen: Vec<Row> = made.rows.iter().filter(is_seen).cloned().collect();
            if seen.is_empty() {
                continue;
            }
            for history in made.batch(&seen, &rules, draws.chance(0.5)) {
                let id = history.customer().as_str();
                let live = snapshot.history(id, &rules, None).unwrap().unwrap();
                assert_same(case, &scorer, &live, &history, &[as_of]);
            }
        }
    }
    let has_both = given > answers / 4 && given < answers;
    assert!(has_both && answers > 5_000, "{given} of {answers} answers were numbers");
}

#[test]
fn a_store_that_keeps_some_days_answers_as_the_files_of_those_days_do() {
    let shop = trained();
    let version = Registry::open(&shop.models_dir).load(&shop.name, &shop.version).unwrap().version;
    for case in 0..CASES / 2 {
        let draws = &mut Draws::new(Seed(0x01D + case));
        let made = Case::new(draws, &version);
        drop(made.stored(draws));
        // The clock says January of 2027, and the events are of 2020 and 2021. Whole days are kept.
        let days = 1_900 + draws.below(650);
        let kept_from = Timestamp((NOW.0.div_euclid(DAY_MS) - i64::from(days)) * DAY_MS);
        let settings = Settings { retention_days: Some(days), ..SETTINGS };
        let store = Store::open(&made.path("store"), &settings).unwrap();
        let n_lines = store.snapshot().n_lines();
        assert_eq!(store.kept_from(NOW), Some(kept_from));
        let store = store.compact(NOW).unwrap();
        let snapshot = store.snapshot();
        assert_eq!(snapshot.kept_from(), Some(kept_from));
        assert!(snapshot.n_lines() < n_lines, "case {case}");
        for rules in [made.rules.clone(), others(&made.rules)] {
            let scorer = Scorer::new(ModelVersion { rules: rules.clone(), ..version.clone() });
            let scorer = scorer.unwrap();
            let is_kept = |row: &&Row| rules.time(&raw(row)).is_ok_and(|time| time.at >= kept_from);
            let kept: Vec<Row> = made.rows.iter().filter(is_kept).cloned().collect();
            let batch = match kept.is_empty() {
                true => Vec::new(),
                false => made.batch(&kept, &rules, draws.chance(0.5)),
            };
            let mut instants = made.instants(draws, &rules);
            instants.retain(|as_of| as_of.at >= kept_from);
            let live = snapshot.page(None, usize::MAX, &rules, Some(kept_from)).unwrap();
            for history in &live {
                let id = history.customer().as_str();
                let attributes = history.attributes().cloned();
                let same = batch.iter().find(|batch| batch.customer().as_str() == id);
                let nobody = History::new(CustomerId::new(id), Vec::new());
                let same = same.unwrap_or(&nobody).clone().with_attributes(attributes);
                assert_eq!(*history, same, "case {case}");
                assert_same(case, &scorer, history, &same, &instants);
            }
            for history in &batch {
                let id = history.customer();
                assert!(live.iter().any(|live| live.customer() == id), "case {case}: {id}");
            }
        }
    }
}

#[test]
fn what_is_there_already_does_not_move_the_sequence() {
    let shop = trained();
    let version = Registry::open(&shop.models_dir).load(&shop.name, &shop.version).unwrap().version;
    let draws = &mut Draws::new(Seed(7));
    let made = Case::new(draws, &version);
    let store = made.stored(draws);
    let before = store.snapshot();
    let mut batch = Batch::default();
    for row in made.rows.iter().filter(|row| !row[EVENT_ID].is_empty()) {
        made.put(&mut batch, row, false);
        made.put(&mut batch, row, true);
    }
    assert!(batch.len() > 10);
    let outcomes = store.append(&batch, None).unwrap();
    assert!(outcomes.iter().all(|&outcome| outcome == Outcome::Duplicate));
    // One that says the same in other words may be kept, and counts for nothing.
    let after = store.snapshot();
    assert!(after.n_lines() >= before.n_lines());
    for history in before.page(None, usize::MAX, &made.rules, None).unwrap() {
        let now = after.history(history.customer().as_str(), &made.rules, None).unwrap();
        assert_eq!(now.as_ref(), Some(&history));
    }
    let sequence = after.sequence();
    store.append(&batch, None).unwrap();
    assert_eq!(store.snapshot().sequence(), sequence);
}
