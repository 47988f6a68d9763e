//! Why a store could not be opened, read or written.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// The format that this program writes. A store of an older one is migrated when it is opened.
pub const FORMAT: u64 = 5;

/// Longer ids are no ids, and every key would carry them.
pub const MAX_ID_BYTES: usize = 1024;

/// Names of attributes that a store knows, at most. All of them are in memory, and a history has a
/// place for each.
pub const MAX_NAMES: usize = 4096;

/// A fault of the disk, of what lies on it, or of a record.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("there is no store in {}", directory.display())]
    Missing { directory: PathBuf },
    #[error("the store in {} is in use by another process", directory.display())]
    InUse { directory: PathBuf },
    #[error("the store in {} has format {found}, this program reads up to {FORMAT}", directory.display())]
    Format { directory: PathBuf, found: u64 },
    #[error("the store is damaged: {what}")]
    Damaged { what: String },
    #[error("the store is damaged: the record of customer `{customer}` is not what was written")]
    DamagedRecord { customer: String },
    #[error("{} cannot be used", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the store's database failed")]
    Database(#[source] Box<redb::Error>),
    #[error("the store no longer takes records; it was closed or its disk failed before")]
    Closed,
}

impl StoreError {
    /// What redb says of a database that is there.
    pub(super) fn of(error: impl Into<redb::Error>) -> StoreError {
        match error.into() {
            redb::Error::Corrupted(what) => StoreError::Damaged { what },
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => StoreError::Closed,
            redb::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                StoreError::damaged("its file ends before a page does")
            }
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                StoreError::damaged("its file is no database")
            }
            error @ (redb::Error::TableDoesNotExist(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. }) => StoreError::damaged(error.to_string()),
            error => StoreError::Database(Box::new(error)),
        }
    }

    /// A record that is not what was written.
    pub(super) fn damaged(what: impl Into<String>) -> StoreError {
        StoreError::Damaged { what: what.into() }
    }
}
