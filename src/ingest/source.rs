//! Where logs come from: files named by patterns, or bytes already in memory.

use super::IngestError;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// One log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file.
    Path(PathBuf),
    /// A log in memory, such as the one compiled in for the demonstration.
    Bytes { name: String, bytes: Cow<'static, [u8]> },
}

/// How a log writes its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format<'s> {
    Csv,
    Ndjson,
    Parquet(&'s Path),
}

/// How a text log is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
}

impl Source {
    /// What messages call it.
    pub fn name(&self) -> String {
        match self {
            Source::Path(path) => path.display().to_string(),
            Source::Bytes { name, .. } => name.clone(),
        }
    }

    /// Its size in bytes, where that is known beforehand (a pipe has none).
    pub fn size(&self) -> Option<u64> {
        match self {
            Source::Path(path) => {
                path.metadata().ok().filter(|file| file.is_file()).map(|file| file.len())
            }
            Source::Bytes { bytes, .. } => Some(bytes.len() as u64),
        }
    }

    /// The SHA-256 of its bytes as they are stored, packed or not, in hex: the same file under
    /// another name is the same source, so that a reading that broke off can be continued.
    ///
    /// # Errors
    /// [`IngestError::Io`] where it cannot be read, and where it is a pipe, of which nothing would
    /// be left to be read afterwards.
    pub fn digest(&self) -> Result<String, IngestError> {
        let failed = |source: io::Error| IngestError::Io { file: self.name(), source };
        if let Source::Path(path) = self
            && !path.metadata().map_err(failed)?.is_file()
        {
            return Err(failed(io::Error::other("it is no ordinary file")));
        }
        let mut hash = Sha256::new();
        io::copy(&mut self.open()?, &mut hash).map_err(failed)?;
        Ok(format!("{:x}", hash.finalize()))
    }

    /// Its format by the name of the file, where an ending that names a compression is passed over.
    /// What names no other is CSV.
    pub(super) fn format(&self) -> Format<'_> {
        let Source::Path(path) = self else {
            return Format::Csv;
        };
        let name = match self.compression() {
            Some(_) => path.file_stem().map(Path::new),
            None => Some(path.as_path()),
        };
        match name.and_then(ending).as_deref() {
            Some("ndjson" | "jsonl") => Format::Ndjson,
            Some("parquet") => Format::Parquet(path),
            _ => Format::Csv,
        }
    }

    /// Its compression by the last ending of its name.
    pub(super) fn compression(&self) -> Option<Compression> {
        let Source::Path(path) = self else {
            return None;
        };
        match ending(path)?.as_str() {
            "gz" => Some(Compression::Gzip),
            "zst" | "zstd" => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// Its bytes as they are stored.
    pub(super) fn open(&self) -> Result<Box<dyn Read + '_>, IngestError> {
        match self {
            Source::Path(path) => match File::open(path) {
                Ok(file) => Ok(Box::new(file)),
                Err(source) => Err(IngestError::Io { file: self.name(), source }),
            },
            Source::Bytes { bytes, .. } => Ok(Box::new(&bytes[..])),
        }
    }
}

fn ending(name: &Path) -> Option<String> {
    name.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase)
}

/// The files that match any of the patterns, sorted by path. A file that several patterns or links
/// lead to counts once, because its rows happened once.
///
/// # Errors
/// [`IngestError::NoMatch`] where a pattern matches no file, [`IngestError::Pattern`] where it is
/// none, [`IngestError::Io`] where a directory cannot be listed.
pub fn sources(patterns: &[String]) -> Result<Vec<Source>, IngestError> {
    let mut found: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for pattern in patterns {
        let paths = matches(pattern)?;
        if paths.is_empty() {
            return Err(IngestError::NoMatch { pattern: pattern.clone() });
        }
        for path in paths {
            // A pipe has no canonical path and is its own identity.
            let identity = path.canonicalize().unwrap_or_else(|_| path.clone());
            found.entry(identity).or_insert(path);
        }
    }
    let mut paths: Vec<PathBuf> = found.into_values().collect();
    paths.sort_unstable();
    Ok(paths.into_iter().map(Source::Path).collect())
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>, IngestError> {
    // A name that exists is taken as it is, so that `log[1].csv` needs no escapes.
    let literal = Path::new(pattern);
    if literal.exists() && !literal.is_dir() {
        return Ok(vec![literal.to_owned()]);
    }
    let found = glob::glob(pattern)
        .map_err(|source| IngestError::Pattern { pattern: pattern.to_owned(), source })?;
    let mut paths = Vec::new();
    for path in found {
        let path = path.map_err(|error| IngestError::Io {
            file: error.path().display().to_string(),
            source: error.into(),
        })?;
        if !path.is_dir() {
            paths.push(path);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn pattern(directory: &Path, name: &str) -> String {
        directory.join(name).display().to_string()
    }

    #[test]
    fn patterns_give_sorted_files_once() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.csv", "a.csv", "log[1].csv", "other.txt"] {
            fs::write(directory.path().join(name), "x").unwrap();
        }
        fs::create_dir(directory.path().join("c.csv")).unwrap();
        let patterns =
            ["*.csv", "a.csv", "./b.csv", "log[1].csv"].map(|name| pattern(directory.path(), name));
        let names: Vec<String> = sources(&patterns)
            .unwrap()
            .iter()
            .map(|source| source.name().rsplit('/').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(names, ["a.csv", "b.csv", "log[1].csv"]);
    }

    #[test]
    fn a_pattern_without_a_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("logs")).unwrap();
        for name in ["*.csv", "absent.csv", "logs"] {
            let pattern = pattern(directory.path(), name);
            let error = sources(std::slice::from_ref(&pattern)).unwrap_err();
            assert_eq!(error.to_string(), format!("no file matches `{pattern}`"));
        }
        assert!(matches!(sources(&["a***".into()]), Err(IngestError::Pattern { .. })));
    }

    #[test]
    fn the_name_gives_the_format_and_the_compression() {
        let gzip = Some(Compression::Gzip);
        let zstd = Some(Compression::Zstd);
        for (name, format, compression) in [
            ("log.csv", Format::Csv, None),
            ("log", Format::Csv, None),
            ("log.txt", Format::Csv, None),
            ("2024.01.CSV.GZ", Format::Csv, gzip),
            ("log.zst", Format::Csv, zstd),
            ("log.ndjson", Format::Ndjson, None),
            ("log.jsonl.zst", Format::Ndjson, zstd),
            ("log.ndjson.gz", Format::Ndjson, gzip),
            ("log.parquet", Format::Parquet(Path::new("log.parquet")), None),
        ] {
            let source = Source::Path(PathBuf::from(name));
            assert_eq!((source.format(), source.compression()), (format, compression), "{name}");
        }
        let bytes = Source::Bytes { name: "log.ndjson.gz".into(), bytes: Cow::Borrowed(b"") };
        assert_eq!((bytes.format(), bytes.compression()), (Format::Csv, None));
    }

    #[test]
    fn a_digest_is_of_the_bytes_alone() {
        const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let directory = tempfile::tempdir().unwrap();
        let of_file = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            fs::write(&path, bytes).unwrap();
            Source::Path(path).digest().unwrap()
        };
        // A file that only looks packed is hashed as any other.
        for name in ["a.csv", "b.ndjson.gz", "c.parquet"] {
            assert_eq!(of_file(name, b"abc"), ABC, "{name}");
        }
        let bytes = Source::Bytes { name: "d.csv".into(), bytes: Cow::Borrowed(b"abc") };
        assert_eq!(bytes.digest().unwrap(), ABC);
        let long = vec![b'x'; 1 << 20];
        let shorter = of_file("e.csv", &long[1..]);
        assert_ne!(of_file("e.csv", &long), shorter);
    }

    #[test]
    fn what_cannot_be_read_twice_has_no_digest() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Source::Path(directory.path().to_owned());
        let gone = Source::Path(directory.path().join("gone.csv"));
        for source in [folder, gone] {
            let name = source.name();
            assert_eq!(source.digest().unwrap_err().to_string(), format!("cannot read `{name}`"));
        }
    }

    #[test]
    fn a_file_that_is_gone_is_named() {
        let gone = Source::Path(PathBuf::from("no/such/log.csv"));
        assert_eq!(gone.open().err().unwrap().to_string(), "cannot read `no/such/log.csv`");
        assert_eq!(gone.size(), None);
    }
}
