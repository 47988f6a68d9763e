//! What the gate says of versions, beside them: versions never change, and a version may be judged
//! again against another incumbent.

use super::files::{self, io};
use super::{Deed, PRODUCTION, Registry, RegistryError, artefact};
use habitus_engine::domain::Timestamp;
use habitus_engine::training::{Outcome, Verdict};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

/// A verdict, and whom the version was judged against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateRecord {
    pub at: Timestamp,
    /// The version in production when it was judged.
    pub incumbent: String,
    pub verdict: Verdict,
}

impl Registry {
    /// Keeps what the gate says of a version; an earlier verdict gives way.
    ///
    /// # Errors
    /// [`RegistryError::Io`].
    pub fn record_verdict(
        &self,
        name: &str,
        version: &str,
        record: &GateRecord,
    ) -> Result<(), RegistryError> {
        let path = self.verdict_path(name, version);
        let bytes = serde_json::to_vec_pretty(record).map_err(|error| RegistryError::Damaged {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        if let Some(directory) = path.parent() {
            files::make_directory(directory)?;
        }
        files::replace(&path, &bytes)
    }

    /// What the gate says of a version, if it was asked.
    ///
    /// # Errors
    /// [`RegistryError::Damaged`], [`RegistryError::Io`].
    pub fn verdict(&self, name: &str, version: &str) -> Result<Option<GateRecord>, RegistryError> {
        let path = self.verdict_path(name, version);
        match fs::read(&path) {
            Ok(bytes) => artefact::parse(&path, &bytes).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io(&path)(error)),
        }
    }

    /// Makes a version the production version, if the gate lets it: where nothing is in production
    /// yet, where it is already, or where it was judged against the one that is and passed. `force`
    /// makes it so all the same, and the change says what was overruled.
    ///
    /// # Errors
    /// [`RegistryError::GateRefused`]; otherwise as [`Registry::set_alias`].
    pub fn promote(
        &self,
        name: &str,
        version: &str,
        force: bool,
        at: Timestamp,
    ) -> Result<(), RegistryError> {
        let version = self.resolve(name, version)?;
        // A damaged version must not be put in front of callers, forced or not.
        self.load(name, &version)?;
        let overruled = match self.objection(name, &version)? {
            None => None,
            Some(reason) if force => Some(reason),
            Some(reason) => {
                let name = name.to_owned();
                let told = (name.clone(), version.clone(), reason.clone());
                let (model, version_refused, why) = told;
                let deed = Deed::Refused { model, version: version_refused, reason: why };
                self.note(&deed, at)?;
                return Err(RegistryError::GateRefused { name, version, reason });
            }
        };
        self.point(name, PRODUCTION, version, overruled, at)
    }

    /// Why a version may not become the production version; `None` where it may.
    fn objection(&self, name: &str, version: &str) -> Result<Option<String>, RegistryError> {
        let Some(incumbent) = self.aliases(name)?.remove(PRODUCTION) else { return Ok(None) };
        if incumbent == version {
            return Ok(None);
        }
        let objection = match self.verdict(name, version)? {
            None => Some(format!("it was never judged against {incumbent}")),
            Some(record) if record.incumbent != incumbent => Some(format!(
                "it was judged against {}, but {incumbent} is in production now",
                record.incumbent
            )),
            Some(GateRecord { verdict, .. }) => match verdict.outcome {
                Outcome::Passed => None,
                Outcome::Refused => Some(verdict.reasons.join("; ")),
                Outcome::Undecided => Some(format!("undecided: {}", verdict.reasons.join("; "))),
            },
        };
        Ok(objection)
    }

    fn verdict_path(&self, name: &str, version: &str) -> PathBuf {
        self.root().join(name).join("verdicts").join(format!("{version}.json"))
    }
}
