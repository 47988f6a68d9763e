//! Disks that are full, fail to sync or write half of what they are given: the caller is told, and
//! once the disk is well again the store goes on with all that was acknowledged.

use super::disk::{Disk, Failing, Fault, Survives};
use super::model::{Content, Model};
use super::workload::{Step, go, workload};
use super::{CRAMPED, LARGE, OnDisk, ROOMY, StoreError, empty, rules, store};
use habitus_engine::domain::{Draws, Seed};
use redb::StorageBackend;

const KINDS: [Failing; 4] = [Failing::Full, Failing::Short, Failing::Sync, Failing::Everything];

/// Workloads; in the small part each operation of them fails once in each way.
const ATTEMPTS: u64 = 1;
const ATTEMPTS_LARGE: u64 = 50;
const FAULTS_LARGE: u32 = 100;

fn fails(steps: &[Step], models: &[Content], fault: Fault, seed: Seed) {
    let what = || format!("{seed:?}, {fault:?}");
    let disk = empty();
    let mut draws = Draws::new(seed);
    let cache = if draws.chance(0.5) { ROOMY } else { CRAMPED };
    disk.fail(Some(fault));
    let mut n_sure = 0;
    match store(&disk, cache) {
        Err(error) => assert_is_told(&error, &what()),
        Ok(held) => {
            let mut well = true;
            for step in steps {
                match go(&held, step) {
                    Ok(_) if well => n_sure += 1,
                    Ok(_) => panic!("{}: acknowledged after a fault", what()),
                    Err(error) => {
                        assert_is_told(&error, &what());
                        well = false;
                    }
                }
            }
            match Content::of(&held, &rules()) {
                Ok(content) => assert_eq!(content, models[n_sure], "{}", what()),
                Err(error) => assert_is_told(&error, &what()),
            }
        }
    }
    disk.fail(None);
    // Either the process is started again, or the machine.
    let survives = [Survives::Nothing, Survives::Some, Survives::Torn];
    let disk = if draws.chance(0.5) {
        disk
    } else {
        let survives = survives[draws.below(3) as usize];
        Disk::of(disk.cut(usize::MAX, survives, seed.derive("cut", 0)))
    };
    let held = store(&disk, cache).unwrap_or_else(|error| panic!("{}: {error:?}", what()));
    let content = Content::of(&held, &rules()).unwrap();
    let reached = (n_sure..models.len().min(n_sure + 2)).find(|&n| models[n] == content);
    let reached = reached.unwrap_or_else(|| panic!("{}: {n_sure}, {content:?}", what()));
    steps[reached..].iter().for_each(|step| drop(go(&held, step).unwrap()));
    assert_eq!(Some(&Content::of(&held, &rules()).unwrap()), models.last(), "{}", what());
    let image = disk.cut(usize::MAX, Survives::Torn, seed.derive("cut", 1));
    let held = store(&Disk::of(image), cache).unwrap();
    assert_eq!(Some(&Content::of(&held, &rules()).unwrap()), models.last(), "{}", what());
    assert_eq!(held.check().unwrap().faults, [""; 0], "{}", what());
}

/// What is wrong is the disk, and not what lies on it.
fn assert_is_told(error: &StoreError, what: &str) {
    assert!(matches!(error, StoreError::Database(_) | StoreError::Closed), "{what}: {error:?}");
}

fn prepared(seed: Seed, n_steps: usize, most: u32) -> (Vec<Step>, Vec<Content>, usize) {
    let steps = workload(seed, n_steps, most);
    let models = Model::all(&steps).iter().map(Model::content).collect();
    let disk = empty();
    let held = store(&disk, ROOMY).unwrap();
    steps.iter().for_each(|step| drop(go(&held, step).unwrap()));
    drop(held);
    (steps, models, disk.n_operations())
}

#[test]
fn a_failing_disk_is_told_and_loses_nothing() {
    for seed in (0..ATTEMPTS).map(Seed) {
        let (steps, models, n_operations) = prepared(seed, 4, 30);
        for at in 0..n_operations {
            for what in KINDS {
                fails(&steps, &models, Fault { at, what }, seed.derive("at", at as u64));
            }
        }
    }
}

/// What a disk says of a sync that was begun while a commit was written, it says once.
#[test]
fn a_sync_that_fails_ahead_is_told() {
    for n_writes in [8, 64] {
        let disk = Disk::default();
        disk.fail(Some(Fault { at: 0, what: Failing::Sync }));
        let file = OnDisk::new(disk.clone());
        let page = [7; 4096];
        // Of writes nobody may be told: redb forgets what some of them say.
        (0..n_writes).for_each(|number| file.write(number * 4096, &page).unwrap());
        assert!(file.sync_data().is_err());
        assert!(file.sync_data().is_ok());
        assert!(disk.n_operations() >= n_writes as usize + 2);
    }
}

#[test]
#[ignore = "large; see docs/reliability.md"]
fn a_failing_disk_loses_nothing_large() {
    for seed in (LARGE..LARGE + ATTEMPTS_LARGE).map(Seed) {
        let (steps, models, n_operations) = prepared(seed, 16, 120);
        let mut draws = Draws::new(seed.derive("faults", 0));
        for number in 0..FAULTS_LARGE {
            let at = draws.below(n_operations as u32) as usize;
            let what = KINDS[draws.below(4) as usize];
            fails(&steps, &models, Fault { at, what }, seed.derive("at", u64::from(number)));
        }
    }
}
