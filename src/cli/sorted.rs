//! Rows made part by part, written in the order of their customers' ids.

use super::Global;
use super::progress::Progress;
use crate::export::{RunRow, Runs};
use crate::ingest::{HistoryCounts, Log, N_PARTS, Part};
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

/// Makes the rows of every part of `log`. Those of a log that is on disk go to `runs`, where parts
/// that already have a run are passed over.
pub fn sorted(
    log: &Log,
    as_of: AsOf,
    runs: impl FnOnce() -> anyhow::Result<Runs>,
    rows_of: impl Fn(&Part) -> Vec<RunRow> + Sync,
    what: &'static str,
    global: &Global,
) -> anyhow::Result<Sorted> {
    let progress = Progress::of(log.n_rows(), what, false, global.quiet);
    let mut counts = HistoryCounts::default();
    if !log.is_spilled() {
        let mut rows: Vec<RunRow> = Vec::new();
        log.each_part(
            as_of,
            |part| (rows_of(&part), part.counts),
            |_, (made, of_part)| -> anyhow::Result<()> {
                rows.extend(made);
                counts += of_part;
                progress.at(counts.accepted + counts.after_as_of);
                Ok(())
            },
        )?;
        rows.par_sort_unstable();
        let n_rows = rows.len() as u64;
        return Ok(Sorted { rows: Box::new(rows.into_iter().map(Ok)), n_rows, counts });
    }
    let runs = runs()?;
    let mut n_rows = 0;
    log.each_part(
        as_of,
        |part| {
            if !runs.has(part.number) {
                runs.write(part.number, &rows_of(&part))?;
            }
            Ok::<_, io::Error>((part.counts, part.histories.len() as u64))
        },
        |_, written| -> anyhow::Result<()> {
            let (of_part, n) = written?;
            counts += of_part;
            n_rows += n;
            progress.at(counts.accepted + counts.after_as_of);
            Ok(())
        },
    )?;
    Ok(Sorted { rows: Box::new(runs.merged(N_PARTS)?), n_rows, counts })
}
