//! The power is cut, at any operation of the disk: what was acknowledged is there, and what was in
//! flight is there whole or not at all.

use super::disk::{Disk, Survives};
use super::model::{Content, Model};
use super::workload::{CUSTOMERS, Line, Record, Step, go, workload};
use super::{CRAMPED, LARGE, ROOMY, empty, rules, store};
use habitus_engine::domain::{Draws, Seed};

/// Workloads, and the cuts of each; every operation is walked over in the small part.
const ATTEMPTS: u64 = 4;
const ATTEMPTS_LARGE: u64 = 100;
const CUTS_LARGE: usize = 300;

const SURVIVORS: [Survives; 4] = [Survives::All, Survives::Nothing, Survives::Some, Survives::Torn];

/// A workload on a disk, and how many operations there were when each step was acknowledged.
fn run(disk: &Disk, steps: &[Step], cache: usize) -> Vec<usize> {
    let held = store(disk, cache).unwrap();
    let acknowledged = |step| {
        go(&held, step).unwrap();
        disk.n_operations()
    };
    steps.iter().map(acknowledged).collect()
}

/// Cuts the power and looks at what is left. A second cut may come while the store is opened again.
fn cut(disk: &Disk, at: usize, models: &[Content], acknowledged: &[usize], seed: Seed) {
    let mut draws = Draws::new(seed);
    let survives = SURVIVORS[draws.below(4) as usize];
    let n_sure = acknowledged.partition_point(|&done| done <= at);
    let what = || format!("{seed:?}, cut at {at}, {survives:?}, {n_sure} acknowledged");
    let mut image = disk.cut(at, survives, seed.derive("cut", 0));
    if draws.chance(0.3) {
        let again = Disk::of(image.clone());
        let held = store(&again, ROOMY).unwrap_or_else(|error| panic!("{}: {error:?}", what()));
        drop(held);
        let second = draws.below(again.n_operations() as u32 + 1) as usize;
        let survives = SURVIVORS[draws.below(4) as usize];
        image = again.cut(second, survives, seed.derive("cut", 1));
    }
    let left = Disk::of(image);
    let held = store(&left, ROOMY).unwrap_or_else(|error| panic!("{}: {error:?}", what()));
    let content = Content::of(&held, &rules()).unwrap();
    let possible = &models[n_sure..models.len().min(n_sure + 2)];
    assert!(possible.contains(&content), "{}: {content:?}", what());
    let checked = held.check().unwrap();
    assert_eq!(checked.faults, [""; 0], "{}", what());
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing() {
    for seed in (0..ATTEMPTS).map(Seed) {
        let disk = empty();
        let steps = workload(seed, 5, 30);
        let acknowledged =
            run(&disk, &steps, if seed.0.is_multiple_of(2) { ROOMY } else { CRAMPED });
        let models: Vec<Content> = Model::all(&steps).iter().map(Model::content).collect();
        for at in 0..=disk.n_operations() {
            cut(&disk, at, &models, &acknowledged, seed.derive("at", at as u64));
        }
    }
}

/// redb notes a new length in the first page and syncs both at once; [`super::super::file`] does not
/// leave it at that.
#[test]
fn a_power_cut_while_the_file_grows_loses_nothing() {
    let disk = empty();
    let mut steps = workload(Seed(11), 3, 30);
    for (number, customer) in CUSTOMERS.into_iter().take(4).enumerate() {
        let line = Line {
            at: number as i64,
            time: None,
            amount: "1".into(),
            kind: None,
            item: "long ".repeat(60_000) + "!",
            order: None,
            id: None,
        };
        steps.push(Step::Append(vec![(customer.to_owned(), Record::Line(line))], None));
    }
    let acknowledged = run(&disk, &steps, ROOMY);
    let models: Vec<Content> = Model::all(&steps).iter().map(Model::content).collect();
    let lengths = disk.lengths();
    assert!(lengths.len() > 1, "the file does not grow");
    for at in lengths {
        for number in 0..30 {
            cut(&disk, at, &models, &acknowledged, Seed(at as u64).derive("growing", number));
        }
    }
}

#[test]
#[ignore = "large; see docs/reliability.md"]
fn a_power_cut_loses_nothing_large() {
    let mut n = 0;
    for seed in (LARGE..LARGE + ATTEMPTS_LARGE).map(Seed) {
        let disk = empty();
        let steps = workload(seed, 30, 120);
        let acknowledged =
            run(&disk, &steps, if seed.0.is_multiple_of(2) { ROOMY } else { CRAMPED });
        let models: Vec<Content> = Model::all(&steps).iter().map(Model::content).collect();
        let mut draws = Draws::new(seed.derive("cuts", 0));
        for number in 0..CUTS_LARGE as u64 {
            let at = draws.below(disk.n_operations() as u32 + 1) as usize;
            cut(&disk, at, &models, &acknowledged, seed.derive("at", number));
            n += 1;
        }
    }
    println!("{n} power cuts");
}
