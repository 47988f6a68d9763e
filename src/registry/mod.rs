//! Model versions on disk: published once, checked on every load, pointed at by aliases.
//!
//! ```text
//! <models>/<name>/<version>/manifest.json    what went in, and the digest
//!                           parameters.json  the engine's ModelVersion
//!                           metrics.json     the evaluation, outside the digest
//!                           report.md        the same for people, outside the digest
//!                           SHA256SUMS       the digest of each of these files
//! <models>/<name>/verdicts/<version>.json    what the gate says of it
//! <models>/<name>/aliases/production         one line: a version
//! <models>/<name>/aliases/history.ndjson     every change of an alias
//! <models>/audit.ndjson                      every change of an alias, refusal and erasure
//! ```
//!
//! A version's directory appears under its name only when it is whole, and never changes.

mod alias;
mod artefact;
mod audit;
mod difference;
mod error;
mod examine;
mod files;
mod manifest;
#[cfg(test)]
mod tests;
mod verdict;

pub use alias::pointing_at;
pub use artefact::{Artefact, Draft, Published, reference_to};
pub use audit::Deed;
pub use difference::Difference;
pub use error::RegistryError;
pub use examine::Examined;
pub use manifest::{Manifest, Sealed, StoreOrigin};
pub use verdict::GateRecord;

use std::path::{Path, PathBuf};

/// The alias that answers when none is named.
pub const PRODUCTION: &str = "production";

/// What stands in the registry under one name.
#[derive(Debug)]
pub struct Versions {
    pub manifests: Vec<Manifest>,
    /// One error per version whose manifest cannot be trusted.
    pub damaged: Vec<RegistryError>,
}

/// A directory of model versions.
#[derive(Debug, Clone)]
pub struct Registry {
    root: PathBuf,
}

impl Registry {
    /// The registry under `root`, which need not exist until something is published.
    pub fn open(root: &Path) -> Registry {
        Registry { root: root.to_owned() }
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The names of models with at least one version, sorted.
    ///
    /// # Errors
    /// [`RegistryError::Io`].
    pub fn names(&self) -> Result<Vec<String>, RegistryError> {
        let mut names = Vec::new();
        for name in files::directories(&self.root)? {
            if !self.version_names(&name)?.is_empty() {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// A model's versions: the manifests, newest as-of first, and what is wrong with the damaged.
    ///
    /// # Errors
    /// [`RegistryError::UnknownModel`], [`RegistryError::Io`].
    pub fn versions(&self, name: &str) -> Result<Versions, RegistryError> {
        let names = self.version_names(name)?;
        if names.is_empty() {
            return Err(RegistryError::UnknownModel { name: name.to_owned() });
        }
        let mut versions = Versions { manifests: Vec::new(), damaged: Vec::new() };
        for version in &names {
            match artefact::read_manifest(&self.directory(name, version), name, version) {
                Ok(manifest) => versions.manifests.push(manifest),
                Err(error @ RegistryError::Damaged { .. }) => versions.damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        let key = |manifest: &Manifest| {
            (manifest.sealed.as_of, manifest.created_at, manifest.version.clone())
        };
        versions.manifests.sort_by_key(|manifest| std::cmp::Reverse(key(manifest)));
        Ok(versions)
    }

    /// The version that an alias or a version's own name means.
    ///
    /// # Errors
    /// [`RegistryError::UnknownModel`], [`RegistryError::UnknownVersion`], [`RegistryError::Io`].
    pub fn resolve(&self, name: &str, reference: &str) -> Result<String, RegistryError> {
        let versions = self.version_names(name)?;
        if versions.is_empty() {
            return Err(RegistryError::UnknownModel { name: name.to_owned() });
        }
        let known = |version: &String| versions.contains(version);
        match self.pointed(name, reference)? {
            Some(version) if known(&version) => Ok(version),
            Some(version) => Err(RegistryError::Damaged {
                path: self.alias_path(name, reference),
                reason: format!("it points at `{version}`, which is not there"),
            }),
            None if known(&reference.to_owned()) => Ok(reference.to_owned()),
            None => Err(RegistryError::UnknownVersion {
                name: name.to_owned(),
                reference: reference.to_owned(),
            }),
        }
    }

    /// Reads a version whole and checks its digest.
    ///
    /// # Errors
    /// [`RegistryError::UnknownVersion`], [`RegistryError::Damaged`], [`RegistryError::Io`].
    pub fn load(&self, name: &str, version: &str) -> Result<Artefact, RegistryError> {
        let version = self.resolve(name, version)?;
        artefact::read(&self.directory(name, &version), name, &version)
    }

    /// Writes a version under its final name, whole or not at all. Where a version with the same
    /// digest exists, that one is returned and nothing is written.
    ///
    /// # Errors
    /// [`RegistryError::Io`], and [`RegistryError::Damaged`] where the existing version is broken.
    pub fn publish(&self, draft: &Draft) -> Result<Published, RegistryError> {
        artefact::publish(&self.root, draft)
    }

    /// Refuses a place where nothing could be published, before hours go into a training.
    ///
    /// # Errors
    /// [`RegistryError::Io`].
    pub fn check_writable(&self, name: &str) -> Result<(), RegistryError> {
        let family = self.root.join(name);
        let existing = family.ancestors().find(|ancestor| ancestor.is_dir());
        files::hidden_directory(existing.unwrap_or(Path::new("."))).map(drop)
    }

    fn directory(&self, name: &str, version: &str) -> PathBuf {
        self.root.join(name).join(version)
    }

    /// The directories that are named as versions are; whatever else lies about is none. One that
    /// lost its manifest is a damaged version, not an unknown one.
    fn version_names(&self, name: &str) -> Result<Vec<String>, RegistryError> {
        if !is_plain_name(name) {
            return Err(RegistryError::UnknownModel { name: name.to_owned() });
        }
        // Aliases and verdicts have directories too, whose names are no versions'.
        let mut names = files::directories(&self.root.join(name))?;
        names.retain(|version| is_version_name(version));
        Ok(names)
    }
}

/// Whether a directory's name ends as `<as-of>-<12 hex>` does.
fn is_version_name(name: &str) -> bool {
    let hex = name.rsplit_once('-').map_or("", |(_, digest)| digest);
    hex.len() == 12 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a text can name a model or an alias: lower-case letters, digits, `-`, `_` and inner dots
/// only, so that it is one harmless component of a path.
pub fn is_plain_name(name: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.')
}
