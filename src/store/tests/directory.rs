//! A store in a real directory: who may hold it, what a dead process leaves there, and the store
//! written anew.

use super::super::maintenance::rewrite;
use super::super::{Batch, FILE, Kept, UNFINISHED};
use super::disk::{Disk, Survives};
use super::model::{Content, Model};
use super::workload::{Step, go, workload};
use super::{CRAMPED, ROOMY, Settings, Store, StoreError, database, empty, rules, settings, store};
use habitus_engine::domain::{RawEvent, RawValue, Seed, Timestamp};
use std::fs;
use std::path::Path;

/// The beginning of a day.
const NOW: Timestamp = Timestamp(11_574 * 86_400_000);

fn filled(directory: &Path, steps: &[Step]) -> Store {
    let held = Store::open_or_create(directory, &settings(ROOMY)).unwrap();
    steps.iter().for_each(|step| drop(go(&held, step).unwrap()));
    held
}

fn content(steps: &[Step]) -> Content {
    Model::all(steps).last().unwrap().content()
}

#[test]
fn one_process_at_a_time_holds_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Store::open(directory.path(), &settings(ROOMY));
    assert!(matches!(missing, Err(StoreError::Missing { .. })));
    let inner = directory.path().join("a").join("b");
    let held = Store::open_or_create(&inner, &settings(ROOMY)).unwrap();
    for again in [Store::open, Store::open_or_create] {
        assert!(matches!(again(&inner, &settings(ROOMY)), Err(StoreError::InUse { .. })));
    }
    let held = held.compact(NOW).unwrap();
    assert!(matches!(Store::open(&inner, &settings(ROOMY)), Err(StoreError::InUse { .. })));
    drop(held);
    Store::open(&inner, &settings(ROOMY)).unwrap();
}

#[test]
fn a_file_that_is_no_store_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE);
    for bytes in [&b""[..], b"r", b"redb", &[0; 5_000], &[0xff; 5_000]] {
        fs::write(&file, bytes).unwrap();
        for open in [Store::open, Store::open_or_create] {
            let refused = open(directory.path(), &settings(ROOMY));
            assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{:?}", refused.err());
            assert_eq!(fs::read(&file).unwrap(), bytes);
        }
    }
}

/// What a process left that died while it made a store, or wrote one anew.
#[test]
fn what_was_half_written_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let steps = workload(Seed(2), 8, 60);
    fs::write(path.join(UNFINISHED), [1; 10_000]).unwrap();
    let held = filled(path, &steps);
    assert!(!path.join(UNFINISHED).exists());
    drop(held);
    let whole = fs::read(path.join(FILE)).unwrap();
    for end in [0, 1, 320, 4_096, 100_000, whole.len() - 1, whole.len()] {
        fs::write(path.join(UNFINISHED), &whole[..end]).unwrap();
        let held = Store::open(path, &settings(ROOMY)).unwrap();
        assert!(!path.join(UNFINISHED).exists());
        assert_eq!(Content::of(&held, &rules()).unwrap(), content(&steps));
        fs::write(path.join(UNFINISHED), &whole[..end]).unwrap();
        let held = held.compact(NOW).unwrap();
        assert_eq!(Content::of(&held, &rules()).unwrap(), content(&steps));
        assert!(!path.join(UNFINISHED).exists());
        assert_eq!(held.check().unwrap().faults, [""; 0]);
    }
}

/// The new file gets its name when all of it is durable.
#[test]
fn a_store_written_anew_is_whole_before_it_takes_the_place_of_the_old_one() {
    for seed in (0..10).map(Seed) {
        let steps = workload(seed, 10, 120);
        let held = store(&empty(), CRAMPED).unwrap();
        steps.iter().for_each(|step| drop(go(&held, step).unwrap()));
        let disk = Disk::of(Vec::new());
        let new = database(&disk, CRAMPED).unwrap();
        new.writing(|| rewrite(held.database.get()?, new.get()?, None)).unwrap();
        drop(new);
        let durable = disk.cut(usize::MAX, Survives::Nothing, seed);
        assert!(durable == disk.image());
        let new = store(&Disk::of(durable), ROOMY).unwrap();
        assert_eq!(Content::of(&new, &rules()).unwrap(), content(&steps), "{seed:?}");
        assert_eq!(new.check().unwrap().faults, [""; 0]);
    }
}

#[test]
fn a_store_written_anew_leaves_nothing_of_the_erased_and_of_what_is_too_old() {
    let directory = tempfile::tempdir().unwrap();
    let kept = Settings { retention_days: Some(10), ..settings(ROOMY) };
    let held = Store::open_or_create(directory.path(), &kept).unwrap();
    let mut batch = Batch::default();
    for day in 0..30 {
        let at = Timestamp(NOW.0 - day * 86_400_000);
        for customer in ["stays", "erased"] {
            let item = format!("{customer} bought item {day:02}.");
            let raw = RawEvent {
                time: Some(RawValue::Instant(at.0)),
                amount: Some("1".into()),
                item: Some(item.as_str().into()),
                ..RawEvent::default()
            };
            batch.line(customer, &raw, at);
        }
    }
    held.append(&batch, None).unwrap();
    held.erase("erased", NOW).unwrap();
    let held = held.compact(NOW).unwrap();
    let sequence = held.snapshot().sequence();
    assert_eq!(held.snapshot().n_lines(), 11);
    assert_eq!(held.snapshot().kept_from(), Some(Timestamp(NOW.0 - 10 * 86_400_000)));
    // The clock is put back: what may be gone stays told.
    let held = held.compact(Timestamp(0)).unwrap();
    assert_eq!(held.kept_from(Timestamp(0)), Some(Timestamp(NOW.0 - 10 * 86_400_000)));
    let mut batch = Batch::default();
    batch.line("erased", &RawEvent::default(), NOW);
    assert_eq!(held.append(&batch, None).unwrap(), [super::super::Outcome::Erased]);
    assert_eq!(held.snapshot().sequence(), sequence);
    let mut n_lines = 0;
    let count = |_: &str, _: Kept<'_>| -> Result<(), StoreError> {
        n_lines += 1;
        Ok(())
    };
    held.snapshot().each(count).unwrap();
    assert_eq!((n_lines, held.snapshot().n_customers()), (11, 1));
    drop(held);
    let bytes = fs::read(directory.path().join(FILE)).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("stays bought item 10."));
    assert!(!text.contains("erased") && !text.contains("item 11."));
}

/// Where the disk fails while the store is written anew, the old one stays.
#[test]
fn a_store_that_cannot_be_written_anew_stays_as_it_was() {
    use super::disk::{Failing, Fault};
    let steps = workload(Seed(4), 8, 60);
    let old = empty();
    let held = store(&old, ROOMY).unwrap();
    steps.iter().for_each(|step| drop(go(&held, step).unwrap()));
    for at in 0..60 {
        let disk = Disk::of(Vec::new());
        disk.fail(Some(Fault { at, what: Failing::Full }));
        let new = database(&disk, ROOMY).and_then(|new| {
            new.writing(|| rewrite(held.database.get()?, new.get()?, None))?;
            Ok(new)
        });
        if let Err(error) = new {
            assert!(matches!(error, StoreError::Database(_) | StoreError::Closed), "{error:?}");
        }
        assert_eq!(Content::of(&held, &rules()).unwrap(), content(&steps));
    }
}
