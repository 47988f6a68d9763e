//! The alias that a server follows: where it comes to mean another version, that one is served.

use super::{LoadedModel, Serving, ServingError};
use crate::registry::RegistryError;
use std::error::Error;
use std::sync::{Arc, PoisonError};

/// What a look at the followed alias came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// The served version is the one that the alias means, or the server is pinned.
    Same,
    /// Another version is served from now on.
    Swapped { from: String, to: String },
    /// What the alias means cannot be served, so the version before it goes on.
    Refused,
}

/// What stood in the way of the last swap, so that it is told once and not tried at every look.
#[derive(Debug, Default)]
pub struct Obstacle {
    /// The version that waiting will not make fit.
    version: Option<String>,
    told: Option<String>,
}

impl Obstacle {
    fn bars(&self, version: &str) -> bool {
        self.version.as_deref() == Some(version)
    }

    /// Remembers why a version cannot be served, or, without one, why nobody knows what the alias
    /// means. Says whether that is news.
    fn met(&mut self, version: Option<&str>, error: &ServingError) -> bool {
        // A disk that cannot be read now may be read later; a bad version stays bad.
        // And a store may be told of customers at any moment.
        let passes = matches!(
            error,
            ServingError::Registry(RegistryError::Io { .. }) | ServingError::CustomersNeeded { .. }
        );
        if let Some(version) = version {
            self.version = (!passes).then(|| version.to_owned());
        }
        let told = Some(error.to_string());
        let is_news = self.told != told;
        self.told = told;
        is_news
    }
}

impl Serving {
    /// Makes the served version the one that `alias` means, whenever [`Serving::follow`] looks.
    pub fn following(mut self, alias: &str) -> Serving {
        self.follows = Some(alias.to_owned());
        self
    }

    /// The alias whose version is served. A server without one is pinned to its version.
    pub fn follows(&self) -> Option<&str> {
        self.follows.as_deref()
    }

    /// Asks the registry what the followed alias means, and serves that version from now on. Calls
    /// under way go on with the version that they took, and who names that one finds it in memory.
    ///
    /// A version that cannot be served is told once, and not tried again until the alias means
    /// another one. Waits for the disk.
    pub fn follow(&self) -> Followed {
        self.look(false)
    }

    /// The same, and a version that was refused is tried again.
    pub(super) fn follow_again(&self) -> Followed {
        self.look(true)
    }

    fn look(&self, again: bool) -> Followed {
        let Some(alias) = self.follows() else { return Followed::Same };
        // One look at a time, so that nobody swaps to what the alias meant before. A thread that
        // panicked here left at worst an old obstacle, so its mark is passed over.
        let mut obstacle = self.obstacle.lock().unwrap_or_else(PoisonError::into_inner);
        if again {
            *obstacle = Obstacle::default();
        }
        let served = self.served();
        let (name, from) = (served.name(), served.version());
        let refuse = |obstacle: &mut Obstacle, to: Option<&str>, error: ServingError| {
            if obstacle.met(to, &error) {
                let cause: &(dyn Error + 'static) = &error;
                tracing::error!(name, alias, served = from, to, error = cause, "not swapped");
            }
            Followed::Refused
        };
        let to = match self.registry.resolve(name, alias) {
            Ok(to) => to,
            Err(error) => return refuse(&mut obstacle, None, error.into()),
        };
        if to == from {
            *obstacle = Obstacle::default();
            return Followed::Same;
        }
        if obstacle.bars(&to) {
            return Followed::Refused;
        }
        match self.in_memory_or_read(name, &to) {
            Ok(model) => {
                self.swap(&served, model);
                *obstacle = Obstacle::default();
                tracing::info!(name, alias, from, to, "swapped");
                Followed::Swapped { from: from.to_owned(), to }
            }
            Err(error) => refuse(&mut obstacle, Some(&to), error),
        }
    }

    /// A version in memory was checked when it was read, and a version never changes, so the disk is
    /// not asked again: going back is quick and needs no artefact.
    fn in_memory_or_read(
        &self,
        name: &str,
        version: &str,
    ) -> Result<Arc<LoadedModel>, ServingError> {
        match self.others.get(version) {
            Some(model) => Ok(model),
            None => self.fit(name, version),
        }
    }

    /// The version before is kept first, so that who names it finds it at every moment.
    fn swap(&self, before: &Arc<LoadedModel>, model: Arc<LoadedModel>) {
        self.others.keep(before.version(), Arc::clone(before));
        self.served.store(model);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn damaged(path: &str) -> ServingError {
        let reason = "it is missing".to_owned();
        RegistryError::Damaged { path: PathBuf::from(path), reason }.into()
    }

    fn unreadable(path: &str) -> ServingError {
        let source = std::io::Error::other("too many open files");
        RegistryError::Io { path: PathBuf::from(path), source }.into()
    }

    #[test]
    fn a_refused_version_is_told_once_and_bars_itself_alone() {
        let mut obstacle = Obstacle::default();
        assert!(!obstacle.bars("b"));
        assert!(obstacle.met(Some("b"), &damaged("b")));
        assert!(obstacle.bars("b") && !obstacle.bars("c"));
        assert!(!obstacle.met(Some("b"), &damaged("b")));
        assert!(obstacle.met(Some("c"), &damaged("c")));
        assert!(obstacle.bars("c") && !obstacle.bars("b"));
    }

    #[test]
    fn what_may_pass_is_told_once_and_tried_again() {
        let mut obstacle = Obstacle::default();
        assert!(obstacle.met(Some("b"), &unreadable("b")));
        assert!(!obstacle.bars("b"));
        assert!(!obstacle.met(Some("b"), &unreadable("b")));
        assert!(obstacle.met(Some("b"), &damaged("b")));
        assert!(obstacle.bars("b"));
        // An alias that cannot be read for a moment does not make the version fit.
        assert!(obstacle.met(None, &unreadable("alias")));
        assert!(obstacle.bars("b"));
    }
}
