//! The file that redb keeps its pages in.

use redb::StorageBackend;
use redb::backends::FileBackend;
use redb::{BackendError, Builder, Database, DatabaseError};
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// Where a commit has written so much, it begins to be synced while it goes on.
const AHEAD_BYTES: u64 = if cfg!(test) { 16 << 10 } else { 4 << 20 };

/// A file whose length is durable before anything relies on it, and of which large commits are on their way
/// to the disk before they are complete.
///
/// redb notes a new length in the file's first page and syncs both together. Where the power is cut
/// in between, the page may be on the disk and the length not; it then refuses the file for good.
#[derive(Debug)]
pub(super) struct OnDisk<B> {
    backend: Arc<B>,
    ahead: Mutex<Ahead>,
}

/// What is synced before it has to be.
#[derive(Debug, Default)]
struct Ahead {
    /// Bytes that were written since.
    written: u64,
    going: Option<JoinHandle<io::Result<()>>>,
    /// What the disk said, which says so once only. It is for whoever relies on a sync: redb forgets the
    /// errors of some writes.
    failed: Option<io::Error>,
}

impl Ahead {
    /// Waits until nothing is synced any more.
    fn join(&mut self) {
        self.written = 0;
        let Some(going) = self.going.take() else { return };
        let broke_down = |_| Err(io::Error::other("a sync of the disk broke down"));
        let failed = going.join().unwrap_or_else(broke_down).err();
        self.failed = self.failed.take().or(failed);
    }

    /// The same, and tells where one failed.
    fn end(&mut self) -> io::Result<()> {
        self.join();
        self.failed.take().map_or(Ok(()), Err)
    }
}

impl<B: StorageBackend> OnDisk<B> {
    pub fn new(backend: B) -> OnDisk<B> {
        OnDisk { backend: Arc::new(backend), ahead: Mutex::default() }
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever opens the file next finds it free.
impl<B> Drop for OnDisk<B> {
    fn drop(&mut self) {
        let ahead = self.ahead.get_mut().unwrap_or_else(PoisonError::into_inner);
        ahead.join();
    }
}

impl<B: StorageBackend> StorageBackend for OnDisk<B> {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.backend.set_len(length)?;
        self.sync_data()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.ahead().end()?;
        self.backend.sync_data()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.backend.write(offset, bytes)?;
        let mut ahead = self.ahead();
        ahead.written += bytes.len() as u64;
        let is_going =
            |ahead: &Ahead| ahead.going.as_ref().is_some_and(|going| !going.is_finished());
        if ahead.written >= AHEAD_BYTES && !is_going(&ahead) {
            ahead.join();
            let backend = Arc::clone(&self.backend);
            let sync = thread::Builder::new().name("store sync".to_owned());
            // Without a thread all is synced in the end.
            ahead.going = sync.spawn(move || backend.sync_data()).ok();
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        let ended = self.ahead().end();
        self.backend.close().and(ended)
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.query_lock_range(start, end)
    }
}

/// The database in a file, which nobody else may hold. An empty file becomes an empty database.
pub(super) fn database(file: File, cache_bytes: usize) -> Result<Database, DatabaseError> {
    let backend = OnDisk::new(FileBackend::new(file)?);
    Builder::new().set_cache_size(cache_bytes).create_with_backend(backend)
}
