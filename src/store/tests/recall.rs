//! What is recalled is what is stored, whoever asks and whatever happens meanwhile.

use super::super::{Batch, Shaping, Snapshot, Store};
use super::workload::{CUSTOMERS, go, workload};
use super::{CRAMPED, LARGE, Settings, database, empty, rules, settings};
use habitus_engine::domain::{
    AsOf, Attributes, Day, Draws, Event, EventRules, History, RawEvent, RawValue, Seed, Timestamp,
};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const ATTEMPTS: u64 = 60;
const ATTEMPTS_LARGE: u64 = 2_000;

/// Room for all histories of a workload, or for so few that they drive each other out.
const BYTES: [usize; 3] = [4 << 20, 40 << 10, 4 << 10];

fn remembering(history_bytes: usize) -> Store {
    held_by(&Settings { history_bytes, ..settings(CRAMPED) })
}

fn held_by(settings: &Settings) -> Store {
    let database = database(&empty(), settings.cache_bytes).unwrap();
    Store::of(Path::new("disk"), settings, database).unwrap()
}

/// All that an answer may see of a history: its events as of some instants, without ids, and what is
/// told besides.
fn seen(history: Option<History>) -> Option<(Vec<Vec<Event>>, Option<Attributes>)> {
    let history = history?;
    let as_of = |day: i64| AsOf {
        at: Timestamp(946_684_800_000 + day * 86_400_000),
        day: Day(10_957 + day as i32),
    };
    let plain = |event: &Event| Event { order_id: None, event_id: None, ..event.clone() };
    let until = |day| history.until(as_of(day)).iter().map(plain).collect();
    Some(([0, 3, 6, 9, 100].map(until).to_vec(), history.attributes().cloned()))
}

fn is_recalled_as_stored(snapshot: &Snapshot, customer: &str, shaping: &Shaping<'_>) {
    let stored = snapshot.history(customer, shaping.rules, shaping.kept_from).unwrap();
    assert_eq!(seen(snapshot.recall(customer, shaping).unwrap()), seen(stored), "{customer}");
}

fn other_rules() -> EventRules {
    EventRules { merge_orders: false, ..rules() }
}

/// Snapshots of several ages, versions of several rules and boundaries of several days are asked in
/// any order, while customers change and are erased.
fn recalled_as_stored(seeds: std::ops::Range<u64>) {
    let all_rules = [rules(), other_rules()];
    let mut hits = 0;
    for seed in seeds {
        let seed = Seed(seed);
        let mut draws = Draws::new(seed.derive("recall", 0));
        let held = remembering(BYTES[seed.0 as usize % BYTES.len()]);
        let mut snapshots = vec![held.snapshot()];
        for step in workload(seed, 25, 12) {
            go(&held, &step).unwrap();
            snapshots.push(held.snapshot());
            if snapshots.len() > 4 {
                snapshots.remove(draws.below(4) as usize);
            }
            for _ in 0..40 {
                let snapshot = &snapshots[draws.below(snapshots.len() as u32) as usize];
                let customer = CUSTOMERS[draws.below(CUSTOMERS.len() as u32) as usize];
                let rules = &all_rules[usize::from(draws.chance(0.1))];
                let kept_from = draws.chance(0.1).then_some(Timestamp(946_684_800_000 + 400_000));
                let shaping = Shaping { rules, tag: Shaping::tag_of(rules), kept_from };
                is_recalled_as_stored(snapshot, customer, &shaping);
            }
        }
        hits += held.snapshot().recalled().unwrap().hits;
    }
    assert!(hits > 1_000, "{hits}");
}

#[test]
fn what_is_recalled_is_what_is_stored_small() {
    recalled_as_stored(0..ATTEMPTS);
}

#[test]
#[ignore = "large; see docs/reliability.md"]
fn what_is_recalled_is_what_is_stored_large() {
    recalled_as_stored(LARGE..LARGE + ATTEMPTS_LARGE);
}

#[test]
fn readers_recall_their_own_moment_while_a_writer_goes_on() {
    let rules = rules();
    let shaping = Shaping { rules: &rules, tag: Shaping::tag_of(&rules), kept_from: None };
    let (held, is_done) = (remembering(BYTES[0]), AtomicBool::new(false));
    let read = || {
        while !is_done.load(Ordering::Relaxed) {
            let snapshot = held.snapshot();
            CUSTOMERS.iter().for_each(|customer| {
                is_recalled_as_stored(&snapshot, customer, &shaping);
            });
        }
    };
    thread::scope(|scope| {
        let readers = [scope.spawn(read), scope.spawn(read)];
        for step in workload(Seed(11), 300, 4) {
            go(&held, &step).unwrap();
        }
        is_done.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert!(held.snapshot().recalled().unwrap().hits > 0);
}

fn line(customer: &str, day: i64) -> Batch {
    let at = 946_684_800_000 + day * 86_400_000;
    let raw = RawEvent {
        time: Some(RawValue::Instant(at)),
        amount: Some("1".into()),
        ..RawEvent::default()
    };
    let mut batch = Batch::default();
    batch.line(customer, &raw, Timestamp(at));
    batch
}

#[test]
fn who_is_asked_for_once_is_not_kept_and_who_is_erased_is_gone() {
    let rules = rules();
    let shaping = Shaping { rules: &rules, tag: Shaping::tag_of(&rules), kept_from: None };
    let held = remembering(1 << 20);
    ["ann", "bob"].iter().for_each(|name| drop(held.append(&line(name, 1), None).unwrap()));
    let before = held.snapshot();
    let counts = || held.snapshot().recalled().unwrap();
    let ask = |name: &str| before.recall(name, &shaping).unwrap();
    assert!(ask("ann").is_some() && ask("bob").is_some());
    assert_eq!((counts().histories, counts().misses), (0, 2));
    assert!(ask("ann").is_some() && ask("ann").is_some());
    assert_eq!((counts().histories, counts().hits), (1, 1));
    held.erase("ann", Timestamp(0)).unwrap();
    assert_eq!(counts().histories, 0);
    assert_eq!(held.snapshot().recall("ann", &shaping).unwrap(), None);
    // Whoever still reads the moment before sees it, and leaves nothing behind.
    assert!(ask("ann").is_some() && ask("ann").is_some());
    assert_eq!((counts().histories, counts().bytes), (0, 0));
    // A change is seen at once, and what it made is kept in its turn.
    ask("bob");
    assert_eq!(counts().histories, 1);
    held.append(&line("bob", 2), None).unwrap();
    let after = held.snapshot();
    let n_events = |_| after.recall("bob", &shaping).unwrap().unwrap().events().len();
    assert_eq!([0, 1, 2].map(n_events), [2; 3]);
    assert_eq!(counts().hits, 3);
    assert_eq!(ask("bob").unwrap().events().len(), 1);
}

#[test]
fn histories_take_no_more_than_they_may() {
    let rules = rules();
    let shaping = Shaping { rules: &rules, tag: Shaping::tag_of(&rules), kept_from: None };
    let held = remembering(64 << 10);
    let customers: Vec<String> = (0..2_000).map(|number| format!("customer {number}")).collect();
    let mut batch = Batch::default();
    customers.iter().for_each(|customer| batch.extend(line(customer, 1)));
    held.append(&batch, None).unwrap();
    let snapshot = held.snapshot();
    for customer in customers.iter().chain(&customers) {
        for _ in 0..2 {
            snapshot.recall(customer, &shaping).unwrap();
        }
    }
    let counts = snapshot.recalled().unwrap();
    assert!(counts.bytes <= 64 << 10 && counts.histories > 50, "{counts:?}");
}

#[test]
fn histories_give_way_to_lines_that_wait() {
    let rules = rules();
    let shaping = Shaping { rules: &rules, tag: Shaping::tag_of(&rules), kept_from: None };
    let held = held_by(&Settings { history_bytes: 1 << 20, ..settings(8 << 20) });
    let names = |some: u32| (0..6_000).map(move |number| format!("customer {some}-{number}"));
    let append = |day: u32| {
        let mut lines = Batch::default();
        names(day.min(1)).for_each(|customer| lines.extend(line(&customer, i64::from(day))));
        held.append(&lines, None).unwrap();
    };
    let kept = || {
        let snapshot = held.snapshot();
        for customer in names(0).flat_map(|name| [name.clone(), name.clone(), name]) {
            snapshot.recall(&customer, &shaping).unwrap();
        }
        snapshot.recalled().unwrap().bytes
    };
    append(0);
    let before = kept();
    (1..6).for_each(append);
    let beside = kept();
    assert!(beside < before / 2, "{beside} of {before}");
    held.settle().unwrap();
    append(9);
    let after = kept();
    assert!(after > before / 2, "{after} of {before}");
}
