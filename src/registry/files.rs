//! File operations that either happen whole or leave things as they were.

use super::RegistryError;
use crate::export::{AtomicFile, step};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use tempfile::TempDir;

/// Names a path in an I/O error.
pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> RegistryError {
    move |source| RegistryError::Io { path: path.to_owned(), source }
}

/// The visible directories in `path`, sorted; none where it does not exist.
pub fn directories(path: &Path) -> Result<Vec<String>, RegistryError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(path)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io(path))?;
        if let Ok(name) = entry.file_name().into_string()
            && entry.path().is_dir()
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Writes a new file and makes sure that it is on the disk.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), RegistryError> {
    step();
    let mut file = File::create(path).map_err(io(path))?;
    step();
    file.write_all(bytes).map_err(io(path))?;
    step();
    file.sync_all().map_err(io(path))
}

/// Gives a directory another name in one step.
pub fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    step();
    fs::rename(from, to)
}

/// Makes a directory and those above it, where they are not there yet.
pub fn make_directory(path: &Path) -> Result<(), RegistryError> {
    step();
    fs::create_dir_all(path).map_err(io(path))
}

/// Makes sure that the names in a directory are on the disk.
pub fn sync_directory(path: &Path) -> Result<(), RegistryError> {
    step();
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io(path))
}

/// Replaces a file by another content in one step.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), RegistryError> {
    let file = AtomicFile::create(path).map_err(io(path))?;
    file.handle().and_then(|mut handle| handle.write_all(bytes)).map_err(io(path))?;
    file.publish().map_err(io(path))
}

/// Makes a hidden directory in `parent` that others may read, and that is gone when it is dropped.
pub fn hidden_directory(parent: &Path) -> Result<TempDir, RegistryError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".publishing-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The user's mask takes from this what it takes from any directory.
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    step();
    builder.tempdir_in(parent).map_err(io(parent))
}

/// Adds a line to a file and makes sure that it is on the disk. A last line that a crash cut short
/// is taken away first.
pub fn append(path: &Path, line: &str) -> Result<(), RegistryError> {
    let mut options = File::options();
    let mut file =
        options.create(true).truncate(false).read(true).write(true).open(path).map_err(io(path))?;
    // Others may add a line at this moment; the lock goes with the file.
    file.lock().map_err(io(path))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(io(path))?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    step();
    file.set_len(whole as u64).map_err(io(path))?;
    file.seek(SeekFrom::Start(whole as u64)).map_err(io(path))?;
    step();
    file.write_all(format!("{line}\n").as_bytes()).map_err(io(path))?;
    step();
    file.sync_all().map_err(io(path))
}
