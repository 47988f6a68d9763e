//! A file that appears under its name only when it is whole.

use super::step;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use tempfile::{Builder, NamedTempFile};

/// A temporary file beside its target. Dropped, it is gone and the target is untouched.
pub struct AtomicFile {
    target: PathBuf,
    directory: PathBuf,
    temporary: NamedTempFile,
}

impl AtomicFile {
    /// The temporary file stands in the target's directory, because a rename is atomic only inside
    /// one file system.
    pub fn create(target: &Path) -> io::Result<AtomicFile> {
        // Renaming over a directory fails too, but only after all the work.
        if target.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".habitus-{name}-");
        remove_left(&directory, &prefix);
        let mut builder = Builder::new();
        builder.prefix(&prefix).suffix(SUFFIX);
        share_as_usual(&mut builder);
        let temporary = loop {
            step();
            let temporary = builder.tempfile_in(&directory)?;
            // Locked, it is known to belong to a process that lives. Before, another that cleans up
            // may have taken it for one that was left.
            temporary.as_file().lock()?;
            if temporary.path().exists() {
                break temporary;
            }
        };
        Ok(AtomicFile { target: target.to_owned(), directory, temporary })
    }

    /// A handle to write through.
    pub fn handle(&self) -> io::Result<File> {
        self.temporary.as_file().try_clone()
    }

    /// The final name.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Puts the file under its name, and on the disk: first its bytes, then the name.
    pub fn publish(self) -> io::Result<()> {
        step();
        self.temporary.as_file().sync_all()?;
        step();
        self.temporary.persist(&self.target).map_err(|error| error.error)?;
        step();
        sync_directory(&self.directory)
    }
}

const SUFFIX: &str = ".part";

/// Removes what killed processes left of the same target: files that nobody holds a lock on. What
/// cannot be removed only takes room.
fn remove_left(directory: &Path, prefix: &str) {
    for entry in directory.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix)
            && name.ends_with(SUFFIX)
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Temporary files are closed to other users; a published one has the permissions that any created
/// file has under the user's mask.
#[cfg(unix)]
fn share_as_usual(builder: &mut Builder<'_, '_>) {
    use std::os::unix::fs::PermissionsExt;
    builder.permissions(std::fs::Permissions::from_mode(0o666));
}

#[cfg(not(unix))]
fn share_as_usual(_builder: &mut Builder<'_, '_>) {}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Elsewhere a directory is no file that could be opened and synced.
#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}
