//! A few things that were costly to load, until others are asked for more recently.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Holds at most `capacity` things by name. The one that was not asked for the longest goes first;
/// whoever still works with it keeps it alive until done.
///
/// It is generic so that its rule can be tested without a trained version.
#[derive(Debug)]
pub struct Recent<T> {
    capacity: usize,
    /// From the least to the most recently asked for. The list is so short that a scan is cheap.
    entries: Mutex<VecDeque<(String, Arc<T>)>>,
}

impl<T> Recent<T> {
    pub fn new(capacity: usize) -> Recent<T> {
        Recent { capacity, entries: Mutex::new(VecDeque::new()) }
    }

    /// The thing of this name, where it is held. Asking for it makes it the most recent.
    pub fn get(&self, name: &str) -> Option<Arc<T>> {
        let mut entries = self.entries();
        let at = entries.iter().position(|(held, _)| held == name)?;
        let entry = entries.remove(at)?;
        let thing = Arc::clone(&entry.1);
        entries.push_back(entry);
        Some(thing)
    }

    /// Holds a thing as the most recent, in the place of one of the same name.
    pub fn keep(&self, name: &str, thing: Arc<T>) {
        let mut entries = self.entries();
        entries.retain(|(held, _)| held != name);
        entries.push_back((name.to_owned(), thing));
        while entries.len() > self.capacity {
            entries.pop_front();
        }
    }

    /// A thread that panicked here left a list that is still whole, so its mark is passed over.
    fn entries(&self) -> MutexGuard<'_, VecDeque<(String, Arc<T>)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_asked_for_goes_first() {
        let recent = Recent::new(2);
        recent.keep("a", Arc::new(1));
        recent.keep("b", Arc::new(2));
        assert_eq!(recent.get("a").as_deref(), Some(&1));
        recent.keep("c", Arc::new(3));
        assert_eq!(recent.get("b"), None);
        assert_eq!(recent.get("a").as_deref(), Some(&1));
        assert_eq!(recent.get("c").as_deref(), Some(&3));
    }

    #[test]
    fn a_name_is_held_once() {
        let recent = Recent::new(2);
        recent.keep("a", Arc::new(1));
        recent.keep("b", Arc::new(2));
        recent.keep("a", Arc::new(3));
        assert_eq!(recent.get("a").as_deref(), Some(&3));
        assert_eq!(recent.get("b").as_deref(), Some(&2));
    }
}
