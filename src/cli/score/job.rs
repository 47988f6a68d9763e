//! What a killed run leaves for the next: rows on disk, and the parts that were scored.
//!
//! Only a log beyond the memory bound leaves anything; a smaller one is read again. The directory
//! stands beside the file that is written, under a name that tells which file, which log and which
//! version it is of, so that another question never finds it.

use super::super::Global;
use super::super::input::{HowToRead, LogInput};
use crate::export::Runs;
use crate::ingest::{Log, Source};
use crate::registry::Manifest;
use anyhow::Context;
use habitus_engine::domain::{AsOf, sha256};
use serde_json::json;
use std::cell::Cell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The work on one file.
#[derive(Debug)]
pub struct Job {
    directory: PathBuf,
    /// Held for as long as somebody works here.
    lock: Option<File>,
    /// Whether another run could go on from here.
    is_worth_keeping: Cell<bool>,
}

impl Job {
    /// The work that gives `out` from these sources by this version. Waits for another process that
    /// is at the same work.
    pub fn of(
        out: &Path,
        sources: &[Source],
        how: &HowToRead,
        as_of: Option<&str>,
        manifest: &Manifest,
    ) -> anyhow::Result<Job> {
        let seen: Vec<serde_json::Value> = sources.iter().map(identity).collect();
        let columns = (&how.columns, &how.customers);
        let key = json!([out, seen, columns, as_of, manifest.digest, env!("CARGO_PKG_VERSION")]);
        let key = sha256(key.to_string().as_bytes());
        let name = out.file_name().unwrap_or_default().to_string_lossy();
        let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let prefix = format!(".habitus-{name}-");
        let directory = parent.join(format!("{prefix}{}.job", key.get(..12).unwrap_or(&key)));
        remove_others(parent, &prefix, &directory);
        let lock = loop {
            make_private(&directory).with_context(|| format!("making {}", directory.display()))?;
            let path = directory.join("lock");
            let lock = File::create(&path).context("making a lock")?;
            if lock.try_lock().is_err() {
                tracing::info!("waiting for another process that writes the same file");
                lock.lock().context("waiting for another process that writes the same file")?;
            }
            // Whoever held it may have finished and taken it away, and a third made another.
            if is_at(&lock, &path) {
                break lock;
            }
        };
        Ok(Job { directory, lock: Some(lock), is_worth_keeping: Cell::new(false) })
    }

    /// Where rows beyond the bound are kept.
    pub fn rows(&self) -> PathBuf {
        self.directory.join("rows")
    }

    /// The parts that were scored.
    pub fn runs(&self) -> anyhow::Result<Runs> {
        let directory = self.directory.join("runs");
        Runs::open(directory.clone()).with_context(|| format!("making {}", directory.display()))
    }

    /// The log: what an earlier run kept of it, or read anew.
    pub fn read(&self, input: &LogInput<'_>, global: &Global) -> anyhow::Result<(Log, AsOf)> {
        let rows = self.rows();
        if let Some(log) = Log::reopen(&rows, input.rules, input.memory) {
            tracing::info!("going on where an earlier run was stopped");
            self.is_worth_keeping.set(true);
            let asked = input.as_of.map(|text| input.rules.zone.parse_as_of(text)).transpose()?;
            let as_of = input.check(&log, asked)?;
            return Ok((log, as_of));
        }
        // Half of a log is none, and what was scored of another is of no use.
        for left in [&rows, &self.directory.join("runs")] {
            if left.exists() {
                fs::remove_dir_all(left)?;
            }
        }
        let (mut log, as_of) = input.read(global)?;
        log.keep(&rows)?;
        self.is_worth_keeping.set(log.is_spilled());
        Ok((log, as_of))
    }

    /// The file stands, and nothing of the work is needed any more.
    pub fn finish(self) {
        self.is_worth_keeping.set(false);
    }
}

impl Drop for Job {
    /// What another run could go on from stays; everything else goes, as far as it can be removed.
    fn drop(&mut self) {
        if !self.is_worth_keeping.get() {
            let _ = fs::remove_dir_all(&self.directory);
        }
        drop(self.lock.take());
    }
}

/// Makes a directory that nobody else may look into, since it holds rows of customers.
fn make_private(directory: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.recursive(true).create(directory)
}

/// Whether an open file is still the one at its path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let both = file.metadata().ok().zip(path.metadata().ok());
    both.is_some_and(|(open, at)| (open.dev(), open.ino()) == (at.dev(), at.ino()))
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// Removes what is left of other work on the same file, unless somebody is at it.
fn remove_others(parent: &Path, prefix: &str, own: &Path) {
    for entry in parent.read_dir().into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with(prefix)
            && name.ends_with(".job")
            && path != own
            && File::open(path.join("lock")).is_ok_and(|lock| lock.try_lock().is_ok())
        {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// What tells a source from another, or from itself before it changed.
fn identity(source: &Source) -> serde_json::Value {
    let modified = match source {
        Source::Path(path) => path.metadata().ok().and_then(|file| file.modified().ok()),
        Source::Bytes { .. } => None,
    };
    let nanos = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    json!([source.name(), source.size(), nanos.map(|nanos| nanos.as_nanos().to_string())])
}
