//! Which ranges a commit puts into the customers' records.

use super::memtable::bytes_of;
use super::{Journal, Ranges};
use crate::store::batch::{Batch, Seen};
use std::ops::Range;

/// A range is merged at once when a commit alone has so large a part of all that may wait for it, and
/// is cut where so much was merged.
const STEPS: u64 = 64;

/// About so many steps are merged by a commit whose callers wait, or twice what comes: with the last
/// range there may be more.
const STEPS_A_COMMIT: u64 = 4;

/// So many are where nobody waits.
const STEPS_AT_ONCE: u64 = 16;

/// The parts of the journal that are of several ranges hold at most such a part of what may wait. They
/// stay until none of their lines waits.
const MOST_SHARED: u64 = 2;

/// What may wait in one store, at most; a place in a memtable is a number of 32 bits.
const MOST_BYTES: u64 = 1 << 30;

/// The records of a batch by range.
pub struct Incoming {
    /// Where in the order of customers each range's begin and end; a range without any is not here.
    pub records: Vec<(usize, Range<usize>)>,
    /// What they would take if they waited.
    bytes: Vec<u64>,
}

impl Incoming {
    /// The records of a batch, in an order of customers.
    pub fn new(ranges: &Ranges, batch: &Batch, order: &[usize]) -> Incoming {
        let mut incoming = Incoming { records: Vec::new(), bytes: vec![0; ranges.all.len()] };
        let mut start = 0;
        while let Some(&first) = order.get(start) {
            let at = ranges.of(batch.customer(first));
            let rest = &order[start..];
            let n = match ranges.all.get(at + 1) {
                Some(next) => {
                    rest.partition_point(|&record| batch.key(record) < next.first.as_bytes())
                }
                None => rest.len(),
            };
            incoming.bytes[at] =
                rest[..n].iter().map(|&record| Incoming::bytes_in(batch, record)).sum();
            incoming.records.push((at, start..start + n));
            start += n;
        }
        incoming
    }

    /// The range of the customer whose records begin at this place of the order.
    pub fn range_at(&self, place: usize) -> Option<usize> {
        let before = self.records.partition_point(|(_, places)| places.start <= place);
        self.records.get(before.checked_sub(1)?).map(|(range, _)| *range)
    }

    /// Whether something comes for a range.
    pub fn is_for(&self, range: usize) -> bool {
        self.bytes.get(range).is_some_and(|&bytes| bytes > 0)
    }

    /// What a record would take if it waited.
    pub fn bytes_in(batch: &Batch, record: usize) -> u64 {
        match batch.record(record) {
            Seen::Line(line, _) => Incoming::bytes_of(batch.key(record), line),
            Seen::About(_) => 0,
        }
    }

    /// What a line takes that waits.
    pub fn bytes_of(customer: &[u8], line: &[u8]) -> u64 {
        bytes_of(customer, line)
    }
}

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    most: u64,
    step: u64,
    /// What is merged of it by one commit.
    at_once: u64,
    /// Whether nothing is to wait, on the disk neither.
    is_settled: bool,
}

impl Room {
    /// So many bytes.
    pub fn of(bytes: usize) -> Room {
        let most = (bytes as u64).min(MOST_BYTES);
        let step = (most / STEPS).max(1);
        Room { most, step, at_once: STEPS_A_COMMIT * step, is_settled: false }
    }

    /// What is merged before a range is cut.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// So many steps less than there is; at first some, and nothing in the end.
    pub fn less(self, waiting: u64) -> Room {
        let at_once = STEPS_AT_ONCE * self.step;
        let most = self.most.min(waiting.saturating_sub(at_once));
        Room { most, at_once, is_settled: true, ..self }
    }

    /// How many blocks of the sorted run are merged beside, from the front: none while callers wait, or
    /// while there is other work.
    pub fn blocks(&self, due: &Due) -> Option<usize> {
        const AT_ONCE: usize = 1_000;
        let is_all = self.at_once == u64::MAX;
        let n = if is_all { usize::MAX } else { AT_ONCE };
        (self.is_settled && (is_all || due.is_empty())).then_some(n)
    }

    /// None at all.
    pub fn none(self, _: u64) -> Room {
        Room { most: 0, at_once: u64::MAX, is_settled: true, ..self }
    }
}

/// What a commit does about a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Leave,
    /// What waits in memory goes into the sorted run, or into the records where it is dense.
    Sort,
    /// All that waits goes into the records.
    Merge,
}

/// The ranges that are merged by a commit.
pub struct Due {
    plans: Vec<Plan>,
    /// What is merged before a range is cut.
    pub step: u64,
}

impl Due {
    /// Those of which what waits has no room.
    pub fn new(ranges: &Ranges, journal: &Journal, incoming: &Incoming, room: Room) -> Due {
        let Room { most, step, at_once, is_settled } = room;
        let at_once = at_once.max(2 * incoming.bytes.iter().sum::<u64>());
        let plan = if is_settled { Plan::Merge } else { Plan::Sort };
        let at_first = |&bytes: &u64| if bytes >= step { Plan::Merge } else { Plan::Leave };
        let mut plans: Vec<Plan> = incoming.bytes.iter().map(at_first).collect();
        let tables: Vec<(u64, Option<u64>)> = ranges
            .all
            .iter()
            .map(|range| range.table())
            .map(|table| (table.bytes(), table.oldest()))
            .collect();
        let weigh = |at: usize| tables[at].0 + incoming.bytes[at];
        let mut left: Vec<usize> =
            (0..plans.len()).filter(|&at| plans[at] == Plan::Leave).collect();
        let mut waiting: u64 = left.iter().map(|&at| weigh(at)).sum();
        // The fullest first: of them a page holds most.
        left.sort_unstable_by_key(|&at| weigh(at));
        let mut merged = 0;
        while waiting > most
            && merged < at_once
            && let Some(at) = left.pop()
        {
            plans[at] = plan;
            waiting -= weigh(at);
            merged += weigh(at);
        }
        let room = most / MOST_SHARED;
        if journal.shared_bytes() > room {
            left.sort_unstable_by_key(|&at| std::cmp::Reverse(tables[at].1.unwrap_or(u64::MAX)));
            let oldest = |left: &[usize]| left.last().and_then(|&at| tables[at].1);
            // At least one more, lest they grow while others take all that is merged at once.
            let at_once = at_once.saturating_sub(merged).max(1);
            let mut merged = 0;
            while let Some(floor) = oldest(&left)
                && merged < at_once
                && journal.shared_bytes_from(floor) > room
                && let Some(at) = left.pop()
            {
                plans[at] = plan;
                merged += weigh(at);
            }
        }
        Due { plans, step }
    }

    /// Takes the ranges of these customers too, with all that waits of them.
    pub fn merge_of(&mut self, ranges: &Ranges, customers: &[String]) {
        for customer in customers {
            if let Some(plan) = self.plans.get_mut(ranges.of(customer)) {
                *plan = Plan::Merge;
            }
        }
    }

    /// Whether a range is one of them.
    pub fn has(&self, at: usize) -> bool {
        self.plans.get(at).is_some_and(|&plan| plan != Plan::Leave)
    }

    /// Whether all that waits of a range goes into the records, however little it is.
    pub fn is_merged(&self, at: usize) -> bool {
        self.plans.get(at) == Some(&Plan::Merge)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.plans.iter().all(|&plan| plan == Plan::Leave)
    }
}
