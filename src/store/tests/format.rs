//! Stores of earlier programs open, and those of later ones are refused by name.

use super::super::guard::guarded;
use super::super::tables::{HEADS, JOURNAL, META};
use super::super::{About, FILE, FORMAT, SourceProgress};
use super::disk::Disk;
use super::model::{Content, Model};
use super::workload::{Line, Record, Step, go};
use super::{ROOMY, Store, StoreError, database, empty, rules, settings, store};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use habitus_engine::domain::{AttributeValue, Label, Timestamp};
use redb::{ReadableDatabase, ReadableTable};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

/// Stores of each format that hold [`known`] and were closed. They are never made anew:
/// [`write_sample`] has made them. From format 2 on lines wait in them.
const SAMPLES: [&[u8]; 5] = [
    include_bytes!("format1.redb.gz"),
    include_bytes!("format2.redb.gz"),
    include_bytes!("format3.redb.gz"),
    include_bytes!("format4.redb.gz"),
    include_bytes!("format5.redb.gz"),
];

fn line(at: i64, time: Option<&str>, item: &str, amount: &str) -> Line {
    let (time, item) = (time.map(str::to_owned), item.to_owned());
    Line { at, time, amount: amount.into(), kind: None, item, order: None, id: None }
}

/// Something of everything that a store may hold.
fn known() -> Vec<Step> {
    let mut records: Vec<(String, Record)> = Vec::new();
    let day = 86_400_000;
    for number in 0..400 {
        let item = format!("item {} of a customer of many lines", number * 7 % 64);
        let mut line = line(number * day / 3, None, &item, &format!("{number}.5"));
        line.order = (number % 5 == 0).then(|| format!("order {}", number / 10));
        line.id = (number % 2 == 0).then(|| format!("{number}"));
        records.push(("many".into(), Record::Line(line)));
    }
    let times = ["2011-12-09 12:50:00", "2011-12-09T12:50:00Z", "2011-12-09", "12/9/2011", ""];
    for time in times {
        records.push(("é".into(), Record::Line(line(0, Some(time), "tea & cake", "12.50"))));
    }
    let refund = Line { kind: Some("refund"), ..line(5, None, "85123A", "-1e1") };
    records.push(("é".into(), Record::Line(refund)));
    records.push(("gone".into(), Record::Line(line(9, None, "secret", "1"))));
    let about = About {
        registered: Some(Timestamp(7)),
        opted_out: Some(false),
        label: Some(Label { churned: true, at: Some(Timestamp(8)) }),
        values: vec![
            ("age".into(), AttributeValue::Number(41.5)),
            ("region".into(), AttributeValue::Category("north".into())),
        ],
    };
    records.push(("é".into(), Record::About(about)));
    let later = About { opted_out: Some(true), ..About::default() };
    let source = SourceProgress { digest: "f00d".into(), rows: 407, finished: true };
    vec![
        Step::Append(records, Some(source)),
        Step::Erase("gone".into(), Timestamp(10)),
        Step::Append(vec![("told".into(), Record::About(later))], None),
    ]
}

fn sample(format: usize) -> Vec<u8> {
    let mut image = Vec::new();
    GzDecoder::new(SAMPLES[format - 1]).read_to_end(&mut image).unwrap();
    image
}

#[test]
fn stores_of_all_formats_open() {
    (1..=SAMPLES.len()).for_each(opens);
}

fn opens(format: usize) {
    let sample = || sample(format);
    let expected = Model::all(&known()).last().unwrap().content();
    let mut content = Content::of(&store(&Disk::of(sample()), ROOMY).unwrap(), &rules()).unwrap();
    // A model knows all customers of workloads, and this one is not of them.
    content.erased.insert("gone".into(), Timestamp(10));
    assert_eq!(content, expected);

    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(FILE), sample()).unwrap();
    let held = Store::open(directory.path(), &settings(ROOMY)).unwrap();
    assert_eq!(held.erased_at("gone").unwrap(), Some(Timestamp(10)));
    let snapshot = held.snapshot();
    assert_eq!(snapshot.n_waiting(), if format == 1 { 0 } else { expected.n_lines });
    let many = snapshot.history("many", &rules(), None).unwrap().unwrap();
    // Of each of 40 orders two lines are one event.
    assert_eq!(many.events().len(), 360);
    let amounts = many.events().iter().filter_map(|event| event.amount);
    assert_eq!(
        amounts.map(|amount| amount.0).sum::<i64>(),
        (0..400).map(|n| n * 100 + 50).sum::<i64>()
    );
    let some = snapshot.history("é", &rules(), None).unwrap().unwrap();
    assert_eq!(some.events().len(), 4);
    assert_eq!(some.attributes().unwrap().category("region"), Some("north"));
    assert!(snapshot.history("told", &rules(), None).unwrap().unwrap().opted_out());
    assert_eq!(snapshot.history("gone", &rules(), None).unwrap(), None);
    drop(snapshot);
    assert_eq!(held.stats().unwrap().format, FORMAT);
    assert_eq!(held.check().unwrap().faults, [""; 0]);
}

#[test]
fn a_store_of_before_there_were_ids_gets_one_and_keeps_it() {
    let directories = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let ids = directories.each_ref().map(|directory| {
        fs::write(directory.path().join(FILE), sample(1)).unwrap();
        let open = || Store::open(directory.path(), &settings(ROOMY)).unwrap();
        let held = open();
        let (id, sequence) = (held.id(), held.snapshot().sequence());
        let step = Step::Erase("told".into(), Timestamp(11));
        go(&held, &step).unwrap();
        let held = held.compact(Timestamp(0)).unwrap();
        assert_eq!((held.id(), held.snapshot().sequence()), (id.clone(), sequence + 1));
        drop(held);
        let held = open();
        assert_eq!((held.id(), held.stats().unwrap().id), (id.clone(), id.clone()));
        id
    });
    assert_ne!(ids[0], ids[1]);
}

/// A change that other programs could not read needs a number of its own. Where a chunk ends is no
/// such change, so the customer of many chunks is left out.
#[test]
fn what_is_written_today_is_of_the_format_of_the_sample() {
    // So little memory that nothing waits.
    let held = store(&empty(), 64).unwrap();
    known().iter().for_each(|step| drop(go(&held, step).unwrap()));
    let then = store(&Disk::of(sample(1)), ROOMY).unwrap();
    let record = |held: &Store, customer: &str| {
        guarded(|| {
            let transaction = held.database.get()?.begin_read().unwrap();
            let heads = transaction.open_table(HEADS).unwrap();
            let found = heads.get(customer.as_bytes()).unwrap();
            Ok(found.map(|record| record.value().to_vec()))
        })
    };
    for customer in ["é", "told"] {
        let then = record(&then, customer).unwrap();
        assert!(then.is_some());
        assert_eq!(record(&held, customer).unwrap(), then, "{customer}, format {FORMAT}");
    }
}

/// What waits is written as it was, too.
#[test]
fn what_waits_today_is_of_the_format_of_the_sample() {
    let held = store(&empty(), ROOMY).unwrap();
    known().iter().for_each(|step| drop(go(&held, step).unwrap()));
    let then = store(&Disk::of(sample(SAMPLES.len())), ROOMY).unwrap();
    let [now, then] = [held, then].map(|held| {
        let transaction = held.database.get().unwrap().begin_read().unwrap();
        let journal = transaction.open_table(JOURNAL).unwrap();
        let entries = journal.iter().unwrap().map(Result::unwrap);
        entries.map(|(key, part)| (key.value(), part.value().to_vec())).collect::<Vec<_>>()
    });
    assert!(!then.is_empty());
    assert!(now == then, "format {FORMAT}");
}

#[test]
fn a_store_of_a_later_format_is_refused() {
    for format in [FORMAT as i64 + 1, i64::MAX] {
        let disk = empty();
        let database = database(&disk, ROOMY).unwrap();
        let set = database.writing(|| {
            let transaction = super::super::begin(database.get()?)?;
            transaction.open_table(META).unwrap().insert("format", format).unwrap();
            transaction.commit().map_err(StoreError::of)
        });
        set.unwrap();
        drop(database);
        let refused = store(&disk, ROOMY).err();
        let named = |found| found == format as u64;
        assert!(matches!(refused, Some(StoreError::Format { found, .. }) if named(found)));
    }
}

/// Makes the sample of the present format, for the day on which there is another.
#[test]
#[ignore = "writes a file of the repository"]
fn write_sample() {
    let disk = empty();
    let held = store(&disk, ROOMY).unwrap();
    known().iter().for_each(|step| drop(go(&held, step).unwrap()));
    drop(held);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/tests");
    let file = File::create_new(folder.join(format!("format{FORMAT}.redb.gz"))).unwrap();
    let mut packed = GzEncoder::new(file, Compression::best());
    packed.write_all(&disk.image()).unwrap();
    packed.finish().unwrap();
}
