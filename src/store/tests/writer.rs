//! Many callers, one commit: each hears of its own records.

use super::super::{Batch, Outcome, Writer};
use super::disk::{Failing, Fault};
use super::model::{Content, Model};
use super::workload::{Step, batch, workload};
use super::{ROOMY, empty, rules, store};
use habitus_engine::domain::{RawEvent, Seed, Timestamp};
use std::sync::{Arc, mpsc};
use std::thread;

/// The appends of a workload, of customers that only this caller has.
fn own_steps(caller: u64) -> Vec<Step> {
    let appends = workload(Seed(caller), 10, 20).into_iter().filter_map(|step| match step {
        Step::Append(records, _) => {
            let records = records.into_iter();
            let own = records.map(|(id, record)| (format!("{caller} {id}"), record)).collect();
            Some(Step::Append(own, None))
        }
        Step::Erase(..) => None,
    });
    appends.collect()
}

#[test]
fn each_caller_hears_of_its_own_records() {
    let held = Arc::new(store(&empty(), ROOMY).unwrap());
    let writer = Writer::start(Arc::clone(&held)).unwrap();
    thread::scope(|scope| {
        for caller in 0..8 {
            let writer = &writer;
            scope.spawn(move || {
                let (sender, receiver) = mpsc::channel();
                let mut model = Model::default();
                let mut expected = Vec::new();
                for step in own_steps(caller) {
                    expected.push(model.go(&step));
                    let Step::Append(records, _) = &step else { continue };
                    let sender = sender.clone();
                    writer.submit(batch(records), move |done| sender.send(done).unwrap());
                }
                drop(sender);
                let heard: Vec<Vec<Outcome>> = receiver.iter().map(Result::unwrap).collect();
                assert_eq!(heard, expected, "caller {caller}");
            });
        }
    });
    let mut model = Model::default();
    (0..8).flat_map(own_steps).for_each(|step| drop(model.go(&step)));
    assert_eq!(Content::of(&held, &rules()).unwrap().customers, model.content().customers);
}

fn one(id: u32) -> Batch {
    let mut batch = Batch::default();
    let amount = id.to_string();
    let raw = RawEvent {
        time: Some("2000-01-01".into()),
        amount: Some(amount.as_str().into()),
        ..RawEvent::default()
    };
    batch.line("a", &raw, Timestamp(0));
    batch
}

#[test]
fn what_waits_is_committed_when_the_writer_ends() {
    let held = Arc::new(store(&empty(), ROOMY).unwrap());
    let writer = Writer::start(Arc::clone(&held)).unwrap();
    let (sender, receiver) = mpsc::channel();
    for id in 0..500 {
        let sender = sender.clone();
        writer.submit(one(id), move |done| sender.send((id, done.is_ok())).unwrap());
    }
    drop((writer, sender));
    assert!(receiver.iter().eq((0..500).map(|id| (id, true))));
    assert_eq!(held.snapshot().n_lines(), 500);
}

#[test]
fn every_caller_hears_of_a_failing_disk() {
    let disk = empty();
    let held = Arc::new(store(&disk, ROOMY).unwrap());
    let writer = Writer::start(Arc::clone(&held)).unwrap();
    disk.fail(Some(Fault { at: disk.n_operations() + 100, what: Failing::Full }));
    let (sender, receiver) = mpsc::channel();
    for id in 0..200 {
        let sender = sender.clone();
        writer.submit(one(id), move |done| sender.send(done).unwrap());
        // So that there is more than one commit.
        while id % 10 == 0 && held.snapshot().n_lines() < u64::from(id / 2) && !held.has_failed() {
            thread::yield_now();
        }
    }
    drop((writer, sender));
    let heard: Vec<_> = receiver.iter().collect();
    let n_acknowledged = heard.iter().filter(|done| done.is_ok()).count();
    assert_eq!(heard.len(), 200);
    assert!(heard[n_acknowledged..].iter().all(Result::is_err), "acknowledged after a fault");
    drop(held);
    disk.fail(None);
    let n_kept = store(&disk, ROOMY).unwrap().snapshot().n_lines();
    assert!(n_kept >= n_acknowledged as u64, "{n_kept} of {n_acknowledged}");
}
