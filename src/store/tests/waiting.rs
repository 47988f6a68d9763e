//! Many customers and little memory: what waits and what was put into records is one history, whoever
//! asks and whenever.

use super::super::tables::{HEADS, JOURNAL};
use super::super::{About, Batch, Kept, Outcome, Snapshot, Store, StoreError};
use super::disk::Disk;
use super::run::n_sorted;
use super::{LARGE, ROOMY, empty, rules, store};
use habitus_engine::domain::{Draws, RawEvent, RawValue, Seed, Timestamp};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const ATTEMPTS: u64 = 3;
const ATTEMPTS_LARGE: u64 = 60;

/// So much that some thousand lines wait.
pub(super) const SOME: usize = 1 << 20;

/// Amounts of lines with their ids, by customer.
pub(super) type Lines = BTreeMap<String, Vec<(String, Option<String>)>>;

pub(super) fn line(batch: &mut Batch, customer: &str, amount: &str, id: Option<&str>) {
    let raw = RawEvent {
        time: Some(RawValue::Instant(1_000)),
        amount: Some(RawValue::Text(amount)),
        event_id: id.map(RawValue::Text),
        ..RawEvent::default()
    };
    batch.line(customer, &raw, Timestamp(1_000));
}

pub(super) fn lines(snapshot: &Snapshot) -> Lines {
    let mut lines = Lines::new();
    let text = |value: RawValue<'_>| value.text().into_owned();
    snapshot
        .each(|customer, kept| -> Result<(), StoreError> {
            if let Kept::Line(raw) = kept {
                let line = (raw.amount.map(text).unwrap_or_default(), raw.event_id.map(text));
                lines.entry(customer.to_owned()).or_default().push(line);
            }
            Ok(())
        })
        .unwrap();
    lines
}

fn as_its_model(seeds: std::ops::Range<u64>) {
    for seed in seeds.map(Seed) {
        let disk = empty();
        let mut draws = Draws::new(seed.derive("waiting", 0));
        let mut held = store(&disk, SOME).unwrap();
        let (mut model, mut erased) = (Lines::new(), BTreeSet::new());
        let mut sent: Vec<(String, String, Option<String>)> = Vec::new();
        let mut moments: Vec<(Arc<Snapshot>, Lines)> = Vec::new();
        let (mut most_waiting, mut n_merged, mut most_known) = (0, 0, 0);
        let mut most_sorted = 0;
        for step in 0..60 {
            let mut batch = Batch::default();
            let mut expected = Vec::new();
            for number in 0..1 + draws.below(1_200) {
                let again = !sent.is_empty() && draws.chance(0.1);
                let (customer, amount, id) = if again {
                    let mut line = sent[draws.below(sent.len() as u32) as usize].clone();
                    if draws.chance(0.2) {
                        line.1 = "9.75".into();
                    }
                    line
                } else {
                    let customer = format!("customer {}", draws.below(3_000));
                    let id = draws.chance(0.9).then(|| format!("{step}-{number}"));
                    (customer, format!("{}", draws.below(500)), id)
                };
                line(&mut batch, &customer, &amount, id.as_deref());
                if erased.contains(&customer) {
                    expected.push(Outcome::Erased);
                    continue;
                }
                sent.push((customer.clone(), amount.clone(), id.clone()));
                let known = model.entry(customer).or_default();
                let is_there = id.is_some() && known.iter().any(|(_, other)| *other == id);
                let is_same = is_there && known.contains(&(amount.clone(), id.clone()));
                expected.push(if is_there { Outcome::Duplicate } else { Outcome::Accepted });
                if !is_same {
                    known.push((amount, id));
                }
            }
            let outcomes = held.append(&batch, None).unwrap();
            let first = outcomes.iter().zip(&expected).position(|(one, other)| one != other);
            assert_eq!(first, None, "{seed:?}, step {step}");
            let waiting = held.snapshot().n_waiting();
            n_merged += u64::from(waiting < most_waiting);
            most_sorted = most_sorted.max(n_sorted(&held));
            most_waiting = most_waiting.max(waiting);
            most_known = most_known.max(held.writing.lock().unwrap().known.n_ranges());
            if draws.chance(0.2) {
                let customer = format!("customer {}", draws.below(3_000));
                held.erase(&customer, Timestamp(5)).unwrap();
                model.remove(&customer);
                erased.insert(customer);
            }
            if draws.chance(0.1) {
                moments.push((held.snapshot(), model.clone()));
            }
            if draws.chance(0.1) {
                for (snapshot, model) in moments.drain(..) {
                    assert!(lines(&snapshot) == model, "{seed:?}, step {step}");
                }
                drop(held);
                held = store(&disk, SOME).unwrap();
            }
        }
        assert!(most_waiting > 1_000 && n_merged > 10 && most_known > 3, "{most_known} known");
        assert!(most_sorted > 1_000, "{most_sorted} in the sorted run");
        moments.push((held.snapshot(), model));
        for (snapshot, model) in &moments {
            assert!(lines(snapshot) == *model, "{seed:?}");
            assert_eq!(snapshot.n_customers(), model.len() as u64, "{seed:?}");
            for number in (0..3_000).step_by(7) {
                let customer = format!("customer {number}");
                let history = snapshot.history(&customer, &rules(), None).unwrap();
                assert_eq!(history.is_some(), model.contains_key(&customer));
            }
            let ids = snapshot.page(Some("customer 2"), 500, &rules(), None).unwrap();
            let after = model.range("customer 2 ".to_owned()..).take(500);
            assert!(
                ids.iter().map(|history| history.customer().as_str()).eq(after.map(|(id, _)| id))
            );
        }
        held.settle().unwrap();
        assert_eq!(held.snapshot().n_waiting(), 0);
        for (snapshot, model) in &moments {
            assert!(lines(snapshot) == *model, "{seed:?}");
        }
        assert!(lines(&held.snapshot()) == moments.last().unwrap().1);
        drop(moments);
        assert_eq!(held.check().unwrap().faults, [""; 0], "{seed:?}");
    }
}

#[test]
fn what_waits_and_what_was_merged_is_one_history() {
    as_its_model(0..ATTEMPTS);
}

#[test]
#[ignore = "large; see docs/reliability.md"]
fn what_waits_and_what_was_merged_is_one_history_large() {
    as_its_model(LARGE..LARGE + ATTEMPTS_LARGE);
}

/// A store in which a line of each of these waits.
fn waiting(customers: &[&str]) -> (Disk, Store) {
    let disk = empty();
    let held = store(&disk, ROOMY).unwrap();
    let mut batch = Batch::default();
    customers.iter().for_each(|customer| line(&mut batch, customer, "1.25", Some("EVENT")));
    held.append(&batch, None).unwrap();
    assert_eq!(held.snapshot().n_waiting(), customers.len() as u64);
    (disk, held)
}

/// Changes the values of a table in place.
pub(super) fn change<K: redb::Key + 'static>(
    held: &Store,
    table: TableDefinition<'static, K, &'static [u8]>,
    change: impl Fn(&[u8], &mut Vec<u8>),
) {
    let database = held.database.get().unwrap();
    let transaction = database.begin_write().unwrap();
    let mut open = transaction.open_table(table).unwrap();
    let entries: Vec<(Vec<u8>, Vec<u8>)> = open
        .iter()
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|(key, value)| (K::as_bytes(&key.value()).as_ref().to_vec(), value.value().to_vec()))
        .collect();
    for (key, mut value) in entries {
        change(&key, &mut value);
        open.insert(K::from_bytes(&key), value.as_slice()).unwrap();
    }
    drop(open);
    transaction.commit().unwrap();
}

pub(super) fn place_of(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

#[test]
fn a_damaged_line_that_waits_is_one_customers() {
    let (disk, held) = waiting(&["ann", "bob", "cleo"]);
    change(&held, JOURNAL, |_, part| {
        let first = place_of(part, b"EVENT").unwrap();
        part[first] ^= 1;
    });
    drop(held);
    // Once as it was left, and once more after what waits was merged, but for what is damaged.
    for cache in [ROOMY, 64, 64] {
        let held = store(&disk, cache).unwrap();
        let snapshot = held.snapshot();
        let read = |id: &str| snapshot.history(id, &rules(), None);
        assert!(
            matches!(read("ann"), Err(StoreError::DamagedRecord { customer }) if customer == "ann")
        );
        assert_eq!(read("bob").unwrap().unwrap().events().len(), 1);
        let mut batch = Batch::default();
        line(&mut batch, "ann", "2", None);
        line(&mut batch, "bob", "1.25", Some("EVENT"));
        let outcomes = held.append(&batch, None).unwrap();
        assert_eq!(outcomes, [Outcome::Damaged, Outcome::Duplicate]);
        assert_eq!(held.snapshot().n_lines(), 3);
    }
    let held = store(&disk, 64).unwrap();
    held.erase("ann", Timestamp(1)).unwrap();
    assert_eq!((held.snapshot().n_customers(), held.snapshot().n_lines()), (2, 2));
    assert_eq!(held.check().unwrap().faults, [""; 0]);
}

#[test]
fn a_journal_of_which_nobody_knows_whose_lines_they_are_is_refused_by_name() {
    let (disk, held) = waiting(&["ann", "bob"]);
    change(&held, JOURNAL, |_, part| {
        let id = place_of(part, b"bob").unwrap();
        part[id] = b'r';
    });
    drop(held);
    let refused = store(&disk, ROOMY).err().unwrap().to_string();
    assert!(refused.contains("journal"), "{refused}");
    // A part that is missing is not passed over either.
    let (disk, held) = waiting(&["ann", "bob"]);
    let transaction = held.database.get().unwrap().begin_write().unwrap();
    transaction.open_table(JOURNAL).unwrap().pop_first().unwrap();
    transaction.commit().unwrap();
    drop(held);
    let refused = store(&disk, ROOMY).err().unwrap().to_string();
    assert!(refused.contains("2 lines are to wait, and 0 are in the journal"), "{refused}");
}

/// What cannot be put into a damaged record waits on, over any number of commits and of starts.
#[test]
fn what_waits_for_a_damaged_record_is_not_lost() {
    let disk = empty();
    let held = store(&disk, 64).unwrap();
    let mut batch = Batch::default();
    ["ann", "bob"].iter().for_each(|customer| line(&mut batch, customer, "1", None));
    held.append(&batch, None).unwrap();
    drop(held);
    let held = store(&disk, ROOMY).unwrap();
    held.append(&batch, None).unwrap();
    assert_eq!(held.snapshot().n_waiting(), 2);
    let flip = |customer: &[u8], record: &mut Vec<u8>| {
        let last = record.len() - 1;
        record[last] ^= u8::from(customer != b"cleo");
    };
    change(&held, HEADS, flip);
    drop(held);
    for _ in 0..3 {
        let held = store(&disk, 64).unwrap();
        let mut batch = Batch::default();
        line(&mut batch, "cleo", "1", None);
        held.append(&batch, None).unwrap();
        assert_eq!(held.snapshot().n_waiting(), 2);
        held.settle().unwrap();
        assert_eq!(held.snapshot().n_waiting(), 2);
        assert!(held.snapshot().history("ann", &rules(), None).is_err());
    }
    let held = store(&disk, ROOMY).unwrap();
    change(&held, HEADS, flip);
    drop(held);
    let held = store(&disk, 64).unwrap();
    let n_events =
        |id: &str| held.snapshot().history(id, &rules(), None).unwrap().unwrap().events().len();
    assert_eq!((n_events("ann"), n_events("bob")), (2, 2));
    let mut batch = Batch::default();
    line(&mut batch, "ann", "1", None);
    line(&mut batch, "bob", "1", None);
    held.append(&batch, None).unwrap();
    assert_eq!((n_events("ann"), n_events("bob"), held.snapshot().n_waiting()), (3, 3, 0));
    assert_eq!(held.check().unwrap().faults, [""; 0]);
}

#[test]
fn nothing_of_the_erased_is_left_in_the_journal() {
    let (_, held) = waiting(&["ann", "bob who is erased", "cleo"]);
    held.erase("bob who is erased", Timestamp(1)).unwrap();
    let snapshot = held.snapshot();
    assert_eq!((snapshot.n_customers(), snapshot.n_lines(), snapshot.n_waiting()), (2, 2, 2));
    let transaction = held.database.get().unwrap().begin_read().unwrap();
    let parts = transaction.open_table(JOURNAL).unwrap();
    for entry in parts.iter().unwrap() {
        let (_, part) = entry.unwrap();
        assert_eq!(place_of(part.value(), b"who is erased"), None);
        assert!(place_of(part.value(), b"cleo").is_some());
    }
    drop((snapshot, parts, transaction));
    assert_eq!(held.check().unwrap().faults, [""; 0]);
}

/// Lines with ids of so many customers, the same number of each.
pub(super) fn feed(held: &Store, customers: impl Iterator<Item = u32>, id: &str) -> Vec<Outcome> {
    let mut batch = Batch::default();
    for customer in customers {
        line(&mut batch, &format!("c{customer:06}"), "1", Some(id));
    }
    held.append(&batch, None).unwrap()
}

/// Whoever has lines that wait beside a record that is not found is told to be damaged, and is not
/// answered from what waits alone.
#[test]
fn a_damaged_key_is_told_of_whoever_has_more_that_waits() {
    let disk = empty();
    let held = store(&disk, 64).unwrap();
    feed(&held, 0..2_000, "first");
    drop(held);
    let held = store(&disk, ROOMY).unwrap();
    feed(&held, 0..2_000, "second");
    // Two of which there is no record.
    feed(&held, [3_000, 3_001].into_iter(), "third");
    assert!(held.snapshot().n_waiting() > 2_000);
    let moved = |from: &str, to: &str| {
        let transaction = held.database.get().unwrap().begin_write().unwrap();
        let mut heads = transaction.open_table(HEADS).unwrap();
        let record = heads.remove(from.as_bytes()).unwrap().unwrap().value().to_vec();
        heads.insert(to.as_bytes(), record.as_slice()).unwrap();
        drop(heads);
        transaction.commit().unwrap();
    };
    moved("c000700", "c000990x");
    drop(held);
    let held = store(&disk, ROOMY).unwrap();
    let snapshot = held.snapshot();
    let is_damaged = |id: &str| {
        let read = snapshot.history(id, &rules(), None);
        matches!(read, Err(StoreError::DamagedRecord { customer }) if customer == id)
    };
    assert!(is_damaged("c000700") && !is_damaged("c000701") && !is_damaged("c003000"));
    assert!(snapshot.page(Some("c000600"), 90, &rules(), None).is_ok());
    assert!(snapshot.page(Some("c000600"), 110, &rules(), None).is_err());
    let outcomes = feed(&held, [700, 701, 3_000].into_iter(), "fourth");
    assert_eq!(outcomes, [Outcome::Damaged, Outcome::Accepted, Outcome::Accepted]);
    held.settle().unwrap();
    assert_eq!(held.snapshot().n_waiting(), 1);
    drop(snapshot);
    let faults = held.check().unwrap().faults;
    assert!(faults.iter().any(|fault| fault.contains("`c000700`")), "{faults:?}");
    // Since when the lost record was there nobody knows; of who has lines alone it is known.
    let held = store(&disk, ROOMY).unwrap();
    feed(&held, [3_001].into_iter(), "fifth");
    let erased = |id: &str| held.erase(id, Timestamp(9_000)).unwrap();
    let (lost, new) = (erased("c000700"), erased("c003001"));
    assert!(lost.was_known && lost.first_sequence.is_none(), "{lost:?}");
    assert!(new.first_sequence.is_some(), "{new:?}");
}

/// Who is first heard of by a line, and then told about, has a record from then on.
#[test]
fn a_record_that_comes_after_lines_is_missed_too() {
    let disk = empty();
    let held = store(&disk, ROOMY).unwrap();
    feed(&held, 0..3, "first");
    let mut batch = Batch::default();
    batch.about("c000001", About { opted_out: Some(true), ..About::default() });
    assert_eq!(held.append(&batch, None).unwrap(), [Outcome::Accepted]);
    feed(&held, 0..3, "second");
    let transaction = held.database.get().unwrap().begin_write().unwrap();
    let mut heads = transaction.open_table(HEADS).unwrap();
    assert!(heads.remove(b"c000001".as_slice()).unwrap().is_some());
    assert!(heads.remove(b"c000002".as_slice()).unwrap().is_none());
    drop(heads);
    transaction.commit().unwrap();
    drop(held);
    let held = store(&disk, ROOMY).unwrap();
    let history =
        |id: &str| held.snapshot().history(id, &rules(), None).map(|found| found.is_some());
    assert!(matches!(history("c000001"), Err(StoreError::DamagedRecord { .. })));
    assert!(history("c000002").unwrap());
    assert_eq!(feed(&held, 1..3, "third"), [Outcome::Damaged, Outcome::Accepted]);
}

/// Ranges come and go: what is known of one is of no use where it became another's part.
#[test]
fn what_was_joined_and_cut_again_knows_all_ids() {
    let disk = empty();
    let held = store(&disk, SOME).unwrap();
    let mut draws = Draws::new(Seed(5).derive("joined", 0));
    let n = 20_000;
    for round in 0..40 {
        let some: Vec<u32> = (0..1_500).map(|_| draws.below(n)).collect();
        feed(&held, some.into_iter(), &format!("random {round}"));
    }
    assert!(held.writing.lock().unwrap().known.n_ranges() > 3);
    for round in 0..8 {
        // In the order of customers, so that ranges are merged at once, cut, and are too many.
        for start in (0..n).step_by(1_000) {
            feed(&held, start..start + 1_000, &format!("in order {round}"));
        }
        let mut some: BTreeSet<u32> = BTreeSet::new();
        some.extend((0..1_500).map(|_| draws.below(n)));
        for _ in 0..2 {
            feed(&held, some.iter().copied(), &format!("again {round}"));
        }
        let outcomes = feed(&held, some.iter().copied(), &format!("again {round}"));
        assert!(outcomes.iter().all(|&outcome| outcome == Outcome::Duplicate), "round {round}");
    }
    assert_eq!(held.check().unwrap().faults, [""; 0]);
}

/// A store that was left with more waiting than there is room for now is not merged at once.
#[test]
fn a_commit_merges_some_of_what_has_no_room() {
    let disk = empty();
    let held = store(&disk, 32 * SOME).unwrap();
    // Few enough at a time that they wait.
    for round in 0..50 {
        feed(&held, (round % 10..20_000).step_by(10), &format!("{round}"));
    }
    let mut before = held.snapshot().n_waiting();
    assert_eq!(before, 100_000);
    drop(held);
    let held = store(&disk, SOME).unwrap();
    let mut n_commits = 0;
    for number in 0..1_000 {
        feed(&held, [number].into_iter(), "one more");
        let after = held.snapshot().n_waiting();
        let n_merged = before + 1 - after;
        assert!(n_merged < 2_000, "{n_merged} lines at once");
        n_commits += u32::from(n_merged > 0);
        before = after;
    }
    assert!(n_commits > 50 && before < 10_000, "{n_commits} commits, {before} wait");
    assert_eq!(held.check().unwrap().faults, [""; 0]);
}

/// Lines of many customers wait, however much of them comes at once for a range.
#[test]
fn what_is_merged_at_once_is_cut_until_lines_wait() {
    let n = 20_000;
    for n_lines in [5_000u32, 12_000, 30_000] {
        let disk = empty();
        let held = store(&disk, 32 * SOME).unwrap();
        feed(&held, 0..n, "first");
        let mut draws = Draws::new(Seed(7).derive("cut", 0));
        for round in 0..6 {
            feed(&held, (0..n_lines).map(|_| draws.below(n)), &format!("{round}"));
        }
        let waiting = held.snapshot().n_waiting();
        assert!(waiting > u64::from(n_lines), "{waiting} of {n_lines} a time wait");
    }
}

/// Many lines of one customer, and what is too much to be known.
#[test]
fn a_customer_of_very_many_lines_is_one_of_many() {
    let disk = empty();
    let held = store(&disk, SOME).unwrap();
    let mut draws = Draws::new(Seed(6).derive("hot", 0));
    let mut n = 0;
    for round in 0..150 {
        let mut batch = Batch::default();
        for number in 0..200 {
            let id = format!("{round} {number}");
            line(&mut batch, "hot", "1", (number % 3 > 0).then_some(id.as_str()));
        }
        for number in 0..20 {
            let customer = format!("customer {}", draws.below(500));
            line(&mut batch, &customer, "1", Some(&format!("{round} {number}")));
        }
        let outcomes = held.append(&batch, None).unwrap();
        assert!(outcomes.iter().all(|&outcome| outcome == Outcome::Accepted));
        n += 200;
        let mut batch = Batch::default();
        let again = draws.below(round + 1);
        line(&mut batch, "hot", "1", Some(&format!("{again} 1")));
        assert_eq!(held.append(&batch, None).unwrap(), [Outcome::Duplicate]);
    }
    let hot = held.snapshot().history("hot", &rules(), None).unwrap().unwrap();
    assert_eq!(hot.events().len(), n);
    assert_eq!(held.check().unwrap().faults, [""; 0]);
}
