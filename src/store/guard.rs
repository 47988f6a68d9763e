//! Where redb's panics end.
//!
//! redb takes the pages of its file at their word: of a damaged one it may panic. Whoever reads a
//! damaged store is told so instead, and one that broke down while it was written to is written to
//! no more.

use super::StoreError;
use crate::panics::{Panic, caught};
use redb::Database;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};

/// A database that is only ever worked with where its panics end.
pub(super) struct Guarded {
    /// `None` once it was let go of.
    database: Option<Database>,
    /// Whether it broke down, so that nothing may be written.
    broken: AtomicBool,
}

impl Guarded {
    /// Opens a database.
    pub fn open(
        open: impl FnOnce() -> Result<Database, StoreError>,
    ) -> Result<Guarded, StoreError> {
        let database = guarded(open)?;
        Ok(Guarded { database: Some(database), broken: AtomicBool::new(false) })
    }

    /// The database itself, for guarded work.
    pub fn get(&self) -> Result<&Database, StoreError> {
        self.database.as_ref().ok_or(StoreError::Closed)
    }

    /// Does work that writes, unless such work broke down before.
    pub fn writing<T>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.broken.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        caught(work).unwrap_or_else(|panic| {
            self.broken.store(true, Ordering::Release);
            Err(broke_down(&panic))
        })
    }

    /// Reads all pages, of which none may be in use, and mends what can be mended. Says whether all
    /// were whole.
    pub fn check_integrity(&mut self) -> Result<bool, StoreError> {
        let database = self.database.as_mut().ok_or(StoreError::Closed)?;
        let checked = guarded(|| database.check_integrity().map_err(StoreError::of));
        if checked.is_err() {
            self.broken.store(true, Ordering::Release);
        }
        checked
    }

    /// Moves pages to the front of the file and cuts off what is free.
    pub fn compact(&mut self) -> Result<bool, StoreError> {
        let database = self.database.as_mut().ok_or(StoreError::Closed)?;
        guarded(|| database.compact().map_err(StoreError::of))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let (database, broken) = (self.database.take(), self.broken.load(Ordering::Acquire));
        // It writes when it is closed in good order, which it is unless a panic goes on.
        let _ = caught(|| {
            let _database = database;
            if broken {
                resume_unwind(Box::new(()));
            }
        });
    }
}

/// Does what may come upon a damaged page.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    caught(work).unwrap_or_else(|panic| Err(broke_down(&panic)))
}

/// The same of a work that calls back, by way of [`outside`](crate::panics::outside).
pub(super) fn guarded_with<E: From<StoreError>>(
    work: impl FnOnce() -> Result<(), E>,
) -> Result<(), E> {
    // The caller's panic is no fault of the store.
    caught(work).unwrap_or_else(|panic| Err(broke_down(&panic.or_resume()).into()))
}

fn broke_down(panic: &Panic) -> StoreError {
    StoreError::damaged(format!("the database broke down over a page: {}", panic.told()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panics::outside;
    use std::panic::catch_unwind;

    #[test]
    fn a_panic_is_told_as_an_error_and_a_callers_is_not() {
        let error = guarded(|| -> Result<(), StoreError> { panic!("a page\nof nonsense") });
        let error = error.unwrap_err().to_string();
        assert!(error.contains("a page (src") || error.contains("guard.rs"), "{error}");
        let work = || guarded_with(|| outside(|| -> Result<(), StoreError> { panic!("mine") }));
        assert!(catch_unwind(work).is_err());
    }
}
