//! Names that point at versions, and how they came to.

use super::files::{self, io};
use super::{Deed, Registry, RegistryError};
use habitus_engine::domain::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const HISTORY: &str = "history.ndjson";

/// One change of an alias, as the history keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Change {
    at: Timestamp,
    alias: String,
    action: Action,
    version: String,
    /// What the alias meant before: a process that died may have changed it without a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    /// What the gate had against it, where somebody forced it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overruled: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Set,
    RollBack,
}

impl Change {
    fn deed(&self, name: &str) -> Deed {
        let (model, alias, version) = (name.to_owned(), self.alias.clone(), self.version.clone());
        match self.action {
            Action::Set => {
                Deed::SetAlias { model, alias, version, overruled: self.overruled.clone() }
            }
            Action::RollBack => Deed::RollBack { model, alias, version },
        }
    }
}

impl Registry {
    /// The aliases of a model and the versions they mean.
    ///
    /// # Errors
    /// [`RegistryError::Io`].
    pub fn aliases(&self, name: &str) -> Result<BTreeMap<String, String>, RegistryError> {
        if !super::is_plain_name(name) {
            return Err(RegistryError::UnknownModel { name: name.to_owned() });
        }
        let directory = self.alias_directory(name);
        let mut aliases = BTreeMap::new();
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(aliases),
            Err(error) => return Err(io(&directory)(error)),
        };
        for entry in entries {
            let path = entry.map_err(io(&directory))?.path();
            let Some(alias) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if alias != HISTORY && super::is_plain_name(alias) {
                let version = fs::read_to_string(&path).map_err(io(&path))?;
                aliases.insert(alias.to_owned(), version.trim().to_owned());
            }
        }
        Ok(aliases)
    }

    /// The version that one alias means, if there is such an alias. A directory that is listed while
    /// an alias in it is replaced may show it under neither its old file nor its new one; the file
    /// itself is always there.
    pub(super) fn pointed(&self, name: &str, alias: &str) -> Result<Option<String>, RegistryError> {
        if alias == HISTORY || !super::is_plain_name(alias) {
            return Ok(None);
        }
        let path = self.alias_path(name, alias);
        match fs::read_to_string(&path) {
            Ok(version) => Ok(Some(version.trim().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io(&path)(error)),
        }
    }

    /// Points an alias at a version, in one step. The production alias goes through the gate instead:
    /// [`Registry::promote`].
    ///
    /// # Errors
    /// [`RegistryError::UnknownVersion`], [`RegistryError::Io`].
    pub fn set_alias(
        &self,
        name: &str,
        alias: &str,
        version: &str,
        at: Timestamp,
    ) -> Result<(), RegistryError> {
        let version = self.resolve(name, version)?;
        self.point(name, alias, version, None, at)
    }

    pub(super) fn point(
        &self,
        name: &str,
        alias: &str,
        version: String,
        overruled: Option<String>,
        at: Timestamp,
    ) -> Result<(), RegistryError> {
        let before = self.aliases(name)?.remove(alias);
        if before.as_ref() == Some(&version) {
            return Ok(());
        }
        let alias = alias.to_owned();
        self.change(name, Change { at, alias, action: Action::Set, version, before, overruled })
    }

    /// Points an alias at the version that it meant before the last change, and returns that
    /// version. Going back twice goes back two versions.
    ///
    /// # Errors
    /// [`RegistryError::NothingToRollBack`], [`RegistryError::UnknownVersion`] where the earlier
    /// version is gone, [`RegistryError::Io`].
    pub fn roll_back(
        &self,
        name: &str,
        alias: &str,
        at: Timestamp,
    ) -> Result<String, RegistryError> {
        let current = self.aliases(name)?.remove(alias);
        let mut past: Vec<String> = Vec::new();
        for change in self.history(name)?.into_iter().filter(|change| change.alias == alias) {
            match change.action {
                Action::Set => {
                    past.extend(change.before.filter(|before| past.last() != Some(before)));
                    past.push(change.version);
                }
                Action::RollBack => drop(past.pop()),
            }
        }
        // The current version may stand in the history twice, or not at all after a crash.
        if let Some(now) = past.iter().rposition(|version| Some(version) == current.as_ref()) {
            past.truncate(now);
        }
        past.dedup();
        let earlier = past.into_iter().rev().find(|version| Some(version) != current.as_ref());
        let version = earlier.ok_or_else(|| RegistryError::NothingToRollBack {
            name: name.to_owned(),
            alias: alias.to_owned(),
        })?;
        let version = self.resolve(name, &version)?;
        let change = Change {
            at,
            alias: alias.to_owned(),
            action: Action::RollBack,
            version: version.clone(),
            before: current,
            overruled: None,
        };
        self.change(name, change)?;
        Ok(version)
    }

    /// The alias moves first: should the process die in between, the history lacks a change, which the
    /// next one tells of, rather than tell of one that was never made.
    fn change(&self, name: &str, change: Change) -> Result<(), RegistryError> {
        let directory = self.alias_directory(name);
        files::make_directory(&directory)?;
        let path = directory.join(HISTORY);
        let line = serde_json::to_string(&change).map_err(|error| damaged(&path, &error))?;
        self.note(&change.deed(name), change.at)?;
        files::replace(&directory.join(&change.alias), format!("{}\n", change.version).as_bytes())?;
        files::append(&path, &line)
    }

    fn history(&self, name: &str) -> Result<Vec<Change>, RegistryError> {
        let path = self.alias_directory(name).join(HISTORY);
        match fs::read_to_string(&path) {
            // A line that a crash cut short tells of a change that was not made.
            Ok(text) => text
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'))
                .map(|line| serde_json::from_str(line).map_err(|error| damaged(&path, &error)))
                .collect(),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(io(&path)(error)),
        }
    }

    pub(super) fn alias_path(&self, name: &str, alias: &str) -> PathBuf {
        self.alias_directory(name).join(alias)
    }

    fn alias_directory(&self, name: &str) -> PathBuf {
        self.root().join(name).join("aliases")
    }
}

/// The aliases that point at a version, sorted.
pub fn pointing_at(aliases: &BTreeMap<String, String>, version: &str) -> Vec<String> {
    let pointing = aliases.iter().filter(|(_, target)| *target == version);
    pointing.map(|(alias, _)| alias.clone()).collect()
}

fn damaged(path: &Path, error: &serde_json::Error) -> RegistryError {
    RegistryError::Damaged { path: path.to_owned(), reason: error.to_string() }
}
