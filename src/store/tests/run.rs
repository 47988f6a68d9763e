//! The sorted run: what waits on the disk is read, erased, found damaged and put into records as the
//! rest is.

use super::super::tables::{META, Meta, RUN};
use super::super::{Batch, Outcome, Store, StoreError};
use super::disk::Disk;
use super::waiting::{change, feed, line, place_of};
use super::{ROOMY, empty, rules, store};
use habitus_engine::domain::{Draws, Seed, Timestamp};
use redb::{ReadableDatabase, ReadableTable, Value};

/// Customers of the samples.
const N: u32 = 3_000;

/// So little memory that most lines cannot wait in it.
const LITTLE: usize = 256 << 10;

/// How many lines are in the sorted run.
pub(super) fn n_sorted(held: &Store) -> u64 {
    let transaction = held.database.get().unwrap().begin_read().unwrap();
    Meta::read(&transaction.open_table(META).unwrap()).unwrap().unwrap().in_run
}

/// A store of customers with records, of whom further lines wait in the sorted run, and how many lines
/// there are of each.
fn sample() -> (Disk, Store, Vec<usize>) {
    let disk = empty();
    let held = store(&disk, LITTLE).unwrap();
    feed(&held, 0..N, "first");
    held.settle().unwrap();
    assert_eq!(n_sorted(&held), 0);
    let mut draws = Draws::new(Seed(11).derive("run", 0));
    let mut n_lines = vec![1; N as usize];
    for round in 0..40 {
        let some: Vec<u32> = (0..300).map(|_| draws.below(N)).collect();
        let outcomes = feed(&held, some.iter().copied(), &format!("round {round}"));
        for (customer, outcome) in some.into_iter().zip(outcomes) {
            n_lines[customer as usize] += usize::from(outcome == Outcome::Accepted);
        }
    }
    assert!(n_sorted(&held) > 3_000, "{} are in the run", n_sorted(&held));
    (disk, held, n_lines)
}

fn id(customer: usize) -> String {
    format!("c{customer:06}")
}

/// How many events there are of somebody; `None` of who cannot be read.
fn n_events(held: &Store, customer: usize) -> Option<usize> {
    match held.snapshot().history(&id(customer), &rules(), None) {
        Ok(history) => Some(history.map_or(0, |history| history.events().len())),
        Err(StoreError::DamagedRecord { customer: named }) if named == id(customer) => None,
        Err(error) => panic!("{error}"),
    }
}

/// The block in which a customer's lines are, and where in it their id stands.
fn block_of(held: &Store, customer: &str) -> Option<(Vec<u8>, usize)> {
    let transaction = held.database.get().unwrap().begin_read().unwrap();
    let blocks = transaction.open_table(RUN).unwrap();
    blocks.iter().unwrap().find_map(|entry| {
        let (key, block) = entry.unwrap();
        let at = place_of(block.value(), customer.as_bytes())?;
        Some((<(&[u8], &[u8])>::as_bytes(&key.value()), at))
    })
}

fn all_right(held: &Store, n_lines: &[usize]) -> bool {
    (0..N as usize).all(|customer| n_events(held, customer) == Some(n_lines[customer]))
}

#[test]
fn what_waits_on_the_disk_is_part_of_each_history() {
    let (disk, held, mut n_lines) = sample();
    assert!(all_right(&held, &n_lines));
    // Ids that are there are told to be, whether their lines are in records, in the run or in memory.
    for id in ["first", "round 0", "round 20", "round 39"] {
        let outcomes = feed(&held, 0..N, id);
        for (n, outcome) in n_lines.iter_mut().zip(outcomes) {
            *n += usize::from(outcome == Outcome::Accepted);
        }
        assert!(all_right(&held, &n_lines));
        let outcomes = feed(&held, 0..N, id);
        assert!(outcomes.iter().all(|&outcome| outcome == Outcome::Duplicate), "{id}");
    }
    held.settle().unwrap();
    assert_eq!((n_sorted(&held), held.snapshot().n_waiting()), (0, 0));
    assert!(all_right(&held, &n_lines));
    drop(held);
    assert_eq!(store(&disk, ROOMY).unwrap().check().unwrap().faults, [""; 0]);
}

#[test]
fn a_damaged_line_on_the_disk_is_one_customers() {
    let (disk, held, n_lines) = sample();
    // Somebody of whom an id of a later round is in the run.
    let hurt = (0..N as usize).find(|&customer| block_of(&held, &id(customer)).is_some()).unwrap();
    let (key, _) = block_of(&held, &id(hurt)).unwrap();
    change(&held, RUN, |other, block| {
        if other == key {
            // The first line of the block is of its first customer.
            let at = place_of(block, b"round").unwrap();
            block[at] ^= 1;
        }
    });
    drop(held);
    let held = store(&disk, LITTLE).unwrap();
    let damaged: Vec<usize> =
        (0..N as usize).filter(|&customer| n_events(&held, customer).is_none()).collect();
    assert_eq!(damaged, [hurt]);
    assert!((0..N as usize).all(|one| one == hurt || n_events(&held, one) == Some(n_lines[one])));
    assert_eq!(feed(&held, [hurt as u32].into_iter(), "more"), [Outcome::Damaged]);
    held.settle().unwrap();
    assert!((0..N as usize).all(|one| one == hurt || n_events(&held, one) == Some(n_lines[one])));
    assert_eq!(n_events(&held, hurt), None);
    let erased = held.erase(&id(hurt), Timestamp(1)).unwrap();
    assert_eq!(erased.n_lines, n_lines[hurt] as u64);
    assert_eq!(held.check().unwrap().faults, [""; 0]);
}

/// Whose lines a block holds is written twice. Where both are damaged nobody knows, and everybody of whom
/// it may have lines is damaged until it is whole again.
#[test]
fn a_block_of_which_nobody_knows_whose_lines_it_has_is_passed_over_by_none() {
    let (disk, held, n_lines) = sample();
    let one = (N as usize / 2..).find(|&one| block_of(&held, &id(one)).is_some()).unwrap();
    let (key, in_front) = block_of(&held, &id(one)).unwrap();
    let flip = |held: &Store, places: [bool; 2]| {
        change(held, RUN, |other, block| {
            let behind = block.len() - 20;
            for (place, is_flipped) in [in_front, behind].into_iter().zip(places) {
                block[place] ^= u8::from(is_flipped && *other == *key);
            }
        });
    };
    let reopened = |held: Store| {
        drop(held);
        store(&disk, LITTLE).unwrap()
    };
    flip(&held, [true, false]);
    let held = reopened(held);
    assert!(all_right(&held, &n_lines));
    flip(&held, [true, true]);
    let held = reopened(held);
    assert!(all_right(&held, &n_lines));
    flip(&held, [true, false]);
    let held = reopened(held);
    let is_lost = |customer: &usize| n_events(&held, *customer).is_none();
    let lost: Vec<usize> = (0..N as usize).filter(is_lost).collect();
    assert!(lost.contains(&one) && lost.len() < N as usize / 4, "{} are lost", lost.len());
    let outcomes = feed(&held, [one as u32, 0].into_iter(), "more");
    assert_eq!(outcomes, [Outcome::Damaged, Outcome::Accepted]);
    let refused = held.erase(&id(one), Timestamp(1)).unwrap_err().to_string();
    assert!(refused.contains(&id(one)), "{refused}");
    held.settle().unwrap();
    assert!(n_sorted(&held) > 0);
    assert!((1..N as usize).all(|customer| {
        lost.contains(&customer) || n_events(&held, customer) == Some(n_lines[customer])
    }));
    // With the block nothing of it is lost.
    flip(&held, [true, false]);
    let held = reopened(held);
    held.settle().unwrap();
    let mut n_lines = n_lines;
    n_lines[0] += 1;
    assert!(all_right(&held, &n_lines));
    assert_eq!((n_sorted(&held), held.check().unwrap().faults), (0, Vec::new()));
}

#[test]
fn nothing_of_the_erased_is_left_in_the_run() {
    let (_, held, n_lines) = sample();
    let gone = (1_000..N as usize).find(|&one| block_of(&held, &id(one)).is_some()).unwrap();
    let erased = held.erase(&id(gone), Timestamp(1)).unwrap();
    assert_eq!((erased.was_known, erased.n_lines), (true, n_lines[gone] as u64));
    assert_eq!(block_of(&held, &id(gone)), None);
    assert_eq!(n_events(&held, gone), Some(0));
    let mut batch = Batch::default();
    line(&mut batch, &id(gone), "1", Some("again"));
    assert_eq!(held.append(&batch, None).unwrap(), [Outcome::Erased]);
    assert_eq!(held.check().unwrap().faults, [""; 0]);
}
