//! The directory in which records wait that memory must not hold.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Where rows go that memory must not hold.
#[derive(Debug)]
pub enum Spill {
    /// A directory that is made when it is needed and removed afterwards, in this one.
    Temporary(Option<Private>, Option<PathBuf>),
    /// A directory that somebody else looks after.
    Kept(PathBuf),
}

/// A directory that nobody else may look into and that is gone when it is dropped.
#[derive(Debug)]
pub struct Private {
    directory: tempfile::TempDir,
    /// Held for as long as the process lives, so that others know.
    _lock: File,
}

impl Private {
    const PREFIX: &str = ".habitus-rows-";

    /// Makes one in `parent`, and removes those that killed processes left there.
    fn make(parent: &Path) -> io::Result<Private> {
        for entry in parent.read_dir().into_iter().flatten().flatten() {
            let is_ours = entry.file_name().to_string_lossy().starts_with(Private::PREFIX);
            let lock = || File::open(entry.path().join("lock"));
            if is_ours && lock().is_ok_and(|lock| lock.try_lock().is_ok()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(Private::PREFIX);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o700));
        }
        loop {
            let directory = builder.tempdir_in(parent)?;
            let path = directory.path().join("lock");
            let lock = File::create(&path)?;
            lock.lock()?;
            // Before it was locked, another that cleans up may have taken it for one that was left.
            if path.exists() {
                return Ok(Private { directory, _lock: lock });
            }
        }
    }
}

impl Drop for Private {
    /// The lock goes last, with the directory: a process that is killed in between leaves what the
    /// next one recognises.
    fn drop(&mut self) {
        for entry in self.directory.path().read_dir().into_iter().flatten().flatten() {
            if entry.file_name() != "lock" {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Spill {
    /// The directory, which is made where it is not there.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(super) fn directory(&mut self) -> io::Result<PathBuf> {
        match self {
            Spill::Kept(path) => {
                fs::create_dir_all(&*path)?;
                Ok(path.clone())
            }
            Spill::Temporary(made, parent) => {
                let directory = match made.take() {
                    Some(made) => made,
                    None => {
                        let system = tempfile::env::temp_dir();
                        Private::make(parent.as_deref().unwrap_or(&system))?
                    }
                };
                Ok(made.insert(directory).directory.path().to_owned())
            }
        }
    }

    /// The directory, where one was made.
    pub(super) fn existing(&self) -> Option<&Path> {
        match self {
            Spill::Kept(path) => Some(path),
            Spill::Temporary(made, _) => made.as_ref().map(|made| made.directory.path()),
        }
    }
}
