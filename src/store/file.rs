//! The file that redb keeps its pages in.

use redb::StorageBackend;
use redb::backends::FileBackend;
use redb::{BackendError, Builder, Database, DatabaseError};
use std::fs::File;
use std::io;
use std::ops::Bound;

/// A file whose length is durable before anything relies on it.
///
/// redb notes a new length in the file's first page and syncs both together. Where the power is cut
/// in between, the page may be on the disk and the length not; it then refuses the file for good.
#[derive(Debug)]
pub(super) struct Lengthened<B>(pub B);

impl<B: StorageBackend> StorageBackend for Lengthened<B> {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)?;
        self.0.sync_data()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write(offset, bytes)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}

/// The database in a file, which nobody else may hold. An empty file becomes an empty database.
pub(super) fn database(file: File, cache_bytes: usize) -> Result<Database, DatabaseError> {
    let backend = Lengthened(FileBackend::new(file)?);
    Builder::new().set_cache_size(cache_bytes).create_with_backend(backend)
}
