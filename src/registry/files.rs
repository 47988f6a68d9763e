//! File operations that either happen whole or leave things as they were.

use super::RegistryError;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

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
    let mut file = File::create(path).map_err(io(path))?;
    file.write_all(bytes).map_err(io(path))?;
    file.sync_all().map_err(io(path))
}

/// Makes sure that the names in a directory are on the disk.
pub fn sync_directory(path: &Path) -> Result<(), RegistryError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io(path))
}

/// Replaces a file by another content in one step.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), RegistryError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(io(directory))?;
    file.write_all(bytes).map_err(io(path))?;
    file.as_file().sync_all().map_err(io(path))?;
    file.persist(path).map_err(|error| io(path)(error.error))?;
    sync_directory(directory)
}

/// Adds a line to a file and makes sure that it is on the disk.
pub fn append(path: &Path, line: &str) -> Result<(), RegistryError> {
    let mut file = File::options().create(true).append(true).open(path).map_err(io(path))?;
    file.write_all(format!("{line}\n").as_bytes()).map_err(io(path))?;
    file.sync_all().map_err(io(path))
}
