//! Aliases, changed through a running server, which serves what the alias that it follows means from
//! then on.

use super::{Serving, ServingError};
use crate::registry::{PRODUCTION, RegistryError, is_plain_name};
use habitus_engine::domain::Timestamp;
use std::sync::{MutexGuard, PoisonError};

/// The file beside the aliases that keeps their changes.
const HISTORY: &str = "history.ndjson";

/// An alias after a change, the version that it means now, and the one that is served now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointed {
    pub name: String,
    pub alias: String,
    pub version: String,
    /// Absent for a model that is not served.
    pub served: Option<String>,
}

impl Serving {
    /// Points an alias at a version, of the served model where none is named. The production alias
    /// goes through the gate, which `force` overrules. Where the server follows the alias, the
    /// version is served as soon as this returns, unless it cannot be. Waits for the disk.
    ///
    /// # Errors
    /// [`ServingError::BadAlias`], and [`ServingError::Registry`] where the gate refuses too.
    pub fn set_alias(
        &self,
        name: Option<&str>,
        alias: &str,
        reference: &str,
        force: bool,
        at: Timestamp,
    ) -> Result<Pointed, ServingError> {
        check(alias)?;
        let served = self.served();
        let name = name.unwrap_or(served.name());
        let _turn = self.turn();
        let version = self.registry.resolve(name, reference)?;
        if alias == PRODUCTION {
            self.registry.promote(name, &version, force, at)?;
        } else {
            self.registry.set_alias(name, alias, &version, at)?;
        }
        Ok(self.pointed(name, alias, version))
    }

    /// Points an alias, `production` where none is named, at the version that it meant before the
    /// last change. What is served follows as after [`Serving::set_alias`]. Waits for the disk.
    ///
    /// # Errors
    /// [`ServingError::BadAlias`], and [`ServingError::Registry`] where there is nothing to go back
    /// to.
    pub fn roll_back(
        &self,
        name: Option<&str>,
        alias: Option<&str>,
        at: Timestamp,
    ) -> Result<Pointed, ServingError> {
        let alias = alias.unwrap_or(PRODUCTION);
        check(alias)?;
        let served = self.served();
        let name = name.unwrap_or(served.name());
        let _turn = self.turn();
        // The registry would say of a model that nobody knows that its alias has no past. An alias
        // that points nowhere is no error here: going back repairs it.
        if let Err(error @ RegistryError::UnknownModel { .. }) = self.registry.resolve(name, alias)
        {
            return Err(error.into());
        }
        let version = self.registry.roll_back(name, alias, at)?;
        Ok(self.pointed(name, alias, version))
    }

    /// What became of a change. It is looked at while no other change can be made, so that the
    /// served version is told as this change left it.
    fn pointed(&self, name: &str, alias: &str, version: String) -> Pointed {
        if name == self.served().name() && self.follows() == Some(alias) {
            // Whoever asked for the change wants it tried, also where it was refused before.
            self.follow_again();
        }
        let served = self.served();
        let served = (served.name() == name).then(|| served.version().to_owned());
        Pointed { name: name.to_owned(), alias: alias.to_owned(), version, served }
    }

    /// A thread that panicked here left files that are whole, so its mark is passed over.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses what must not become an alias, though it is a plain name: the file beside the aliases,
/// and what looks like a version, because an alias is looked up before a version of the same name.
fn check(alias: &str) -> Result<(), ServingError> {
    let end = alias.rsplit_once('-').map_or("", |(_, end)| end);
    let is_version = end.len() == 12 && end.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_plain_name(alias) || alias == HISTORY || is_version {
        return Err(ServingError::BadAlias { alias: alias.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_no_path_no_file_of_the_registry_and_no_version() {
        for good in [PRODUCTION, "canary", "eu-west.2", "a-abcdef12345", "a-abcdef12345g"] {
            assert!(check(good).is_ok(), "{good}");
        }
        let bad = ["", "..", "a/b", "Canary", "an alias", HISTORY, "2021-12-31-abcdef123456"];
        for bad in bad {
            assert!(matches!(check(bad), Err(ServingError::BadAlias { .. })), "{bad}");
        }
    }
}
