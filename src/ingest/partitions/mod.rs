//! Accepted rows by customer, in as many parts as there are buckets of ids, so that one part at a
//! time becomes histories. Under the bound they wait in memory, beyond it on disk.

mod codec;

use habitus_engine::domain::{CustomerId, Event, EventRules, Shaped, bucket};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// One part per bucket of [`CustomerId::bucket`].
pub const N_PARTS: usize = 256;

/// What a row takes when it is part of a history, besides its texts.
const BYTES_PER_EVENT: u64 = 160;

/// The rows of a log by customer.
#[derive(Debug)]
pub struct Partitions {
    /// What waits in memory, part by part.
    waiting: Vec<Vec<u8>>,
    n_rows: Vec<u64>,
    n_waiting: usize,
    /// Bytes that may wait.
    bound: usize,
    spill: Spill,
    spilled: bool,
}

/// Where rows go that memory must not hold.
#[derive(Debug)]
pub enum Spill {
    /// A directory that is made when it is needed and removed afterwards, in this one.
    Temporary(Option<tempfile::TempDir>, Option<PathBuf>),
    /// A directory that somebody else looks after.
    Kept(PathBuf),
}

impl Spill {
    fn directory(&mut self) -> io::Result<PathBuf> {
        match self {
            Spill::Kept(path) => {
                fs::create_dir_all(&*path)?;
                Ok(path.clone())
            }
            Spill::Temporary(made, parent) => {
                let directory = match (made.take(), parent) {
                    (Some(directory), _) => directory,
                    (None, Some(parent)) => {
                        tempfile::Builder::new().prefix(".habitus-rows-").tempdir_in(parent)?
                    }
                    (None, None) => tempfile::Builder::new().prefix("habitus-rows-").tempdir()?,
                };
                Ok(made.insert(directory).path().to_owned())
            }
        }
    }

    fn existing(&self) -> Option<&Path> {
        match self {
            Spill::Kept(path) => Some(path),
            Spill::Temporary(made, _) => made.as_ref().map(tempfile::TempDir::path),
        }
    }
}

impl Partitions {
    /// Nothing yet. More than `bound` bytes do not wait in memory.
    pub fn new(bound: usize, spill: Spill) -> Partitions {
        Partitions {
            waiting: vec![Vec::new(); N_PARTS],
            n_rows: vec![0; N_PARTS],
            n_waiting: 0,
            bound,
            spill,
            spilled: false,
        }
    }

    /// The rows that an earlier run left in a directory, whose counts by part it noted.
    pub fn reopen(directory: PathBuf, n_rows: Vec<u64>) -> Partitions {
        let spill = Spill::Kept(directory);
        Partitions { n_rows, spilled: true, ..Partitions::new(0, spill) }
    }

    /// Takes one row of one customer.
    ///
    /// # Errors
    /// Where rows had to go to disk and could not.
    pub fn add(&mut self, customer: &str, event: &Event) -> io::Result<()> {
        let part = usize::from(bucket(customer));
        let waiting = &mut self.waiting[part];
        let before = waiting.len();
        codec::put(waiting, customer, event);
        self.n_waiting += waiting.len() - before;
        self.n_rows[part] += 1;
        if self.n_waiting > self.bound { self.flush() } else { Ok(()) }
    }

    /// Puts all that waits on disk.
    ///
    /// # Errors
    /// Where that is not possible.
    pub fn flush(&mut self) -> io::Result<()> {
        let directory = self.spill.directory()?;
        for (part, waiting) in self.waiting.iter_mut().enumerate() {
            if !waiting.is_empty() {
                let path = file_of(&directory, part);
                OpenOptions::new().create(true).append(true).open(path)?.write_all(waiting)?;
                waiting.clear();
            }
        }
        self.n_waiting = 0;
        self.spilled = true;
        Ok(())
    }

    /// Rows by part.
    pub fn n_rows(&self) -> &[u64] {
        &self.n_rows
    }

    /// Whether rows are on disk.
    pub fn is_spilled(&self) -> bool {
        self.spilled
    }

    /// How many parts may be histories at once within the bound, at least one.
    pub fn at_once(&self, bound: u64) -> usize {
        let largest = self.n_rows.iter().max().copied().unwrap_or(0) * BYTES_PER_EVENT;
        usize::try_from(bound.checked_div(largest).unwrap_or(u64::MAX)).unwrap_or(usize::MAX).max(1)
    }

    /// The histories of one part, sorted by customer id.
    ///
    /// # Errors
    /// Where the part is on disk and cannot be read.
    pub fn shaped(&self, part: usize, rules: &EventRules) -> io::Result<Vec<Shaped>> {
        let mut stored = Vec::new();
        let path = self.spill.existing().filter(|_| self.spilled).map(|path| file_of(path, part));
        if let Some(path) = path.filter(|path| path.exists()) {
            File::open(path)?.read_to_end(&mut stored)?;
        }
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut customers: Vec<(&str, Vec<Event>)> = Vec::new();
        let mut n_rows = 0;
        for bytes in [stored.as_slice(), self.waiting[part].as_slice()] {
            let mut rest = bytes;
            while let Some((customer, event)) = codec::take(&mut rest) {
                let place = *places.entry(customer).or_insert(customers.len());
                match customers.get_mut(place) {
                    Some((_, events)) => events.push(event),
                    None => customers.push((customer, vec![event])),
                }
                n_rows += 1;
            }
        }
        if n_rows != self.n_rows[part] {
            let reason = format!("{n_rows} rows of {} came back from disk", self.n_rows[part]);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        customers.sort_unstable_by_key(|(customer, _)| *customer);
        let shape = |(customer, events)| rules.shape(CustomerId::new(customer), events);
        Ok(customers.into_iter().map(shape).collect())
    }
}

fn file_of(directory: &Path, part: usize) -> PathBuf {
    directory.join(format!("rows-{part:03}"))
}
