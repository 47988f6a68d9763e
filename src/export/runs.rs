//! Rows that are made part by part and leave as one sorted whole.
//!
//! Each part gives a sorted run. Runs are files that appear when they are whole, so that a process
//! that was killed finds what it had finished; [`Runs::merged`] reads them all in one order.

use super::AtomicFile;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::PathBuf;

/// A directory of runs.
#[derive(Debug)]
pub struct Runs {
    directory: PathBuf,
}

/// Rows of one part on their way, in the order of their keys: each a key, and bytes that only the
/// caller understands. They lie end to end, so that many of them cost little.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunRows {
    keys: String,
    bytes: Vec<u8>,
    /// Where the key and the bytes of each row end.
    ends: Vec<(usize, usize)>,
}

impl RunRows {
    /// None yet, with room for so many of so many bytes each, of keys that are not long.
    pub fn with_room(n_rows: usize, n_bytes: usize) -> RunRows {
        const USUAL_KEY_BYTES: usize = 12;
        RunRows {
            keys: String::with_capacity(n_rows * USUAL_KEY_BYTES),
            bytes: Vec::with_capacity(n_rows * n_bytes),
            ends: Vec::with_capacity(n_rows),
        }
    }

    /// Appends a row, whose bytes are what `put` appends.
    pub fn push(&mut self, key: &str, put: impl FnOnce(&mut Vec<u8>)) {
        self.keys.push_str(key);
        put(&mut self.bytes);
        self.ends.push((self.keys.len(), self.bytes.len()));
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The key of a row, and its bytes.
    ///
    /// # Panics
    /// Beyond the last row.
    pub fn get(&self, row: usize) -> (&str, &[u8]) {
        let (key_end, end) = self.ends[row];
        let (key_start, start) = row.checked_sub(1).map_or((0, 0), |before| self.ends[before]);
        (&self.keys[key_start..key_end], &self.bytes[start..end])
    }

    /// All rows.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        (0..self.len()).map(|row| self.get(row))
    }
}

/// A row that comes back.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunRow {
    pub key: String,
    pub bytes: Vec<u8>,
}

impl Runs {
    /// The runs in `directory`, which is made where it does not exist.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn open(directory: PathBuf) -> io::Result<Runs> {
        std::fs::create_dir_all(&directory)?;
        Ok(Runs { directory })
    }

    /// Whether a run stands there, whole.
    pub fn has(&self, run: usize) -> bool {
        self.path(run).exists()
    }

    /// Writes a run, sorted by key, whole or not at all.
    ///
    /// # Errors
    /// Where the disk refuses it.
    pub fn write(&self, run: usize, rows: &RunRows) -> io::Result<()> {
        let file = AtomicFile::create(&self.path(run))?;
        let mut out = BufWriter::new(file.handle()?);
        for (key, bytes) in rows.iter() {
            for part in [key.as_bytes(), bytes] {
                let length = u32::try_from(part.len()).map_err(io::Error::other)?;
                out.write_all(&length.to_le_bytes())?;
                out.write_all(part)?;
            }
        }
        out.flush()?;
        drop(out);
        file.publish()
    }

    /// The rows of all runs in the order of their keys.
    ///
    /// # Errors
    /// Where a run cannot be read.
    pub fn merged(&self, n_runs: usize) -> io::Result<Merged> {
        let mut merged = Merged { inputs: Vec::new(), heads: BinaryHeap::new() };
        for run in (0..n_runs).filter(|&run| self.has(run)) {
            // Many runs are open at once, so each has a small buffer.
            merged.inputs.push(BufReader::with_capacity(1 << 14, File::open(self.path(run))?));
            merged.refill(merged.inputs.len() - 1)?;
        }
        Ok(merged)
    }

    fn path(&self, run: usize) -> PathBuf {
        self.directory.join(format!("run-{run:03}"))
    }
}

/// Rows of several runs, in the order of their keys.
#[derive(Debug)]
pub struct Merged {
    inputs: Vec<BufReader<File>>,
    heads: BinaryHeap<Reverse<(RunRow, usize)>>,
}

impl Merged {
    fn refill(&mut self, input: usize) -> io::Result<()> {
        if let Some(row) = read_row(&mut self.inputs[input])? {
            self.heads.push(Reverse((row, input)));
        }
        Ok(())
    }
}

impl Iterator for Merged {
    type Item = io::Result<RunRow>;

    fn next(&mut self) -> Option<io::Result<RunRow>> {
        let Reverse((row, input)) = self.heads.pop()?;
        Some(self.refill(input).map(|()| row))
    }
}

/// The next row of a run; `None` at its end.
fn read_row(input: &mut impl Read) -> io::Result<Option<RunRow>> {
    let Some(key) = read_part(input)? else { return Ok(None) };
    let bytes = read_part(input)?.ok_or(ErrorKind::UnexpectedEof)?;
    let key = String::from_utf8(key).map_err(io::Error::other)?;
    Ok(Some(RunRow { key, bytes }))
}

fn read_part(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut part = vec![0; u32::from_le_bytes(length) as usize];
    input.read_exact(&mut part)?;
    Ok(Some(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_merged_in_the_order_of_their_keys() {
        let directory = tempfile::tempdir().unwrap();
        let runs = Runs::open(directory.path().join("runs")).unwrap();
        let write = |run: usize, keys: &[&str]| {
            let mut rows = RunRows::default();
            keys.iter().for_each(|key| rows.push(key, |bytes| bytes.extend(key.repeat(3).bytes())));
            assert_eq!((rows.len(), rows.is_empty()), (keys.len(), keys.is_empty()));
            runs.write(run, &rows).unwrap();
        };
        write(0, &["b", "d"]);
        write(2, &["a", "c", "é"]);
        write(5, &[]);
        assert_eq!([0, 1, 2, 5].map(|run| runs.has(run)), [true, false, true, true]);
        let merged: io::Result<Vec<RunRow>> = runs.merged(6).unwrap().collect();
        let row = |key: &str| RunRow { key: key.into(), bytes: key.repeat(3).into_bytes() };
        assert_eq!(merged.unwrap(), ["a", "b", "c", "d", "é"].map(row));
    }
}
