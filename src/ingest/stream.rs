//! The bytes of a log, unpacked while they are read.

use super::source::Compression;
use super::{IngestError, Source};
use flate2::read::MultiGzDecoder;
use std::io::{self, Read};

/// How much is read from a log at once.
pub(super) const BUFFER_BYTES: usize = 1 << 16;

/// How often progress is told.
const PROGRESS_BYTES: u64 = 1 << 20;

/// Opens a log. Progress counts the bytes as they are stored, so that it ends at the size of the
/// file. A log may have been packed in several parts that follow each other.
///
/// # Errors
/// [`IngestError::Io`].
pub(super) fn open<'s>(
    source: &'s Source,
    progress: &'s mut dyn FnMut(u64),
) -> Result<Box<dyn Read + 's>, IngestError> {
    let stored = Counted { input: source.open()?, n_read: 0, told: 0, progress };
    let bytes: Box<dyn Read + 's> = match source.compression() {
        None => Box::new(stored),
        Some(Compression::Gzip) => Box::new(MultiGzDecoder::new(stored)),
        Some(Compression::Zstd) => {
            let failed = |error| IngestError::Io { file: source.name(), source: error };
            Box::new(zstd::Decoder::new(stored).map_err(failed)?)
        }
    };
    Ok(bytes)
}

/// Tells how much has been read through it.
struct Counted<'s> {
    input: Box<dyn Read + 's>,
    n_read: u64,
    told: u64,
    progress: &'s mut dyn FnMut(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n_bytes = self.input.read(buffer)?;
        self.n_read += n_bytes as u64;
        if n_bytes == 0 || self.n_read - self.told >= PROGRESS_BYTES {
            self.told = self.n_read;
            (self.progress)(self.n_read);
        }
        Ok(n_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::IngestError;
    use super::super::fixture::{gzip, histories, log_in, zstd};
    use std::fs;

    const HEADER: &[u8] = b"id,date,amount\n";
    const ROWS: &[u8] = b"1,1997-01-01,5\n2,1997-01-02,6\n";

    #[test]
    fn parts_that_follow_each_other_are_one_log() {
        let directory = tempfile::tempdir().unwrap();
        for (name, parts) in
            [("a.csv.gz", [gzip(HEADER), gzip(ROWS)]), ("a.csv.zst", [zstd(HEADER), zstd(ROWS)])]
        {
            let path = directory.path().join(name);
            fs::write(&path, parts.concat()).unwrap();
            assert_eq!(histories(&log_in(&path, &mut |_| ()).unwrap()).len(), 2, "{name}");
        }
    }

    #[test]
    fn a_stream_that_breaks_off_or_is_foreign_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let log = [HEADER, ROWS].concat();
        for (name, bytes) in [("a.csv.gz", gzip(&log)), ("a.csv.zst", zstd(&log))] {
            let path = directory.path().join(name);
            for broken in [&bytes[..bytes.len() - 3], &bytes[..bytes.len() / 2], ROWS] {
                fs::write(&path, broken).unwrap();
                match log_in(&path, &mut |_| ()) {
                    Err(IngestError::Io { file, .. }) => assert!(file.ends_with(name)),
                    other => panic!("{name}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn packed_nothing_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("a.csv.gz", gzip(b"")),
            ("a.csv.zst", zstd(b"")),
            ("a.ndjson.gz", gzip(b"\n \n")),
            ("a.ndjson", Vec::new()),
            ("a.parquet", Vec::new()),
        ] {
            let path = directory.path().join(name);
            fs::write(&path, bytes).unwrap();
            let result = log_in(&path, &mut |_| ());
            assert!(matches!(result, Err(IngestError::Empty { .. })), "{name}: {result:?}");
        }
    }
}
