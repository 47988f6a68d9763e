//! One version on disk: written whole, read with its digest checked.

use super::files::{self, io};
use super::manifest::{self, Manifest, Sealed, SealedRows, StoreOrigin};
use super::{RegistryError, is_plain_name};
use crate::ingest::{Account, Columns, CustomerColumns};
use habitus_engine::domain::{AsOf, Timestamp, sha256};
use habitus_engine::training::{Trained, TrainingSettings};
use habitus_engine::version::{FORMAT, Incumbent, ModelVersion};
use serde::de::DeserializeOwned;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub const MANIFEST: &str = "manifest.json";
pub const PARAMETERS: &str = "parameters.json";
const METRICS: &str = "metrics.json";
const REPORT: &str = "report.md";
/// The digests of the files, a line each as `sha256sum` writes and checks them.
const SUMS: &str = "SHA256SUMS";

/// A version as it was read.
#[derive(Debug, Clone)]
pub struct Artefact {
    pub manifest: Manifest,
    pub version: ModelVersion,
    /// The evaluation; null where its file is lost.
    pub metrics: serde_json::Value,
}

/// A version as others refer to it.
pub fn reference_to(artefact: &Artefact) -> Incumbent {
    Incumbent {
        version: artefact.manifest.version.clone(),
        digest: artefact.manifest.digest.clone(),
    }
}

/// A version before it has a name.
#[derive(Debug)]
pub struct Draft<'a> {
    pub name: &'a str,
    pub trained: &'a Trained,
    pub settings: &'a TrainingSettings,
    pub as_of: AsOf,
    /// Without the texts of rows.
    pub account: &'a Account,
    pub incumbent: Option<Incumbent>,
    pub files: Vec<String>,
    /// The store that histories were read from instead.
    pub store: Option<StoreOrigin>,
    pub columns: Columns,
    pub customer_columns: CustomerColumns,
    pub max_rejected_share: f64,
    pub created_at: Timestamp,
    pub threads: usize,
    /// The evaluation for people, in Markdown.
    pub report: &'a str,
    /// Pictures for it, by file name.
    pub plots: &'a [(&'static str, String)],
}

/// A version that stands in the registry.
#[derive(Debug, Clone)]
pub struct Published {
    pub manifest: Manifest,
    pub directory: PathBuf,
    /// False where an equal version stood there already.
    pub created: bool,
}

/// Writes the draft into a hidden directory, and gives it its name when all of it is on the disk.
pub fn publish(root: &Path, draft: &Draft) -> Result<Published, RegistryError> {
    let family = root.join(draft.name);
    let parameters = to_json(&draft.trained.version, &family)?;
    let metrics = to_json(&draft.trained.evaluation, &family)?;
    let manifest = seal(draft, &parameters, &family)?;
    let directory = family.join(&manifest.version);
    if directory.is_dir() {
        return existing(draft.name, &manifest.version, directory);
    }
    files::make_directory(&family)?;
    let hidden = files::hidden_directory(&family)?;
    let files = [
        (PARAMETERS, parameters.as_slice()),
        (METRICS, metrics.as_slice()),
        (REPORT, draft.report.as_bytes()),
    ];
    let plots = draft.plots.iter().map(|(name, svg)| (*name, svg.as_bytes()));
    let manifest_file = to_json(&manifest, &family)?;
    let mut sums = String::new();
    for (name, bytes) in files.into_iter().chain(plots).chain([(MANIFEST, &*manifest_file)]) {
        files::write_synced(&hidden.path().join(name), bytes)?;
        sums.push_str(&sum_line(name, bytes));
    }
    files::write_synced(&hidden.path().join(SUMS), sums.as_bytes())?;
    files::sync_directory(hidden.path())?;
    if let Err(error) = files::rename(hidden.path(), &directory) {
        // Another process may have published the same version in between.
        return match directory.is_dir() {
            true => existing(draft.name, &manifest.version, directory),
            false => Err(io(&directory)(error)),
        };
    }
    files::sync_directory(&family)?;
    Ok(Published { manifest, directory, created: true })
}

fn sum_line(name: &str, bytes: &[u8]) -> String {
    format!("{}  {name}\n", sha256(bytes))
}

/// Reads a file of a version, and compares its digest with the one that was written beside it.
fn read_summed(directory: &Path, name: &str) -> Result<Vec<u8>, RegistryError> {
    let bytes = read_file(&directory.join(name))?;
    check_sum(directory, name, &bytes)?;
    Ok(bytes)
}

fn check_sum(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), RegistryError> {
    let sums = read_file(&directory.join(SUMS))?;
    let line = sum_line(name, bytes);
    if sums.split_inclusive(|byte| *byte == b'\n').any(|sum| sum == line.as_bytes()) {
        return Ok(());
    }
    let reason = format!("its digest is not the one in {SUMS}");
    Err(RegistryError::Damaged { path: directory.join(name), reason })
}

fn existing(name: &str, version: &str, directory: PathBuf) -> Result<Published, RegistryError> {
    let manifest = read(&directory, name, version)?.manifest;
    Ok(Published { manifest, directory, created: false })
}

#[derive(serde::Deserialize)]
struct Format {
    format: u32,
}

/// Reads the manifest of a version and checks that it stands where it says.
pub fn read_manifest(
    directory: &Path,
    name: &str,
    version: &str,
) -> Result<Manifest, RegistryError> {
    let path = directory.join(MANIFEST);
    let bytes = read_file(&path)?;
    let damaged = |reason: String| RegistryError::Damaged { path: path.clone(), reason };
    // Of another format nothing else can be expected to be where this program looks for it.
    if let Ok(Format { format }) = parse(&path, &bytes)
        && format != FORMAT
    {
        let reason = format!("it has format {format}, this program reads format {FORMAT}");
        return Err(damaged(reason));
    }
    check_sum(directory, MANIFEST, &bytes)?;
    let manifest: Manifest = parse(&path, &bytes)?;
    if manifest.name != name || manifest.version != version {
        return Err(damaged(format!("it belongs to {}/{}", manifest.name, manifest.version)));
    }
    let digest = manifest::digest(&manifest.sealed, &manifest.parameters_sha256)
        .map_err(|error| damaged(error.to_string()))?;
    if manifest.digest != digest || manifest.version != version_name(manifest.sealed.as_of, &digest)
    {
        return Err(damaged("its digest does not match what it says".to_owned()));
    }
    Ok(manifest)
}

/// Reads a version whole and checks every digest.
pub fn read(directory: &Path, name: &str, version: &str) -> Result<Artefact, RegistryError> {
    let manifest = read_manifest(directory, name, version)?;
    let path = directory.join(PARAMETERS);
    let parameters = read_file(&path)?;
    if sha256(&parameters) != manifest.parameters_sha256 {
        let reason = "its digest is not the one in the manifest".to_owned();
        return Err(RegistryError::Damaged { path, reason });
    }
    let version = parse(&path, &parameters)?;
    let metrics = read_metrics(directory);
    Ok(Artefact { manifest, version, metrics })
}

/// The metrics stand outside the digest and no answer needs them, so their loss is told and borne.
fn read_metrics(directory: &Path) -> serde_json::Value {
    let path = directory.join(METRICS);
    let metrics = read_summed(directory, METRICS).and_then(|bytes| parse(&path, &bytes));
    metrics.unwrap_or_else(|error| {
        tracing::warn!("{error}");
        serde_json::Value::Null
    })
}

fn seal(draft: &Draft, parameters: &[u8], family: &Path) -> Result<Manifest, RegistryError> {
    debug_assert!(is_plain_name(draft.name), "configuration checks names");
    let spec = to_json(&draft.settings.spec, family)?;
    let sealed = Sealed {
        population: draft.trained.population.clone(),
        as_of: draft.as_of,
        clock: draft.trained.evaluation.clock,
        n_customers: draft.trained.n_customers as u64,
        incumbent: draft.incumbent.clone(),
        rows: SealedRows::of(&draft.account.counts),
        columns: draft.columns.clone(),
        customer_columns: draft.customer_columns.clone(),
        spec_sha256: sha256(&spec),
        settings: draft.settings.clone(),
    };
    let parameters_sha256 = sha256(parameters);
    let digest = manifest::digest(&sealed, &parameters_sha256).map_err(not_json(family))?;
    Ok(Manifest {
        format: FORMAT,
        name: draft.name.to_owned(),
        version: version_name(draft.as_of, &digest),
        digest,
        parameters_sha256,
        created_at: draft.created_at,
        crate_version: env!("CARGO_PKG_VERSION").to_owned(),
        cpu_features: manifest::cpu_features(),
        threads: draft.threads,
        files: draft.files.clone(),
        store: draft.store.clone(),
        max_rejected_share: draft.max_rejected_share,
        account: draft.account.clone(),
        sealed,
    })
}

fn version_name(as_of: AsOf, digest: &str) -> String {
    format!("{}-{}", as_of.day, digest.get(..12).unwrap_or(digest))
}

fn to_json(value: &impl serde::Serialize, family: &Path) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(not_json(family))?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn not_json(family: &Path) -> impl FnOnce(serde_json::Error) -> RegistryError {
    let path = family.to_owned();
    move |error| RegistryError::Damaged { path, reason: error.to_string() }
}

pub fn read_file(path: &Path) -> Result<Vec<u8>, RegistryError> {
    fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            RegistryError::Damaged { path: path.to_owned(), reason: "it is missing".to_owned() }
        }
        _ => io(path)(error),
    })
}

pub fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, RegistryError> {
    serde_json::from_slice(bytes).map_err(|error| RegistryError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}
