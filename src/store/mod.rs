//! Durable histories of customers, in a directory of their own that one process at a time holds.
//!
//! Lines are kept as they came; the rules of a version make histories of them when they are read, by
//! the same functions as rows of a file, so that any version can answer from any store. `line` is how
//! a line is kept, `head` and `about` how a customer is, `tables` where. `batch`, `sifting` and `appending`
//! are the way in: lines go to `waiting`, in memory and on the disk, and by `merging` to `records` when there
//! are enough for neighbouring customers; `twins` and `known` tell what came before. `snapshot` and `everybody` are the way out, `writer`
//! commits for many callers at once, and `maintenance` is what an operator asks for. redb keeps the
//! tables, and no other room knows it; `file` and `guard` stand between it and a disk that is not what
//! redb takes it for.
//!
//! What is absent: a clock (the caller passes the time), rules of its own, and answers.

mod about;
mod appending;
mod batch;
mod error;
mod everybody;
mod file;
mod guard;
mod head;
mod history_cache;
mod id;
mod known;
mod line;
mod maintenance;
mod merging;
mod records;
mod settings;
mod sifting;
mod snapshot;
mod tables;
#[cfg(test)]
mod tests;
mod twins;
mod waiting;
mod writer;

pub use about::About;
pub use batch::{Batch, Outcome};
pub use error::{FORMAT, MAX_ID_BYTES, MAX_NAMES, StoreError};
pub use history_cache::{CacheCounts, Shaping};
pub use maintenance::{Checked, Erased, Stats};
pub use settings::Settings;
pub use snapshot::{Kept, Snapshot};
pub use writer::Writer;

use self::appending::Appending;
use self::guard::{Guarded, guarded};
use self::history_cache::HistoryCache;
use self::known::Known;
use self::sifting::Sifted;
use self::tables::{
    HEADS, JOURNAL, META, MORE, Meta, NAMES, RANGES, RUN, SALT, SOURCES, TOMBSTONES,
};
use self::waiting::{Change, Due, Incoming, Journal, Ranges, Room, run};
use arc_swap::ArcSwap;
use habitus_engine::domain::Timestamp;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTableMetadata, WriteTransaction};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The file in the store's directory.
const FILE: &str = "store.redb";

/// A file that is being written to take its place.
const UNFINISHED: &str = "store.redb.part";

const MS_PER_DAY: i64 = 86_400_000;

/// A commit of fewer bytes of lines is not worth a second thread.
const FEW_BYTES: usize = 64 << 10;

/// How far a file was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceProgress {
    /// SHA-256 of the file, hex.
    pub digest: String,
    /// Rows that were looked at, in the order of the file.
    pub rows: u64,
    pub finished: bool,
}

/// A store that is open. Readers take [`Store::snapshot`]; writers wait for each other.
pub struct Store {
    directory: PathBuf,
    settings: Settings,
    database: Guarded,
    current: ArcSwap<Snapshot>,
    histories: Option<Arc<HistoryCache>>,
    id: u64,
    salt: [u8; 32],
    /// What only whoever writes knows; held until readers are shown what was written.
    writing: Mutex<Writing>,
    /// Whether the disk failed. redb then takes nothing more until the store is opened again.
    failed: AtomicBool,
}

/// What only whoever writes knows.
struct Writing {
    journal: Journal,
    known: Known,
}

impl Store {
    /// Opens the store in a directory. What waits is read, and of the rest a handful of pages: how long
    /// it takes does not depend on the store's size.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::InUse`], [`StoreError::Format`], and faults of the
    /// disk.
    pub fn open(directory: &Path, settings: &Settings) -> Result<Store, StoreError> {
        if !directory.join(FILE).is_file() {
            return Err(StoreError::Missing { directory: directory.to_owned() });
        }
        let database = open(directory, FILE, settings)?;
        // What a compaction left that was killed: whoever holds the store knows that none is going on.
        let _ = fs::remove_file(directory.join(UNFINISHED));
        Store::of(directory, settings, database)
    }

    /// The store that a database holds.
    fn of(directory: &Path, settings: &Settings, database: Guarded) -> Result<Store, StoreError> {
        let histories = HistoryCache::new(settings.history_bytes).map(Arc::new);
        let (meta, salt) = guarded(|| Store::begun(directory, database.get()?))?;
        let id = match meta.id {
            Some(id) if meta.format == FORMAT => id,
            id => database.writing(|| migrate(directory, database.get()?, id))?,
        };
        let (current, journal) = guarded(|| Snapshot::first(database.get()?, histories.clone()))?;
        if let Some(histories) = &histories {
            histories.allow(settings.history_bytes_beside(current.ranges().bytes(), 0));
        }
        let (directory, settings, current) =
            (directory.to_owned(), settings.clone(), ArcSwap::from_pointee(current));
        let known = Known::default();
        let writing = Mutex::new(Writing { journal, known });
        let failed = AtomicBool::new(false);
        Ok(Store { directory, settings, database, current, histories, id, salt, writing, failed })
    }

    /// What a store reads first when it is opened.
    fn begun(directory: &Path, database: &Database) -> Result<(Meta, [u8; 32]), StoreError> {
        let transaction = database.begin_read().map_err(StoreError::of)?;
        let meta = Meta::read(&transaction.open_table(META).map_err(StoreError::of)?)?;
        let meta = match meta {
            None => return Err(StoreError::damaged("it has no format")),
            Some(Meta { format, .. }) if format > FORMAT => {
                let directory = directory.to_owned();
                return Err(StoreError::Format { directory, found: format });
            }
            Some(meta) => meta,
        };
        // Tables that only writers need. Were one of them damaged, redb would bring the process down
        // when it is opened beside others to write.
        transaction.open_table(SOURCES).map_err(StoreError::of)?;
        transaction.open_table(TOMBSTONES).map_err(StoreError::of)?;
        let salt = transaction.open_table(SALT).map_err(StoreError::of)?;
        let salt = salt.get(()).map_err(StoreError::of)?;
        let salt = *salt.ok_or_else(|| StoreError::damaged("it has no salt"))?.value();
        Ok((meta, salt))
    }

    /// The same, making an empty store where there is none.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_or_create(directory: &Path, settings: &Settings) -> Result<Store, StoreError> {
        if !directory.join(FILE).is_file() {
            create(directory, settings)?;
        }
        Store::open(directory, settings)
    }

    /// Where it lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What tells it from every other store, in 16 hexadecimal digits. It was drawn when the store was
    /// made, and a copy of the store has the same.
    pub fn id(&self) -> String {
        format!("{:016x}", self.id)
    }

    /// What is durable now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The instant from which on answers can be given at `now`: events before it may be gone, or are
    /// beyond what is to be kept, and no answer uses them. It moves once a day.
    pub fn kept_from(&self, now: Timestamp) -> Option<Timestamp> {
        self.current.load().kept_from().max(self.retained_from(now))
    }

    /// The beginning of the retention.
    fn retained_from(&self, now: Timestamp) -> Option<Timestamp> {
        let days = i64::from(self.settings.retention_days?);
        let today = now.0.div_euclid(MS_PER_DAY);
        Some(Timestamp(today.saturating_sub(days).saturating_mul(MS_PER_DAY)))
    }

    /// Keeps the records of a batch in one commit, and how far their file was taken. When this
    /// returns they are durable. Tells what became of each, in their order.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of the batch is kept then, unless the disk failed in the middle of the
    /// commit: it is then kept whole or not at all ([`Store::has_failed`]).
    pub fn append(
        &self,
        batch: &Batch,
        source: Option<&SourceProgress>,
    ) -> Result<Vec<Outcome>, StoreError> {
        if batch.is_empty() && source.is_none() {
            return Ok(Vec::new());
        }
        self.noting(self.database.writing(|| self.append_all(batch, source, |room, _| room)))
    }

    /// Puts all lines that wait into their customers' records. They need not be: a store that is opened
    /// after this has less to read.
    ///
    /// # Errors
    /// [`StoreError`]; what was not merged goes on waiting.
    pub fn settle(&self) -> Result<(), StoreError> {
        let nothing = Batch::default();
        let merged = |room: fn(Room, u64) -> Room| {
            let before = self.snapshot().n_waiting();
            self.noting(self.database.writing(|| self.append_all(&nothing, None, room)))?;
            Ok::<_, StoreError>(before - self.snapshot().n_waiting().min(before))
        };
        while self.snapshot().n_waiting() > 0 {
            // What waits for damaged records cannot be merged, and may be what was tried.
            if merged(Room::less)? == 0 && merged(Room::none)? == 0 {
                break;
            }
        }
        Ok(())
    }

    fn append_all(
        &self,
        batch: &Batch,
        source: Option<&SourceProgress>,
        room_for: impl FnOnce(Room, u64) -> Room,
    ) -> Result<Vec<Outcome>, StoreError> {
        let mut writing = self.begin_writing()?;
        let Writing { journal, known } = &mut *writing;
        let before = self.current.load_full();
        known.learn(&before, self.settings.known_bytes(before.n_customers()));
        let order = batch.by_customer();
        let room = Room::of(self.settings.waiting_bytes());
        let cut = before.ranges().cut(room.step()).map(|(ranges, were_cut)| {
            journal.cut(&were_cut);
            Arc::new(ranges)
        });
        let ranges = cut.as_ref().unwrap_or(before.ranges());
        let n_waiting = ranges.bytes();
        if let Some(histories) = &self.histories {
            histories.allow(self.settings.history_bytes_beside(n_waiting, known.bytes()));
        }
        let incoming = Incoming::new(ranges, batch, &order);
        let room = room_for(room, n_waiting);
        let mut due = Due::new(ranges, journal, &incoming, room);
        let transaction = self.begin()?;
        if let Some(n) = room.blocks(&due) {
            let table = transaction.open_table(RUN).map_err(StoreError::of)?;
            due.merge_of(ranges, &run::last_customers(&table, n)?);
        }
        // What is merged at once is compared with the records that it is put into.
        let waits = |place| incoming.range_at(place).is_some_and(|at| !due.is_merged(at));
        let sifted = Sifted::of(batch, order, known, &before, waits);
        let most_merged = self.settings.records_at_once();
        let appending = Appending::open(&transaction, self.salt, batch, most_merged)?;
        let mut appended = appending.all(ranges, &due, &incoming, &sifted)?;
        appended.write(&transaction, source)?;
        let (first_sequence, sequence) = (appended.first_sequence, appended.sequence());
        let ranges_after = if due.is_empty() {
            Arc::clone(ranges)
        } else {
            let is_busy = |at: usize| incoming.is_for(at);
            Arc::new(ranges.replaced(&appended.merged, first_sequence, is_busy))
        };
        if !Arc::ptr_eq(&ranges_after, before.ranges()) {
            ranges_after.write(&transaction)?;
        }
        let merged = appended.merged.iter().map(|(at, _)| ranges.bounds(*at).0.into()).collect();
        let floor = ranges_after.oldest(first_sequence);
        let added = appended.added;
        let change = journal.write(&transaction, first_sequence, added, ranges, merged, floor)?;
        let changed = batch.each_customer(&sifted.order).map(|records| batch.customer(records[0]));
        self.commit(transaction, ranges_after, change, journal, (changed, sequence))?;
        known.note(batch, &incoming, ranges, &sifted, &appended.newcomers);
        Ok(appended.outcomes)
    }

    /// How far a file was taken; `None` where it never was.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn source(&self, digest: &str) -> Result<Option<SourceProgress>, StoreError> {
        guarded(|| {
            let transaction = self.database.get()?.begin_read().map_err(StoreError::of)?;
            let sources = transaction.open_table(SOURCES).map_err(StoreError::of)?;
            let found = sources.get(digest).map_err(StoreError::of)?;
            Ok(found.map(|found| {
                let (rows, finished) = found.value();
                SourceProgress { digest: digest.to_owned(), rows, finished }
            }))
        })
    }

    /// A transaction after which the store opens at once, even where the process is killed.
    fn begin(&self) -> Result<WriteTransaction, StoreError> {
        begin(self.database.get()?)
    }

    /// Whether the disk failed under it. What is durable is safe, and nothing more is taken until the
    /// store is opened again.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Remembers where the disk failed.
    fn noting<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Database(_) | StoreError::Io { .. } | StoreError::Closed) = &result {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Waits until nobody else writes.
    fn begin_writing(&self) -> Result<MutexGuard<'_, Writing>, StoreError> {
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // What is in memory may then not be what is on the disk.
        if self.has_failed() { Err(StoreError::Closed) } else { Ok(writing) }
    }

    /// Makes a transaction durable that changed these customers and leads to this sequence, and shows it
    /// to readers. Where only the showing fails, what was written is durable, and the store is to be opened
    /// again.
    fn commit<'c>(
        &self,
        transaction: WriteTransaction,
        ranges: Arc<Ranges>,
        change: Change,
        journal: &mut Journal,
        (changed, sequence): (impl Iterator<Item = &'c str> + Send, u64),
    ) -> Result<(), StoreError> {
        // No reader of an earlier moment sees what begins after it, so that this need not wait for the
        // disk; where the disk fails nothing is taken any more.
        let prepare = || {
            if let Some(histories) = &self.histories {
                changed.for_each(|customer| histories.changed(customer, sequence));
            }
            ranges.show(&change)
        };
        let commit = || transaction.commit().map_err(StoreError::of);
        let (prepared, committed) = match change.n_bytes() {
            ..FEW_BYTES => (prepare(), commit()),
            _ => {
                let mut prepared = Ok(());
                let committed = rayon::in_place_scope(|scope| {
                    scope.spawn(|_| prepared = prepare());
                    commit()
                });
                (prepared, committed)
            }
        };
        let after = committed.and(prepared).and_then(|()| {
            journal.take_over(change);
            self.current.load().next(self.database.get()?, ranges)
        });
        if after.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        self.current.store(Arc::new(after?));
        Ok(())
    }
}

fn begin(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut transaction = database.begin_write().map_err(StoreError::of)?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Opens a database file of a store's directory. The unfinished one is made.
fn open(directory: &Path, file: &str, settings: &Settings) -> Result<Guarded, StoreError> {
    let path = directory.join(file);
    let is_new = file == UNFINISHED;
    let file = OpenOptions::new().read(true).write(true).create_new(is_new).open(&path);
    let length = |file: File| file.metadata().map(|metadata| (metadata.len(), file));
    let opened = file.and_then(length).map_err(|source| StoreError::Io { path, source });
    let (length, file) = opened?;
    if length == 0 && !is_new {
        // It would be taken for a new one.
        return Err(StoreError::damaged("its file is empty"));
    }
    Guarded::open(|| {
        file::database(file, settings.pages_bytes()).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                StoreError::InUse { directory: directory.to_owned() }
            }
            error => StoreError::of(error),
        })
    })
}

/// Makes an empty store. It appears under its name when it is whole.
fn create(directory: &Path, settings: &Settings) -> Result<(), StoreError> {
    let failed = |source| StoreError::Io { path: directory.to_owned(), source };
    make_private(directory).map_err(failed)?;
    let (id, salt) = (random().map_err(failed)?, random().map_err(failed)?);
    let _ = fs::remove_file(directory.join(UNFINISHED));
    let database = open(directory, UNFINISHED, settings)?;
    database.writing(|| found(database.get()?, u64::from_le_bytes(id), &salt))?;
    drop(database);
    // Another process may have made one meanwhile, which must not be put aside.
    match fs::hard_link(directory.join(UNFINISHED), directory.join(FILE)) {
        Ok(()) => fs::remove_file(directory.join(UNFINISHED)).map_err(failed)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        // Not every file system has links.
        Err(_) => {}
    }
    if directory.join(FILE).is_file() {
        sync(directory).map_err(failed)?;
    } else {
        finish(directory)?;
    }
    // The directory's own name must last too.
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))
        .and_then(|parent| parent.sync_all())
        .map_err(failed)
}

/// Makes a directory that nobody else may look into, unless it is there.
fn make_private(directory: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(directory)
}

/// Bytes that nobody can guess. No answer depends on them.
#[expect(clippy::disallowed_methods, reason = "a salt that could be made again would hide nobody")]
fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// Makes a store of an earlier format one of the present, and gives it an id where it has none. All
/// that it held stays as it is: format 1 had nothing that waits, in format 2 lines that wait did not
/// say whether their customer has a record, which is read as that nobody knows, and format 3 had no sorted
/// run.
fn migrate(directory: &Path, database: &Database, id: Option<u64>) -> Result<u64, StoreError> {
    let failed = |source| StoreError::Io { path: directory.to_owned(), source };
    let id = match id {
        Some(id) => id,
        None => u64::from_le_bytes(random().map_err(failed)?),
    };
    let transaction = begin(database)?;
    with_tables(&transaction)?;
    let heads = transaction.open_table(HEADS).map_err(StoreError::of)?;
    let customers = heads.len().map_err(StoreError::of)?;
    drop(heads);
    let mut table = transaction.open_table(META).map_err(StoreError::of)?;
    let meta = Meta::read(&table)?.ok_or_else(|| StoreError::damaged("it has no format"))?;
    let meta = match meta.format {
        1 => Meta { customers, waiting: 0, ..meta },
        _ => meta,
    };
    let meta = Meta { format: FORMAT, id: Some(id), ..meta };
    meta.write(&mut table)?;
    drop(table);
    transaction.commit().map_err(StoreError::of)?;
    Ok(id)
}

/// Makes an empty database a store.
fn found(database: &Database, id: u64, salt: &[u8; 32]) -> Result<(), StoreError> {
    let (format, id, newest, kept_from, names) = (FORMAT, Some(id), None, None, None);
    let (sequence, customers, lines, waiting, in_run, abouts) = (0, 0, 0, 0, 0, 0);
    #[rustfmt::skip]
    let meta = Meta {
        format, id, sequence, customers, lines, waiting, in_run, abouts, newest, kept_from, names,
    };
    let transaction = begin(database)?;
    with_tables(&transaction)?;
    meta.write(&mut transaction.open_table(META).map_err(StoreError::of)?)?;
    let mut table = transaction.open_table(SALT).map_err(StoreError::of)?;
    table.insert((), salt).map_err(StoreError::of)?;
    drop(table);
    transaction.commit().map_err(StoreError::of)
}

/// Makes all tables, so that readers find them.
fn with_tables(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(HEADS).map_err(StoreError::of)?;
    transaction.open_table(MORE).map_err(StoreError::of)?;
    transaction.open_table(JOURNAL).map_err(StoreError::of)?;
    transaction.open_table(RUN).map_err(StoreError::of)?;
    transaction.open_table(RANGES).map_err(StoreError::of)?;
    transaction.open_table(NAMES).map_err(StoreError::of)?;
    transaction.open_table(SOURCES).map_err(StoreError::of)?;
    transaction.open_table(TOMBSTONES).map_err(StoreError::of)?;
    Ok(())
}

/// Gives the unfinished file its name, for good.
fn finish(directory: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Io { path: directory.to_owned(), source };
    fs::rename(directory.join(UNFINISHED), directory.join(FILE)).map_err(failed)?;
    sync(directory).map_err(failed)
}

/// Makes the names in a directory durable.
fn sync(directory: &Path) -> std::io::Result<()> {
    File::open(directory).and_then(|directory| directory.sync_all())
}

/// What stands for an erased customer's id.
fn tombstone(salt: &[u8; 32], customer: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(salt);
    hasher.update(customer.as_bytes());
    hasher.finalize().into()
}

/// The id that a key is.
fn id_of(key: &[u8]) -> Result<&str, StoreError> {
    std::str::from_utf8(key).map_err(|_| StoreError::damaged("an id of a customer is no text"))
}

fn damaged_record(customer: &str) -> StoreError {
    StoreError::DamagedRecord { customer: customer.to_owned() }
}
