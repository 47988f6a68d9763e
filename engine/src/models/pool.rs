//! Threads of a fit, and room for them to work in that is used again from pass to pass.

use std::sync::{Mutex, PoisonError};

/// Does all of a fit's work on one of the threads that share it. From there each pass over the rows
/// begins at once, while from elsewhere a thread would have to be woken for it, and wake the caller.
pub(super) fn among_threads<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

/// Rooms that nobody is in. There are never more than were in use at once.
pub(super) struct Pool<T> {
    free: Mutex<Vec<T>>,
}

impl<T> Pool<T> {
    /// No room yet.
    pub fn new() -> Pool<T> {
        Pool { free: Mutex::new(Vec::new()) }
    }

    /// Works in a free room, or in one that is made. No lock is held meanwhile: a source of rows may
    /// let its thread do other work of ours while it waits.
    pub fn with<R>(&self, make: impl FnOnce() -> T, work: impl FnOnce(&mut T) -> R) -> R {
        let free = self.lock().pop();
        let mut room = free.unwrap_or_else(make);
        let done = work(&mut room);
        self.lock().push(room);
        done
    }

    /// All rooms, while nobody is in one.
    pub fn rooms(&mut self) -> &mut [T] {
        self.free.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<T>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
