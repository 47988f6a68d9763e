//! Accepted rows by customer, in as many parts as there are buckets of ids, so that one part at a
//! time becomes histories. Under the bound they wait in memory, beyond it on disk.

mod batch;
mod batch_grouping;
mod numbers;
mod people;
mod pile;
mod rows;
mod same_hash;
mod spill;

pub use batch::{Draft, Meaning};
pub(super) use same_hash::SameHash;
pub use spill::Spill;

use self::batch::Batch;
use self::batch_grouping::{BatchGrouping, Spelled};
use self::pile::Pile;
use self::rows::Grouping;
use crate::ingest::bytes::take_bytes;
use crate::ingest::codec::Fields;
use habitus_engine::domain::{Attributes, CustomerId, EventRules, Shaped, Timestamp};
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One part per bucket of [`CustomerId::bucket`].
pub const N_PARTS: usize = 256;

/// What a row takes when it is part of a history, besides its texts.
const BYTES_PER_EVENT: u64 = 160;

/// The rows of a log by customer, and what a customers file says of them.
#[derive(Debug)]
pub struct Partitions {
    rows: Pile,
    /// The plainest of the rows in memory. They become records where they go to disk.
    batches: Vec<Batch>,
    /// How many bytes those take.
    n_in_batches: usize,
    /// Rows that came through forks, for the next forks to go on with.
    forked: Arc<Mutex<Vec<Pile>>>,
    customers: Pile,
    /// The names of the customers' attributes.
    names: Arc<[String]>,
    /// Bytes that may wait.
    bound: usize,
    spill: Spill,
    spilled: bool,
    /// Those that nobody uses at the moment, at most one for each thread.
    groupings: Mutex<Vec<Groupings>>,
}

/// What puts the rows of a part side by side.
#[derive(Debug, Default)]
struct Groupings {
    rows: Grouping,
    batches: BatchGrouping,
}

/// Where rows of a customer stand, who may have some as records and some in batches.
#[derive(Debug, Clone)]
enum Stand {
    Nowhere,
    Rows(Range<usize>),
    Batches(Range<usize>),
}

/// Makes partitions that go back to where they are from ([`Partitions::join`]), and never to disk by
/// themselves.
#[derive(Debug, Clone)]
pub struct Forks {
    names: Arc<[String]>,
    forked: Arc<Mutex<Vec<Pile>>>,
}

impl Forks {
    /// One that goes on with the rows of another that went back, so that there are few of them.
    pub fn fork(&self) -> Partitions {
        let spill = Spill::Temporary(None, None);
        let mut fork = Partitions::new(usize::MAX, spill, Arc::clone(&self.names));
        if let Some(rows) = locked(&self.forked).pop() {
            fork.rows = rows;
        }
        fork
    }
}

/// What is locked is whole between any two steps.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Partitions {
    /// Nothing yet. More than `bound` bytes do not wait in memory.
    pub fn new(bound: usize, spill: Spill, names: Arc<[String]>) -> Partitions {
        Partitions {
            rows: Pile::new("rows"),
            batches: Vec::new(),
            n_in_batches: 0,
            forked: Arc::default(),
            customers: Pile::new("customers"),
            names,
            bound,
            spill,
            spilled: false,
            groupings: Mutex::default(),
        }
    }

    /// What an earlier run left in a directory, of which it noted the counts.
    pub fn reopen(directory: PathBuf, counts: &Counts, names: Arc<[String]>) -> Partitions {
        let mut partitions = Partitions::new(0, Spill::Kept(directory), names);
        partitions.rows.counts.clone_from(&counts.rows);
        partitions.customers.counts.clone_from(&counts.customers);
        partitions.spilled = true;
        partitions
    }

    /// What makes others of the same log, for other threads.
    pub fn forks(&self) -> Forks {
        Forks { names: Arc::clone(&self.names), forked: Arc::clone(&self.forked) }
    }

    /// Takes one row of one customer.
    ///
    /// # Errors
    /// Where rows had to go to disk and could not.
    #[inline(always)]
    pub fn add(&mut self, customer: &str, at: Timestamp, fields: &Fields<'_>) -> io::Result<()> {
        self.rows.add(customer, |bytes| rows::put(bytes, customer, at, fields));
        self.keep_bound()
    }

    /// Takes many plain purchases.
    ///
    /// # Errors
    /// As [`Partitions::add`].
    pub fn add_batch(&mut self, rows: Draft<'_>) -> io::Result<()> {
        let batch = rows.batch();
        self.n_in_batches += batch.n_bytes();
        self.batches.push(batch);
        self.keep_bound()
    }

    /// Takes what a customers file says of one customer.
    ///
    /// # Errors
    /// As [`Partitions::add`].
    pub fn add_customer(&mut self, customer: &str, attributes: &Attributes) -> io::Result<()> {
        self.customers.add(customer, |bytes| people::put(bytes, customer, attributes));
        self.keep_bound()
    }

    /// Takes back a fork.
    ///
    /// # Errors
    /// Where rows had to go to disk and could not.
    pub fn join(&mut self, fork: Partitions) -> io::Result<()> {
        self.customers.join(fork.customers);
        self.batches.extend(fork.batches);
        self.n_in_batches += fork.n_in_batches;
        let mut forked = locked(&self.forked);
        forked.push(fork.rows);
        let n_forked: usize = forked.iter().map(Pile::n_waiting).sum();
        drop(forked);
        if self.n_waiting() + n_forked > self.bound {
            self.settle();
            self.flush()?;
        }
        Ok(())
    }

    fn keep_bound(&mut self) -> io::Result<()> {
        if self.n_waiting() > self.bound { self.flush() } else { Ok(()) }
    }

    fn n_waiting(&self) -> usize {
        self.rows.n_waiting() + self.n_in_batches + self.customers.n_waiting()
    }

    /// Makes the rows of forks its own and puts all to their parts, which is called when all have
    /// come.
    pub fn settle(&mut self) {
        locked(&self.forked).drain(..).for_each(|forked| self.rows.join(forked));
        self.rows.settle();
        self.customers.settle();
    }

    /// Puts all that waits on disk.
    ///
    /// # Errors
    /// Where that is not possible.
    pub fn flush(&mut self) -> io::Result<()> {
        let directory = self.spill.directory()?;
        for batch in self.batches.drain(..) {
            self.n_in_batches -= batch.n_bytes();
            batch.each(|customer, at, fields| {
                self.rows.add(customer, |bytes| rows::put(bytes, customer, at, fields));
            });
            if self.rows.n_waiting() > self.bound / 2 {
                self.rows.flush(&directory)?;
            }
        }
        self.rows.flush(&directory)?;
        self.customers.flush(&directory)?;
        self.spilled = true;
        Ok(())
    }

    /// Makes sure that what is on disk stays there.
    ///
    /// # Errors
    /// Where the disk refuses it.
    pub fn sync(&self) -> io::Result<()> {
        match self.spill.existing() {
            Some(directory) => {
                self.rows.sync(directory)?;
                self.customers.sync(directory)
            }
            None => Ok(()),
        }
    }

    /// Whether every record that was noted is on disk and can be read.
    pub fn is_whole(&self) -> bool {
        let directory = self.spill.existing();
        (0..N_PARTS).filter(|&part| self.has(part)).all(|part| {
            let rows = self
                .rows
                .on_disk(part, directory)
                .is_ok_and(|stored| self.rows.check(part, rows::n_whole(&stored)).is_ok());
            rows && self.people(part, directory).is_ok()
        })
    }

    /// How many records there are by part.
    pub fn counts(&self) -> Counts {
        Counts { rows: self.rows.counts.clone(), customers: self.customers.counts.clone() }
    }

    /// The names of the customers' attributes.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Number of rows.
    pub fn n_rows(&self) -> u64 {
        let batches = self.batches.iter().map(|batch| batch.n_rows() as u64);
        self.rows.counts.iter().sum::<u64>() + batches.sum::<u64>()
    }

    /// Whether a part holds anything.
    pub fn has(&self, part: usize) -> bool {
        self.n_of(part) > 0
    }

    /// How many rows and customers a part has.
    fn n_of(&self, part: usize) -> u64 {
        let batches = self.batches.iter().map(|batch| batch.n_of(part) as u64);
        self.rows.counts[part] + self.customers.counts[part] + batches.sum::<u64>()
    }

    /// Whether anything is on disk.
    pub fn is_spilled(&self) -> bool {
        self.spilled
    }

    /// How many parts may be histories at once within the bound, at least one.
    pub fn at_once(&self, bound: u64) -> usize {
        let largest = (0..N_PARTS).map(|part| self.n_of(part)).max().unwrap_or(0);
        let at_once = bound.checked_div(largest * BYTES_PER_EVENT).unwrap_or(u64::MAX);
        usize::try_from(at_once).unwrap_or(usize::MAX).max(1)
    }

    /// Makes the histories of one part one after the other, in the order of their customers' ids, and
    /// shows each.
    ///
    /// # Errors
    /// [`PartError`].
    pub fn each_shaped(
        &self,
        part: usize,
        rules: &EventRules,
        mut see: impl FnMut(Shaped),
    ) -> Result<(), PartError> {
        let directory = self.spill.existing().filter(|_| self.spilled);
        let stored = self.rows.on_disk(part, directory)?;
        let pieces: Vec<&[u8]> =
            std::iter::once(stored.as_slice()).chain(self.rows.in_memory(part)).collect();
        let mut groupings = locked(&self.groupings).pop().unwrap_or_default();
        let of_rows = groupings.rows.of(&pieces).ok_or_else(damaged)?;
        self.rows.check(part, groupings.rows.n_rows())?;
        let of_batches = groupings.batches.of(&self.batches, part);
        let mut people = self.people(part, directory)?;
        let spelled = Spelled::of(of_batches.iter().map(|(customer, _)| *customer));
        let mut customers: Vec<(&str, Stand)> = of_rows
            .into_iter()
            .map(|(customer, range)| (customer, Stand::Rows(range)))
            .chain(
                spelled.ids().zip(of_batches).map(|(id, (_, range))| (id, Stand::Batches(range))),
            )
            .collect();
        customers.sort_unstable_by_key(|(id, _)| *id);
        // Who did nothing yet is known all the same.
        let is_silent = |id: &str| customers.binary_search_by_key(&id, |(id, _)| id).is_err();
        let silent: Vec<Box<str>> = people.keys().filter(|id| is_silent(id)).cloned().collect();
        if !silent.is_empty() {
            customers.extend(silent.iter().map(|id| (&**id, Stand::Nowhere)));
            customers.sort_unstable_by_key(|(id, _)| *id);
        }
        for of_one in customers.chunk_by(|(a, _), (b, _)| a == b) {
            let mut events = Vec::new();
            for (_, stand) in of_one {
                let more = match stand.clone() {
                    Stand::Nowhere => continue,
                    Stand::Rows(range) => groupings.rows.events(range).ok_or_else(damaged)?,
                    Stand::Batches(range) => groupings.batches.events(range),
                };
                if events.is_empty() { events = more } else { events.extend(more) }
            }
            let Some((id, _)) = of_one.first() else { continue };
            let shaped = rules.shape(CustomerId::new(id), events);
            let attributes = people.remove(*id);
            see(Shaped { history: shaped.history.with_attributes(attributes), ..shaped });
        }
        locked(&self.groupings).push(groupings);
        Ok(())
    }

    /// What the customers file says of the customers of one part.
    fn people(
        &self,
        part: usize,
        directory: Option<&Path>,
    ) -> Result<HashMap<Box<str>, Attributes>, PartError> {
        let stored = self.customers.on_disk(part, directory)?;
        let mut people: HashMap<Box<str>, Attributes> = HashMap::new();
        let mut n = 0;
        for mut records in std::iter::once(stored.as_slice()).chain(self.customers.in_memory(part))
        {
            while let Some(mut record) = take_bytes(&mut records) {
                let known = people::take(&mut record, &self.names).filter(|_| record.is_empty());
                let (customer, attributes) = known.ok_or_else(damaged)?;
                n += 1;
                match people.get(customer) {
                    None => drop(people.insert(customer.into(), attributes)),
                    Some(known) if *known == attributes => {}
                    Some(_) => {
                        return Err(PartError::TwoCustomers { customer: customer.to_owned() });
                    }
                }
            }
        }
        self.customers.check(part, n)?;
        Ok(people)
    }
}

/// How many records there are of each sort, by part.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    rows: Vec<u64>,
    customers: Vec<u64>,
}

/// Why a part gave no histories.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the customers file says two different things of `{customer}`")]
    TwoCustomers { customer: String },
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a row on disk is damaged")
}
