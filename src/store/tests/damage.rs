//! Files that were cut short or of which bits were flipped: whoever opens, reads or checks the store
//! is told, or the answers are right.

use super::disk::Disk;
use super::model::{Content, Model};
use super::workload::{CUSTOMERS, go, workload};
use super::{CRAMPED, LARGE, ROOMY, Store, StoreError, empty, rules, store};
use habitus_engine::domain::{Draws, History, Seed};
use std::collections::BTreeMap;

const FLIPS: u64 = 300;
const FLIPS_LARGE: u64 = 20_000;
const CUTS: u64 = 60;
const CUTS_LARGE: u64 = 3_000;

/// The bytes of redb's own header.
const HEADER: u32 = 320;

/// The bit of the header that says which of two commits is the newer one. Where the store was not
/// closed, the older one looks just like the last that was finished.
const NEWER: usize = 9 * 8;

/// How a fault of the file came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    /// Nothing is wrong that anybody could see.
    Right,
    /// Everything reads right, and the check knows better.
    Checked,
    /// The store does not open.
    AtOpening,
    /// A read, or a write, fails.
    AtReading,
    /// A read tells less, or something else; only the check finds it.
    OnlyByCheck,
    /// The last commit is missing, and nobody knows ([`NEWER`]).
    OneBack,
    /// Something beside the customers' records is wrong, and nobody knows, because the page that it
    /// is on was read for a write, and so written anew with a checksum of its own.
    Resealed,
}

/// A store's file, and what is in it.
struct Sample {
    image: Vec<u8>,
    content: Content,
    /// Before the last commit.
    before: Content,
    histories: BTreeMap<&'static str, Option<History>>,
}

/// A store that was closed in good order, or killed.
fn sample(seed: Seed, is_closed: bool, is_settled: bool) -> Sample {
    let disk = empty();
    let steps = workload(seed, 12, 150);
    let held = store(&disk, ROOMY).unwrap();
    steps.iter().for_each(|step| drop(go(&held, step).unwrap()));
    if is_settled {
        held.settle().unwrap();
        // By then the pages that it needs no more are free.
        (0..8).for_each(|_| held.begin().unwrap().commit().unwrap());
    }
    let snapshot = held.snapshot();
    let history = |id| (id, snapshot.history(id, &rules(), None).unwrap());
    let histories = CUSTOMERS.into_iter().map(history).collect();
    let models = Model::all(&steps);
    let [.., before, content] = models.as_slice() else { panic!("no steps") };
    let (before, content) = (before.content(), content.content());
    assert_eq!(Content::of(&held, &rules()).unwrap(), content);
    let killed = disk.image();
    drop(snapshot);
    drop(held);
    Sample { image: if is_closed { disk.image() } else { killed }, content, before, histories }
}

impl Sample {
    /// Opens, reads and checks a damaged image of the sample, and sees to it that nothing wrong
    /// passes unnoticed.
    fn look(&self, image: Vec<u8>, what: &str) -> Told {
        let held = match store(&Disk::of(image), CRAMPED) {
            Ok(held) => held,
            Err(error) => {
                assert_is_named(&error, what);
                return Told::AtOpening;
            }
        };
        let (mut is_told, mut is_wrong) = (false, false);
        let mut see = |seen: Result<bool, StoreError>| match seen {
            Ok(is_right) => is_wrong |= !is_right,
            Err(error) => {
                assert_is_named(&error, what);
                is_told = true;
            }
        };
        let (rules, snapshot) = (rules(), held.snapshot());
        for (id, expected) in &self.histories {
            see(snapshot.history(id, &rules, None).map(|history| history == *expected));
        }
        let expected = self.histories.values().flatten();
        let page = snapshot.page(None, usize::MAX, &rules, None);
        see(page.map(|page| {
            page.len() == expected.clone().count() && expected.clone().all(|one| page.contains(one))
        }));
        drop(snapshot);
        see(self.read_all(&held));
        let is_back = Content::of(&held, &rules).is_ok_and(|content| content == self.before);
        let check = held.check();
        let is_found = match check {
            Ok(checked) => checked.mended || !checked.faults.is_empty(),
            Err(error) => {
                assert_is_named(&error, what);
                true
            }
        };
        if is_wrong && !is_told && !is_found && is_back && what.ends_with("newer") {
            return Told::OneBack;
        }
        assert!(!is_wrong || is_told || is_found, "{what}: something wrong, and nobody knows");
        match (is_told, is_wrong, is_found) {
            (true, ..) => Told::AtReading,
            (_, true, _) => Told::OnlyByCheck,
            (_, _, true) => Told::Checked,
            _ => Told::Right,
        }
    }

    /// Whether all lines are there and no others, and the numbers beside them are right.
    fn read_all(&self, held: &Store) -> Result<bool, StoreError> {
        let mut n_lines = 0;
        held.snapshot().each(|_, kept| {
            n_lines += u64::from(matches!(kept, super::super::Kept::Line(_)));
            Ok::<(), StoreError>(())
        })?;
        let sources = held.sources()?.into_iter();
        let sources: BTreeMap<_, _> =
            sources.map(|known| (known.digest, (known.rows, known.finished))).collect();
        let mut is_right = n_lines == self.content.n_lines && sources == self.content.sources;
        for id in CUSTOMERS {
            is_right &= held.erased_at(id)? == self.content.erased.get(id).copied();
        }
        let snapshot = held.snapshot();
        Ok(is_right
            && snapshot.sequence() == self.content.sequence
            && snapshot.n_lines() == n_lines
            && snapshot.newest() == self.content.newest)
    }
}

fn assert_is_named(error: &StoreError, what: &str) {
    use StoreError::{Closed, Damaged, DamagedRecord, Database, Format};
    assert!(
        matches!(
            error,
            Damaged { .. } | DamagedRecord { .. } | Database(_) | Closed | Format { .. }
        ),
        "{what}: {error:?}"
    );
}

/// Flips a bit, mostly where something is written.
fn flipped(image: &[u8], draws: &mut Draws) -> (usize, Vec<u8>) {
    let written: Vec<usize> = (0..image.len()).filter(|&at| image[at] != 0).collect();
    let at = match draws.below(10) {
        0 => draws.below(HEADER) as usize,
        1 | 2 => draws.below(image.len() as u32) as usize,
        _ => written[draws.below(written.len() as u32) as usize],
    };
    let bit = at * 8 + draws.below(8) as usize;
    (bit, with_flip(image, bit))
}

fn named(bit: usize) -> String {
    if bit == NEWER { "newer".to_owned() } else { bit.to_string() }
}

fn with_flip(image: &[u8], bit: usize) -> Vec<u8> {
    let mut image = image.to_vec();
    image[bit / 8] ^= 1 << (bit % 8);
    image
}

fn flips(seeds: std::ops::Range<u64>, per_store: u64) {
    let mut told: BTreeMap<Told, u64> = BTreeMap::new();
    let mut kept = None;
    for seed in seeds {
        if seed % per_store == 0 || kept.is_none() {
            // Either all lines wait, or hardly any.
            let number = seed / per_store;
            let is_settled = number / 2 % 2 == 1;
            kept = Some(sample(Seed(number), number.is_multiple_of(2), is_settled));
        }
        let Some(sample) = &kept else { continue };
        let (bit, image) = flipped(&sample.image, &mut Draws::new(Seed(seed)));
        let what = format!("seed {seed}, bit {}", named(bit));
        *told.entry(sample.look(image, &what)).or_default() += 1;
    }
    println!("flipped bits: {told:?}");
}

#[test]
fn a_flipped_bit_is_told_or_does_nothing() {
    flips(0..FLIPS, 100);
}

#[test]
#[ignore = "large; see docs/reliability.md"]
fn a_flipped_bit_is_told_or_does_nothing_large() {
    flips(LARGE..LARGE + FLIPS_LARGE, 500);
}

#[test]
#[ignore = "large; see docs/reliability.md"]
fn every_bit_of_the_header_is_told_or_does_nothing_large() {
    for is_closed in [true, false] {
        let sample = sample(Seed(3), is_closed, false);
        let mut told: BTreeMap<Told, Vec<usize>> = BTreeMap::new();
        for bit in 0..HEADER as usize * 8 {
            let what = format!("closed {is_closed}, header bit {}", named(bit));
            told.entry(sample.look(with_flip(&sample.image, bit), &what)).or_default().push(bit);
        }
        let counts: Vec<_> = told.iter().map(|(told, bits)| (told, bits.len())).collect();
        println!("header, closed {is_closed}: {counts:?}");
    }
}

/// Who goes on writing to a damaged file is told, or nothing is lost but what the check finds.
fn writes(seeds: std::ops::Range<u64>, per_store: u64) {
    let mut told: BTreeMap<Told, u64> = BTreeMap::new();
    let mut kept = None;
    for seed in seeds {
        if seed % per_store == 0 || kept.is_none() {
            let steps = workload(Seed(seed / per_store), 15, 150);
            let models: Vec<_> = Model::all(&steps).iter().map(Model::content).collect();
            let number = seed / per_store;
            // No line waits: else redb frees nearly all pages at the first commits, and over a damaged
            // list of freed pages it ends the process.
            kept = Some((sample(Seed(number), number % 2 == 1, true), steps, models));
        }
        let Some((sample, steps, models)) = &kept else { continue };
        let (bit, image) = flipped(&sample.image, &mut Draws::new(Seed(seed)));
        let what = format!("seed {seed}, bit {}", named(bit));
        let came = match store(&Disk::of(image), CRAMPED) {
            Err(error) => {
                assert_is_named(&error, &what);
                Told::AtOpening
            }
            Ok(held) => {
                // The sample is what the first twelve steps made.
                let failed = steps[12..].iter().find_map(|step| go(&held, step).err());
                failed.iter().for_each(|error| assert_is_named(error, &what));
                let content = Content::of(&held, &rules());
                let is_right = content.as_ref().is_ok_and(|content| content == &models[15]);
                let is_told = failed.is_some() || content.is_err();
                let is_found = held
                    .check()
                    .map_or(true, |checked| checked.mended || !checked.faults.is_empty());
                let is_unknown = !is_right && !is_told && !is_found;
                if is_unknown && bit != NEWER {
                    let content = content.as_ref().unwrap();
                    assert!(is_as_told(content, &models[15]), "{what}: {content:?}");
                }
                match (is_told, is_right, is_found) {
                    (true, ..) => Told::AtReading,
                    (_, true, false) => Told::Right,
                    (_, true, true) => Told::Checked,
                    (_, false, true) => Told::OnlyByCheck,
                    _ if bit == NEWER => Told::OneBack,
                    _ => Told::Resealed,
                }
            }
        };
        *told.entry(came).or_default() += 1;
    }
    println!("written to after a flipped bit: {told:?}");
}

/// Whether all is there of every customer. Numbers, sources and tombstones have no checksum of their
/// own, and of a tombstone that is lost the customer may come back.
fn is_as_told(content: &Content, expected: &Content) -> bool {
    let is_back =
        |id: &String| expected.erased.contains_key(id) && !content.erased.contains_key(id);
    !content.is_odd
        && expected.customers.iter().all(|(id, known)| content.customers.get(id) == Some(known))
        && content.customers.keys().all(|id| expected.customers.contains_key(id) || is_back(id))
}

#[test]
fn a_damaged_file_that_is_written_to_is_told() {
    writes(0..FLIPS / 3, 50);
}

#[test]
#[ignore = "large; see docs/reliability.md"]
fn a_damaged_file_that_is_written_to_is_told_large() {
    writes(LARGE..LARGE + FLIPS_LARGE / 2, 500);
}

fn cuts(n: u64, base: u64) {
    let mut told: BTreeMap<Told, u64> = BTreeMap::new();
    for is_closed in [true, false] {
        let sample = sample(Seed(base), is_closed, false);
        let length = sample.image.len();
        let mut draws = Draws::new(Seed(base).derive("cuts", 0));
        let edges = [0, 1, 8, 9, 63, 64, 320, 4095, 4096, 4097, length - 4096, length - 1];
        let some = (0..n).map(|_| draws.below(length as u32) as usize);
        for end in edges.into_iter().chain(some) {
            let what = format!("cut to {end} of {length}");
            let came = sample.look(sample.image[..end].to_vec(), &what);
            *told.entry(came).or_default() += 1;
        }
    }
    println!("cut files: {told:?}");
}

#[test]
fn a_file_cut_short_is_told() {
    cuts(CUTS, 1);
}

#[test]
#[ignore = "large; see docs/reliability.md"]
fn a_file_cut_short_is_told_large() {
    cuts(CUTS_LARGE, LARGE);
}
