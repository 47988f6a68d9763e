//! Who changed what answers, and whom: a line for each promotion, rollback and erasure, in a file to
//! which lines are only ever added.

use super::files;
use super::{Registry, RegistryError};
use habitus_engine::domain::Timestamp;
use serde::Serialize;

/// The file in the registry's directory.
const FILE: &str = "audit.ndjson";

/// What somebody is about to do. It is told before it is done, so that nothing is done that no line
/// tells of; whoever has the file knows that it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Deed {
    /// An alias is to mean another version; `overruled` is what the gate had against it.
    SetAlias {
        model: String,
        alias: String,
        version: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        overruled: Option<String>,
    },
    /// The gate kept a version out.
    Refused { model: String, version: String, reason: String },
    /// An alias is to mean again what it meant before.
    RollBack { model: String, alias: String, version: String },
    /// A customer is to be erased from a store: a salted hash stands for the id.
    Erase { customer_hash: String, store: String },
    /// A store is to be written anew.
    Compact { store: String },
}

#[derive(Serialize)]
struct Line<'a> {
    at: Timestamp,
    #[serde(flatten)]
    deed: &'a Deed,
}

impl Registry {
    /// Notes what is about to be done, for good. Waits for the disk.
    ///
    /// # Errors
    /// [`RegistryError::Io`]; what cannot be noted is not to be done.
    pub fn note(&self, deed: &Deed, at: Timestamp) -> Result<(), RegistryError> {
        let path = self.root().join(FILE);
        files::make_directory(self.root())?;
        let line = serde_json::to_string(&Line { at, deed }).map_err(|error| {
            RegistryError::Damaged { path: path.clone(), reason: error.to_string() }
        })?;
        files::append(&path, &line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn lines_are_added_and_tell_what_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let registry = Registry::open(directory.path());
        let [model, alias, version] = ["shop", "production", "v"].map(String::from);
        let store = "store".to_owned();
        let set = Deed::SetAlias { model, alias, version, overruled: None };
        registry.note(&set, Timestamp(0)).unwrap();
        let erase = Deed::Erase { customer_hash: "ab".into(), store };
        registry.note(&erase, Timestamp(1_000)).unwrap();
        let text = fs::read_to_string(directory.path().join(FILE)).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["action"], "set_alias");
        assert_eq!(lines[0]["version"], "v");
        assert_eq!(
            (&lines[1]["action"], &lines[1]["customer_hash"]),
            (&"erase".into(), &"ab".into())
        );
    }
}
