//! From logs on disk to validated histories, with an account of every row.
//!
//! The way of a row: `source` finds the files, `columns` finds the fields, `csv_log` reads record
//! by record, `log` hands each row to the event rules and collects what they accept, `report`
//! counts the rest. A bad row is counted and never fatal; a file that is no log at all stops the run.
//!
//! What is absent: a clock (the caller passes `now`), the merging of order lines, anything that
//! looks at a customer. The rules that shape events belong to the engine, so that streamed events
//! pass the same function as the rows read here.

mod columns;
mod csv_log;
mod error;
mod excerpt;
#[cfg(test)]
mod fixture;
mod log;
mod report;
mod source;

pub use columns::Columns;
pub use error::IngestError;
pub use log::Log;
pub use report::{Example, IngestReport, RowCounts, Validation};
pub use source::{Source, sources};

use self::log::Collector;
use habitus_engine::domain::{EventRules, Timestamp};

/// Reads all sources into one log. `now` is the clock at the start of the run: a row dated later is
/// rejected. `progress` hears, from time to time, how many bytes have been read over all sources.
///
/// The order of the sources and of their rows does not matter to the histories.
///
/// # Errors
/// [`IngestError`] where a file cannot be read, is empty, or lacks a mapped column.
pub fn read(
    sources: &[Source],
    columns: &Columns,
    rules: &EventRules,
    now: Timestamp,
    progress: &mut dyn FnMut(u64),
) -> Result<Log, IngestError> {
    let mut collector = Collector::new(rules, now);
    let mut bytes_before = 0;
    for source in sources {
        let bytes = csv_log::read(source, columns, &mut collector, &mut |bytes| {
            progress(bytes_before + bytes);
        })?;
        bytes_before += bytes;
    }
    Ok(collector.finish())
}
