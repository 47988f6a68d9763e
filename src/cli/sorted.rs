//! Rows made part by part, written in the order of their customers' ids.

use super::Global;
use super::progress::Progress;
use crate::export::{Merged, RunRow, RunRows, Runs};
use crate::ingest::{HistoryCounts, IngestError, Log, N_PARTS, Part};
use habitus_engine::domain::AsOf;
use rayon::prelude::*;

/// All rows of a log, sorted by key.
pub struct Sorted {
    pub rows: SortedRows,
    /// How many there will be, roughly.
    pub n_rows: u64,
    /// What became of the log's readable rows.
    pub counts: HistoryCounts,
}

/// Rows that are sorted by key.
pub enum SortedRows {
    /// The rows of every part, and by part and row in which order they come.
    InMemory(Vec<RunRows>, Vec<(usize, usize)>),
    OnDisk(Merged),
}

/// The rows of a part, sorted by key, and what became of the part's readable rows.
pub type RowsOfPart = (RunRows, HistoryCounts);

impl SortedRows {
    /// Shows the key and the bytes of each.
    ///
    /// # Errors
    /// Where a row cannot be read, and the first of `see`.
    pub fn each(
        self,
        mut see: impl FnMut(&str, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match self {
            SortedRows::InMemory(parts, order) => order.into_iter().try_for_each(|(part, row)| {
                let (key, bytes) = parts[part].get(row);
                see(key, bytes)
            }),
            SortedRows::OnDisk(mut merged) => merged.try_for_each(|row| {
                let RunRow { key, bytes } = row?;
                see(&key, &bytes)
            }),
        }
    }
}

/// Makes the rows of every part of `log`. Those of a log that is on disk go to `runs`, where parts
/// that already have a run are passed over.
pub fn sorted(
    log: &Log,
    as_of: AsOf,
    runs: impl FnOnce() -> anyhow::Result<Runs>,
    rows_of: impl Fn(Part<'_>) -> Result<RowsOfPart, IngestError> + Sync,
    what: &'static str,
    global: &Global,
) -> anyhow::Result<Sorted> {
    let progress = Progress::of(log.n_rows(), what, false, global.quiet);
    let mut counts = HistoryCounts::default();
    if !log.is_spilled() {
        let mut parts: Vec<RunRows> = Vec::new();
        log.each_part(as_of, rows_of, |(rows, of_part)| -> anyhow::Result<()> {
            parts.push(rows);
            counts += of_part;
            progress.at(counts.accepted + counts.after_as_of);
            Ok(())
        })?;
        let n_rows = parts.iter().map(|rows| rows.len() as u64).sum();
        let order = in_order(&parts);
        return Ok(Sorted { rows: SortedRows::InMemory(parts, order), n_rows, counts });
    }
    let runs = runs()?;
    let mut n_rows = 0;
    log.each_part(
        as_of,
        |part| {
            if runs.has(part.number) {
                let mut n = 0;
                let counts = part.each(|_| n += 1)?;
                return Ok((n, counts));
            }
            let (rows, counts) = rows_of(part)?;
            let written = runs.write(part.number, &rows);
            written.map_err(|source| IngestError::Spill { source })?;
            Ok((rows.len() as u64, counts))
        },
        |(n, of_part)| -> anyhow::Result<()> {
            counts += of_part;
            n_rows += n;
            progress.at(counts.accepted + counts.after_as_of);
            Ok(())
        },
    )?;
    Ok(Sorted { rows: SortedRows::OnDisk(runs.merged(N_PARTS)?), n_rows, counts })
}

/// The places of the rows of all parts by key. They are sorted by how the keys begin, which lies
/// closer together than the keys do.
fn in_order(parts: &[RunRows]) -> Vec<(usize, usize)> {
    let places = |(part, rows): (usize, &RunRows)| -> Vec<(u64, usize, usize)> {
        let begins = rows.iter().enumerate();
        begins.map(|(row, (key, _))| (beginning(key), part, row)).collect()
    };
    let mut places: Vec<(u64, usize, usize)> =
        parts.par_iter().enumerate().flat_map_iter(places).collect();
    places.par_sort_unstable_by(|&(a_begins, a_part, a), &(b_begins, b_part, b)| {
        let keys = || parts[a_part].get(a).0.cmp(parts[b_part].get(b).0);
        a_begins.cmp(&b_begins).then_with(keys)
    });
    places.into_iter().map(|(_, part, row)| (part, row)).collect()
}

/// The first eight bytes of a key, as a number that is in the same order. Keys that begin alike may
/// have one number.
fn beginning(key: &str) -> u64 {
    let mut word = [0; 8];
    word.iter_mut().zip(key.bytes()).for_each(|(place, byte)| *place = byte);
    u64::from_be_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_in_the_order_of_their_keys() {
        let keys = ["b", "a\0", "a", "", "abcdefgh", "abcdefghi", "abcdefg", "é", "abcdefgha", "B"];
        let mut expected = keys.to_vec();
        expected.sort_unstable();
        let (some, others) = keys.split_at(4);
        let parts = [some, &[], others].map(|keys| {
            let mut rows = RunRows::default();
            keys.iter().for_each(|key| rows.push(key, |bytes| bytes.extend(key.bytes().rev())));
            rows
        });
        let order = in_order(&parts);
        let mut found = Vec::new();
        let see = |key: &str, bytes: &[u8]| {
            assert!(key.bytes().rev().eq(bytes.iter().copied()));
            found.push(key.to_owned());
            Ok(())
        };
        SortedRows::InMemory(parts.into(), order).each(see).unwrap();
        assert_eq!(found, expected);
    }
}
