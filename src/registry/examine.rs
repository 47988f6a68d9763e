//! A version read without trusting it, to be compared with what its log gives.

use super::artefact::{self, MANIFEST, PARAMETERS};
use super::difference::{Difference, differences};
use super::manifest::{self, Manifest, SealedRows};
use super::{Registry, RegistryError};
use crate::ingest::RowCounts;
use habitus_engine::domain::sha256;
use habitus_engine::training::Trained;
use serde_json::{Value, json};
use std::path::PathBuf;

/// How far numbers may lie apart where the version was fitted under another CPU set, whose vector
/// units round in another order.
const OTHER_CPU_TOLERANCE: f64 = 1e-6;

/// A version as its files have it, right or wrong.
#[derive(Debug)]
pub struct Examined {
    pub manifest: Manifest,
    directory: PathBuf,
    parameters: Vec<u8>,
}

impl Registry {
    /// Reads a version without checking its digests, so that an edited one can be told apart part by
    /// part.
    ///
    /// # Errors
    /// [`RegistryError::UnknownModel`], [`RegistryError::UnknownVersion`], and
    /// [`RegistryError::Damaged`] where the manifest cannot be read at all.
    pub fn examine(&self, name: &str, reference: &str) -> Result<Examined, RegistryError> {
        let version = self.resolve(name, reference)?;
        let directory = self.directory(name, &version);
        let path = directory.join(MANIFEST);
        let manifest = artefact::parse(&path, &artefact::read_file(&path)?)?;
        let parameters = artefact::read_file(&directory.join(PARAMETERS))?;
        Ok(Examined { manifest, directory, parameters })
    }
}

impl Examined {
    /// How far numbers may lie apart: not at all on the CPU set that the version was trained under.
    pub fn tolerance(&self) -> f64 {
        let same = self.manifest.cpu_features == manifest::cpu_features();
        if same { 0.0 } else { OTHER_CPU_TOLERANCE }
    }

    /// Everything in which the version differs from what training gave now: what went in first, then
    /// the parameters, then the digests that no longer match the files.
    ///
    /// # Errors
    /// [`RegistryError::Damaged`] where the parameters are no JSON.
    pub fn compare(
        &self,
        trained: &Trained,
        counts: &RowCounts,
    ) -> Result<Vec<Difference>, RegistryError> {
        let path = self.directory.join(PARAMETERS);
        let recorded: Value = artefact::parse(&path, &self.parameters)?;
        let to_value = |error: serde_json::Error| RegistryError::Damaged {
            path: path.clone(),
            reason: error.to_string(),
        };
        let retrained = serde_json::to_value(&trained.version).map_err(to_value)?;
        let sealed = &self.manifest.sealed;
        let went_in = json!({
            "population": sealed.population,
            "n_customers": sealed.n_customers,
            "clock": sealed.clock,
            "rows": sealed.rows,
        });
        let goes_in = json!({
            "population": trained.population,
            "n_customers": trained.n_customers,
            "clock": trained.evaluation.clock,
            "rows": SealedRows::of(counts),
        });
        let mut found = differences(&went_in, &goes_in, 0.0);
        found.extend(differences(&recorded, &retrained, self.tolerance()));
        found.extend(self.broken_digests()?);
        Ok(found)
    }

    fn broken_digests(&self) -> Result<Vec<Difference>, RegistryError> {
        let manifest = &self.manifest;
        let digest =
            manifest::digest(&manifest.sealed, &manifest.parameters_sha256).map_err(|error| {
                RegistryError::Damaged {
                    path: self.directory.join(MANIFEST),
                    reason: error.to_string(),
                }
            })?;
        let recorded = json!({
            "parameters_sha256": manifest.parameters_sha256,
            "digest": manifest.digest,
        });
        let found = json!({ "parameters_sha256": sha256(&self.parameters), "digest": digest });
        Ok(differences(&recorded, &found, 0.0))
    }
}
