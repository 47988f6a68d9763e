//! Rows made part by part, written in the order of their customers' ids.

use super::Global;
use super::progress::Progress;
use crate::export::{RunRow, Runs};
use crate::ingest::{HistoryCounts, IngestError, Log, N_PARTS, Part};
use habitus_engine::domain::AsOf;
use rayon::prelude::*;
use std::io;

/// All rows of a log, sorted by key.
pub struct Sorted {
    pub rows: Box<dyn Iterator<Item = io::Result<RunRow>>>,
    /// How many there will be, roughly.
    pub n_rows: u64,
    /// What became of the log's readable rows.
    pub counts: HistoryCounts,
}

/// The rows of a part, sorted by key, and what became of the part's readable rows.
pub type RowsOfPart = (Vec<RunRow>, HistoryCounts);

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
        let mut parts: Vec<Vec<RunRow>> = Vec::new();
        log.each_part(as_of, rows_of, |(rows, of_part)| -> anyhow::Result<()> {
            parts.push(rows);
            counts += of_part;
            progress.at(counts.accepted + counts.after_as_of);
            Ok(())
        })?;
        let n_rows = parts.iter().map(|rows| rows.len() as u64).sum();
        return Ok(Sorted { rows: Box::new(in_order(parts).map(Ok)), n_rows, counts });
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
    Ok(Sorted { rows: Box::new(runs.merged(N_PARTS)?), n_rows, counts })
}

/// The rows of all parts by key. Their places are sorted by how the keys begin, which lies closer
/// together than the keys do.
fn in_order(mut parts: Vec<Vec<RunRow>>) -> impl Iterator<Item = RunRow> {
    let places = |(part, rows): (usize, &Vec<RunRow>)| -> Vec<(u64, usize, usize)> {
        let begins = rows.iter().enumerate();
        begins.map(|(row, RunRow { key, .. })| (beginning(key), part, row)).collect()
    };
    let mut places: Vec<(u64, usize, usize)> =
        parts.par_iter().enumerate().flat_map_iter(places).collect();
    places.par_sort_unstable_by(|&(a_begins, a_part, a), &(b_begins, b_part, b)| {
        let keys = || parts[a_part][a].key.cmp(&parts[b_part][b].key);
        a_begins.cmp(&b_begins).then_with(keys)
    });
    places.into_iter().map(move |(_, part, row)| std::mem::take(&mut parts[part][row]))
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
        let row = |key: &&str| RunRow { key: (*key).into(), bytes: key.as_bytes().to_vec() };
        let mut expected: Vec<RunRow> = keys.iter().map(row).collect();
        expected.sort_unstable();
        let (some, others) = keys.split_at(4);
        let parts = [some, &[], others].map(|keys| keys.iter().map(row).collect());
        let found: Vec<RunRow> = in_order(parts.into()).collect();
        assert_eq!(found, expected);
    }
}
