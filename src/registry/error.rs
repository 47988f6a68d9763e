//! What can go wrong with versions on disk.

use std::path::PathBuf;
use thiserror::Error;

/// Why the registry could not do what was asked.
#[derive(Debug, Error)]
pub enum RegistryError {
    #[error("the registry holds no model called `{name}`")]
    UnknownModel { name: String },
    #[error("model `{name}` has no version or alias `{reference}`")]
    UnknownVersion { name: String, reference: String },
    #[error("alias `{alias}` of model `{name}` has nothing to go back to")]
    NothingToRollBack { name: String, alias: String },
    #[error("the gate keeps {name}@{version} out of production: {reason}")]
    GateRefused { name: String, version: String, reason: String },
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("{} cannot be read or written", path.display())]
    Io { path: PathBuf, source: std::io::Error },
}
