//! Accepted rows by customer, in as many parts as there are buckets of ids, so that one part at a
//! time becomes histories. Under the bound they wait in memory, beyond it on disk.

mod people;

use super::bytes::{put_text, skip_text, take_text};
use super::codec::{self, Ids};
use habitus_engine::domain::{Attributes, CustomerId, Event, EventRules, Shaped, bucket};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One part per bucket of [`CustomerId::bucket`].
pub const N_PARTS: usize = 256;

/// What a row takes when it is part of a history, besides its texts.
const BYTES_PER_EVENT: u64 = 160;

/// The rows of a log by customer, and what a customers file says of them.
#[derive(Debug)]
pub struct Partitions {
    rows: Pile,
    customers: Pile,
    /// The names of the customers' attributes.
    names: Arc<[String]>,
    /// Bytes that may wait.
    bound: usize,
    spill: Spill,
    spilled: bool,
}

/// Records of one sort, part by part.
#[derive(Debug)]
struct Pile {
    /// What its files are called.
    name: &'static str,
    waiting: Vec<Vec<u8>>,
    counts: Vec<u64>,
    n_waiting: usize,
}

impl Pile {
    fn new(name: &'static str) -> Pile {
        Pile { name, waiting: vec![Vec::new(); N_PARTS], counts: vec![0; N_PARTS], n_waiting: 0 }
    }

    fn add(&mut self, customer: &str, put: impl FnOnce(&mut Vec<u8>)) {
        let part = usize::from(bucket(customer));
        let before = self.waiting[part].len();
        put(&mut self.waiting[part]);
        self.n_waiting += self.waiting[part].len() - before;
        self.counts[part] += 1;
    }

    fn join(&mut self, other: Pile) {
        for ((ours, count), (theirs, more)) in self
            .waiting
            .iter_mut()
            .zip(&mut self.counts)
            .zip(other.waiting.into_iter().zip(other.counts))
        {
            ours.extend_from_slice(&theirs);
            *count += more;
        }
        self.n_waiting += other.n_waiting;
    }

    fn flush(&mut self, directory: &Path) -> io::Result<()> {
        for (part, waiting) in self.waiting.iter_mut().enumerate() {
            if !waiting.is_empty() {
                let path = directory.join(format!("{}-{part:03}", self.name));
                OpenOptions::new().create(true).append(true).open(path)?.write_all(waiting)?;
                waiting.clear();
            }
        }
        self.n_waiting = 0;
        Ok(())
    }

    fn sync(&self, directory: &Path) -> io::Result<()> {
        for part in (0..N_PARTS).filter(|&part| self.counts[part] > 0) {
            let path = directory.join(format!("{}-{part:03}", self.name));
            if path.exists() {
                File::open(path)?.sync_all()?;
            }
        }
        Ok(())
    }

    /// What is on disk of a part.
    fn stored(&self, part: usize, directory: Option<&Path>) -> io::Result<Vec<u8>> {
        let mut stored = Vec::new();
        let path = directory.map(|path| path.join(format!("{}-{part:03}", self.name)));
        if let Some(path) = path.filter(|path| path.exists()) {
            File::open(path)?.read_to_end(&mut stored)?;
        }
        Ok(stored)
    }

    /// Refuses a part that did not come back whole.
    fn check(&self, part: usize, n: usize) -> io::Result<()> {
        if n as u64 == self.counts[part] {
            return Ok(());
        }
        let reason = format!("{n} {} of {} came back from disk", self.name, self.counts[part]);
        Err(io::Error::new(io::ErrorKind::InvalidData, reason))
    }
}

/// Where rows go that memory must not hold.
#[derive(Debug)]
pub enum Spill {
    /// A directory that is made when it is needed and removed afterwards, in this one.
    Temporary(Option<Private>, Option<PathBuf>),
    /// A directory that somebody else looks after.
    Kept(PathBuf),
}

/// A directory that nobody else may look into and that is gone when it is dropped.
#[derive(Debug)]
pub struct Private {
    directory: tempfile::TempDir,
    /// Held for as long as the process lives, so that others know.
    _lock: File,
}

impl Private {
    const PREFIX: &str = ".habitus-rows-";

    /// Makes one in `parent`, and removes those that killed processes left there.
    fn make(parent: &Path) -> io::Result<Private> {
        for entry in parent.read_dir().into_iter().flatten().flatten() {
            let is_ours = entry.file_name().to_string_lossy().starts_with(Private::PREFIX);
            let lock = || File::open(entry.path().join("lock"));
            if is_ours && lock().is_ok_and(|lock| lock.try_lock().is_ok()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(Private::PREFIX);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o700));
        }
        loop {
            let directory = builder.tempdir_in(parent)?;
            let path = directory.path().join("lock");
            let lock = File::create(&path)?;
            lock.lock()?;
            // Before it was locked, another that cleans up may have taken it for one that was left.
            if path.exists() {
                return Ok(Private { directory, _lock: lock });
            }
        }
    }
}

impl Drop for Private {
    /// The lock goes last, with the directory: a process that is killed in between leaves what the
    /// next one recognises.
    fn drop(&mut self) {
        for entry in self.directory.path().read_dir().into_iter().flatten().flatten() {
            if entry.file_name() != "lock" {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Spill {
    fn directory(&mut self) -> io::Result<PathBuf> {
        match self {
            Spill::Kept(path) => {
                fs::create_dir_all(&*path)?;
                Ok(path.clone())
            }
            Spill::Temporary(made, parent) => {
                let directory = match made.take() {
                    Some(made) => made,
                    None => {
                        let system = tempfile::env::temp_dir();
                        Private::make(parent.as_deref().unwrap_or(&system))?
                    }
                };
                Ok(made.insert(directory).directory.path().to_owned())
            }
        }
    }

    fn existing(&self) -> Option<&Path> {
        match self {
            Spill::Kept(path) => Some(path),
            Spill::Temporary(made, _) => made.as_ref().map(|made| made.directory.path()),
        }
    }
}

impl Partitions {
    /// Nothing yet. More than `bound` bytes do not wait in memory.
    pub fn new(bound: usize, spill: Spill, names: Arc<[String]>) -> Partitions {
        Partitions {
            rows: Pile::new("rows"),
            customers: Pile::new("customers"),
            names,
            bound,
            spill,
            spilled: false,
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

    /// An empty one for the same customers, which never goes to disk by itself.
    pub fn fork(&self) -> Partitions {
        Partitions::new(usize::MAX, Spill::Temporary(None, None), Arc::clone(&self.names))
    }

    /// Takes one row of one customer.
    ///
    /// # Errors
    /// Where rows had to go to disk and could not.
    pub fn add(&mut self, customer: &str, event: &Event) -> io::Result<()> {
        self.rows.add(customer, |bytes| put(bytes, customer, event));
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

    /// Takes the rows of another, none of which may be on disk.
    ///
    /// # Errors
    /// Where rows had to go to disk and could not.
    pub fn join(&mut self, other: Partitions) -> io::Result<()> {
        self.rows.join(other.rows);
        self.customers.join(other.customers);
        self.keep_bound()
    }

    fn keep_bound(&mut self) -> io::Result<()> {
        let n_waiting = self.rows.n_waiting + self.customers.n_waiting;
        if n_waiting > self.bound { self.flush() } else { Ok(()) }
    }

    /// Puts all that waits on disk.
    ///
    /// # Errors
    /// Where that is not possible.
    pub fn flush(&mut self) -> io::Result<()> {
        let directory = self.spill.directory()?;
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
                .stored(part, directory)
                .is_ok_and(|stored| self.rows.check(part, n_whole(&stored)).is_ok());
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
        self.rows.counts.iter().sum()
    }

    /// Whether a part holds anything.
    pub fn has(&self, part: usize) -> bool {
        self.rows.counts[part] + self.customers.counts[part] > 0
    }

    /// Whether anything is on disk.
    pub fn is_spilled(&self) -> bool {
        self.spilled
    }

    /// How many parts may be histories at once within the bound, at least one.
    pub fn at_once(&self, bound: u64) -> usize {
        let records = self.rows.counts.iter().zip(&self.customers.counts);
        let largest = records.map(|(rows, customers)| rows + customers).max().unwrap_or(0);
        let at_once = bound.checked_div(largest * BYTES_PER_EVENT).unwrap_or(u64::MAX);
        usize::try_from(at_once).unwrap_or(usize::MAX).max(1)
    }

    /// The histories of one part, sorted by customer id.
    ///
    /// # Errors
    /// [`PartError`].
    pub fn shaped(&self, part: usize, rules: &EventRules) -> Result<Vec<Shaped>, PartError> {
        let directory = self.spill.existing().filter(|_| self.spilled);
        let stored = self.rows.stored(part, directory)?;
        let places = places(&[&stored, &self.rows.waiting[part]]);
        self.rows.check(part, places.rows.len())?;
        let mut people = self.people(part, directory)?;
        let shape = |(customer, range): &(&str, Range<usize>)| {
            let mut events = Vec::with_capacity(range.len());
            for place in &places.rows[range.clone()] {
                events.push(take(&mut &*place.bytes)?);
            }
            let shaped = rules.shape(CustomerId::new(customer), events);
            let attributes = people.remove(*customer);
            Some(Shaped { history: shaped.history.with_attributes(attributes), ..shaped })
        };
        let shaped: Option<Vec<Shaped>> = places.customers.iter().map(shape).collect();
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a row on disk is damaged");
        let mut shaped = shaped.ok_or_else(damaged)?;
        if !people.is_empty() {
            // Who did nothing yet is known all the same.
            shaped.extend(people.into_iter().map(|(customer, attributes)| {
                let shaped = rules.shape(CustomerId::new(&customer), Vec::new());
                Shaped { history: shaped.history.with_attributes(Some(attributes)), ..shaped }
            }));
            shaped.sort_unstable_by(|a, b| a.history.customer().cmp(b.history.customer()));
        }
        Ok(shaped)
    }

    /// What the customers file says of the customers of one part.
    fn people(
        &self,
        part: usize,
        directory: Option<&Path>,
    ) -> Result<HashMap<Box<str>, Attributes>, PartError> {
        let stored = self.customers.stored(part, directory)?;
        let mut people: HashMap<Box<str>, Attributes> = HashMap::new();
        let mut n = 0;
        for bytes in [stored.as_slice(), &self.customers.waiting[part]] {
            let mut rest = bytes;
            while let Some((customer, attributes)) = people::take(&mut rest, &self.names) {
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

/// Appends a row: whose it is, and the event.
fn put(bytes: &mut Vec<u8>, customer: &str, event: &Event) {
    put_text(bytes, customer);
    codec::put(bytes, event, Ids::Kept);
}

/// Takes the event of a row from the front. Whose it is [`pass`] has told.
fn take(bytes: &mut &[u8]) -> Option<Event> {
    skip_text(bytes)?;
    codec::take(bytes)
}

/// Passes over a row at the front: whose it is and when it was.
fn pass<'b>(bytes: &mut &'b [u8]) -> Option<(&'b str, i64)> {
    let customer = take_text(bytes)?;
    codec::pass(bytes).map(|at| (customer, at))
}

/// How many rows there are, if all of them can be read; none otherwise.
fn n_whole(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    let n = std::iter::from_fn(|| take(&mut rest)).count();
    if rest.is_empty() { n } else { 0 }
}

/// Where a row begins, and when it was.
#[derive(Debug, Clone, Copy)]
struct Place<'b> {
    at: i64,
    bytes: &'b [u8],
}

/// Rows in the order in which they become histories.
struct Places<'b> {
    /// Sorted by id, each with where their rows stand.
    customers: Vec<(&'b str, Range<usize>)>,
    /// Those of a customer by time.
    rows: Vec<Place<'b>>,
}

/// Sorts rows by customer and time. They are only passed over, so that none has to be moved once it
/// is an event; and they are counted before they are placed, so that no list has to grow.
fn places<'b>(pieces: &[&'b [u8]]) -> Places<'b> {
    let mut known: HashMap<&str, usize, SameHash> = HashMap::default();
    let mut customers: Vec<(&str, usize)> = Vec::new();
    let mut of_row: Vec<usize> = Vec::new();
    let mut rows: Vec<Place<'_>> = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        let mut bytes = rest;
        while let Some((customer, at)) = pass(&mut rest) {
            let index = *known.entry(customer).or_insert_with(|| {
                customers.push((customer, 0));
                customers.len() - 1
            });
            customers[index].1 += 1;
            of_row.push(index);
            rows.push(Place { at, bytes });
            bytes = rest;
        }
    }
    let mut next: Vec<usize> = Vec::with_capacity(customers.len());
    let mut ranges: Vec<(&str, Range<usize>)> = Vec::with_capacity(customers.len());
    let mut end = 0;
    for (customer, count) in customers {
        next.push(end);
        ranges.push((customer, end..end + count));
        end += count;
    }
    let mut placed = rows.clone();
    for (row, index) in rows.into_iter().zip(of_row) {
        placed[next[index]] = row;
        next[index] += 1;
    }
    for (_, range) in &ranges {
        placed[range.clone()].sort_unstable_by_key(|place| place.at);
    }
    ranges.sort_unstable_by_key(|(customer, _)| *customer);
    Places { customers: ranges, rows: placed }
}

/// Ids are spread by the hash that chose their part, which costs less than one against attackers:
/// the part bounds what they could do.
#[derive(Debug, Clone, Copy, Default)]
struct SameHash;

impl BuildHasher for SameHash {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher(0xcbf2_9ce4_8422_2325)
    }
}

/// FNV-1a, eight bytes at a time.
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let mixed = (self.0 ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.0 = mixed ^ (mixed >> 29);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
