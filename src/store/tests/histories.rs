//! A store does what the model of it does.

use super::super::{About, Batch, MAX_NAMES, Outcome};
use super::model::{Content, Model};
use super::workload::{CUSTOMERS, Step, batch, go, workload};
use super::{CRAMPED, LARGE, ROOMY, empty, rules, store};
use habitus_engine::domain::{AttributeValue, Draws, RawEvent, Seed, Timestamp};
use std::sync::Arc;
use std::thread;

const ATTEMPTS: u64 = 40;
const ATTEMPTS_LARGE: u64 = 2_000;

fn a_store_is_its_model(seeds: std::ops::Range<u64>) {
    let rules = rules();
    for seed in seeds {
        let seed = Seed(seed);
        let disk = empty();
        let mut held =
            store(&disk, if seed.0.is_multiple_of(2) { ROOMY } else { CRAMPED }).unwrap();
        let mut model = Model::default();
        let mut draws = Draws::new(seed.derive("reopening", 0));
        for step in workload(seed, 12, 60) {
            assert_eq!(go(&held, &step).unwrap(), model.go(&step), "{seed:?}");
            if draws.chance(0.1) {
                drop(held);
                held = store(&disk, CRAMPED).unwrap();
            }
        }
        assert_eq!(Content::of(&held, &rules).unwrap(), model.content(), "{seed:?}");
        let snapshot = held.snapshot();
        let all = snapshot.page(None, usize::MAX, &rules, None).unwrap();
        let names = all.iter().find_map(|history| Some(history.attributes()?.names().clone()));
        let names = names.unwrap_or_default();
        for customer in CUSTOMERS {
            let history = snapshot.history(customer, &rules, None).unwrap();
            assert_eq!(history, model.history(customer, &rules, &names), "{seed:?}");
        }
        // Page by page, in the order of ids.
        let n = 1 + draws.below(4) as usize;
        let (mut after, mut ids): (Option<String>, Vec<String>) = (None, Vec::new());
        loop {
            let page = snapshot.page(after.as_deref(), n, &rules, None).unwrap();
            ids.extend(page.iter().map(|history| history.customer().as_str().to_owned()));
            if page.len() < n {
                break;
            }
            after = ids.last().cloned();
        }
        assert!(ids.iter().eq(model.customers.keys()), "{seed:?}: {ids:?}");
        drop(snapshot);
        let checked = held.check().unwrap();
        let content = model.content();
        assert_eq!((checked.faults, checked.lines), (Vec::new(), content.n_lines), "{seed:?}");
        assert_eq!(checked.customers, content.customers.len() as u64);
    }
}

#[test]
fn names_of_attributes_are_bounded() {
    let held = store(&empty(), ROOMY).unwrap();
    let about = |names: std::ops::Range<usize>| About {
        values: names.map(|n| (format!("name {n}"), AttributeValue::Number(n as f64))).collect(),
        ..About::default()
    };
    let mut batch = Batch::default();
    batch.about("ann", about(0..MAX_NAMES - 1));
    batch.about("bob", about(MAX_NAMES - 2..MAX_NAMES + 1));
    batch.about("cleo", about(MAX_NAMES..MAX_NAMES + 1));
    batch.about("dan", about(5..6));
    batch.about("dan", about(MAX_NAMES + 1..MAX_NAMES + 2));
    let [accepted, refused] = [Outcome::Accepted, Outcome::TooManyNames];
    let expected = [accepted, refused, accepted, accepted, refused];
    assert_eq!(held.append(&batch, None).unwrap(), expected);
    // Nothing of a record that is refused is taken, not even that there is somebody.
    let snapshot = held.snapshot();
    assert_eq!((snapshot.n_customers(), snapshot.sequence()), (3, 3));
    assert_eq!(snapshot.history("bob", &rules(), None).unwrap(), None);
    let dan = snapshot.history("dan", &rules(), None).unwrap().unwrap();
    assert_eq!(dan.attributes().unwrap().names().len(), MAX_NAMES);
    drop(snapshot);
    assert_eq!(held.check().unwrap().faults, [""; 0]);
}

#[test]
fn a_store_is_its_model_small() {
    a_store_is_its_model(0..ATTEMPTS);
}

#[test]
#[ignore = "large; see docs/reliability.md"]
fn a_store_is_its_model_large() {
    a_store_is_its_model(LARGE..LARGE + ATTEMPTS_LARGE);
}

/// Any order of arrival and any division into batches give the same histories.
#[test]
fn histories_do_not_depend_on_how_their_lines_came() {
    let rules = rules();
    for seed in (0..20).map(Seed) {
        let mut records: Vec<_> = workload(seed, 6, 40)
            .into_iter()
            .flat_map(|step| match step {
                Step::Append(records, _) => records,
                Step::Erase(..) => Vec::new(),
            })
            // What is told of a customer holds from when it comes, so its order is its sense.
            .filter(|(_, record)| matches!(record, super::workload::Record::Line(_)))
            .collect();
        let mut first = None;
        for order in 0..4 {
            let held = store(&empty(), ROOMY).unwrap();
            let mut rest = records.as_slice();
            let mut draws = Draws::new(seed.derive("order", order));
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(1 + draws.below(90) as usize));
                held.append(&batch(now), None).unwrap();
                rest = later;
            }
            let histories = held.snapshot().page(None, usize::MAX, &rules, None).unwrap();
            assert_eq!(*first.get_or_insert_with(|| histories.clone()), histories, "{seed:?}");
            for last in (1..records.len()).rev() {
                records.swap(last, draws.below(last as u32 + 1) as usize);
            }
        }
    }
}

#[test]
fn a_snapshot_does_not_change_while_a_writer_goes_on() {
    let rules = rules();
    let held = Arc::new(store(&empty(), CRAMPED).unwrap());
    let steps = workload(Seed(5), 30, 60);
    steps[..8].iter().for_each(|step| drop(go(&held, step).unwrap()));
    let snapshot = held.snapshot();
    let see = || {
        let mut all = Vec::new();
        let mut see = |customer: &str, kept: super::super::Kept<'_>| {
            all.push(format!("{customer} {kept:?}"));
            Ok::<(), super::StoreError>(())
        };
        snapshot.each(&mut see).unwrap();
        (all, snapshot.page(None, usize::MAX, &rules, None).unwrap(), snapshot.n_lines())
    };
    let before = see();
    let mut sequence = snapshot.sequence();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            steps[8..].iter().for_each(|step| drop(go(&held, step).unwrap()));
        });
        while !writer.is_finished() {
            assert_eq!(see(), before);
            let later = held.snapshot().sequence();
            assert!(sequence <= later);
            sequence = later;
        }
    });
    assert_eq!(see(), before);
    assert!(held.snapshot().sequence() > snapshot.sequence());
}

/// The clock of the caller is no clock of the store's.
#[test]
fn a_clock_that_jumps_neither_loses_nor_breaks() {
    let disk = empty();
    let mut held = store(&disk, ROOMY).unwrap();
    held.settings.retention_days = Some(30);
    let clocks = [0, i64::MAX, i64::MIN, 1_000_000_000_000, -1, i64::MAX - 1, 5];
    for (number, now) in clocks.into_iter().enumerate() {
        let now = Timestamp(now);
        let id = format!("e{number}");
        let raw = RawEvent {
            time: Some("2000-01-01".into()),
            amount: Some("1".into()),
            event_id: Some(id.as_str().into()),
            ..RawEvent::default()
        };
        let mut batch = super::super::Batch::default();
        batch.line("stays", &raw, now);
        batch.line("goes", &raw, now);
        held.append(&batch, None).unwrap();
        held.erase("goes", now).unwrap();
        assert_eq!(held.erased_at("goes").unwrap(), Some(now));
        assert!(held.kept_from(now) <= Some(now));
        let history = held.snapshot().history("stays", &rules(), None).unwrap().unwrap();
        assert_eq!(history.events().len(), number + 1);
        assert_eq!(held.snapshot().history("goes", &rules(), None).unwrap(), None);
    }
    assert_eq!(held.check().unwrap().faults, [""; 0]);
}
