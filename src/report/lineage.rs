//! How segments descend from an earlier version's, and what the gate says.

use super::table::{Table, number, percent};
use crate::registry::GateRecord;
use habitus_engine::domain::SegmentId;
use habitus_engine::segments::{LineageRecord, Share};
use habitus_engine::training::Outcome;
use habitus_engine::version::ModelVersion;
use std::fmt::Write;

/// Who moved and why, and what became of each segment; `None` where a version follows no other.
pub fn lineage(version: &ModelVersion) -> Option<String> {
    let lineage = version.segment.lineage.as_ref()?;
    let share = |part: u64, whole: u64| match whole {
        0 => "-".to_owned(),
        whole => format!("{} of {whole}", percent(part as f64 / whole as f64)),
    };
    let mut text = format!(
        "Segments follow {}. Moved because the model changed: {} customers that both can score (by \
         the index of the cluster it would be {}). Moved because they changed: {} customers that \
         the incumbent could score then and now.\n\n",
        lineage.incumbent.version,
        share(lineage.moved_by_model, lineage.n_common),
        share(lineage.moved_by_index, lineage.n_common),
        share(lineage.moved_by_customer, lineage.n_remained),
    );
    let name = |id: &SegmentId| {
        let segment = version.segment.catalogue.iter().find(|segment| segment.id == *id);
        segment.map_or_else(|| id.to_string(), |segment| format!("{id} ({})", segment.name))
    };
    let shares = |shares: &[Share]| {
        let part = |part: &Share| format!("{} {}", percent(part.share), name(&part.segment));
        shares.iter().map(part).collect::<Vec<_>>().join(", ")
    };
    for record in &lineage.records {
        let line = match record {
            LineageRecord::Continued { segment, n_old, n_new, n_both } => {
                format!(
                    "{} goes on: {n_old} customers, now {n_new}, {n_both} of them stayed",
                    name(segment)
                )
            }
            LineageRecord::Split { segment, into } => {
                format!("{} was split: {}", name(segment), shares(into))
            }
            LineageRecord::Merge { into, from } => {
                format!("{} was merged of {}", name(into), shares(from))
            }
            LineageRecord::Birth { segment, from } if from.is_empty() => {
                format!("{} is new", name(segment))
            }
            LineageRecord::Birth { segment, from } => {
                format!("{} is new: {}", name(segment), shares(from))
            }
            LineageRecord::Death { segment, into } if into.is_empty() => {
                format!("{} is gone", name(segment))
            }
            LineageRecord::Death { segment, into } => {
                format!("{} is gone: {}", name(segment), shares(into))
            }
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "- {line}");
    }
    Some(text)
}

/// The gate's verdict with the numbers that it rests on.
pub fn gate(record: &GateRecord) -> String {
    let verdict = &record.verdict;
    let outcome = match verdict.outcome {
        Outcome::Passed => "passed",
        Outcome::Refused => "refused",
        Outcome::Undecided => "undecided",
    };
    let mut text = format!(
        "gate: {outcome} against {}, on the {} days after its as-of and {} customers\n",
        record.incumbent, verdict.window_days, verdict.n_customers
    );
    for reason in &verdict.reasons {
        let _ = writeln!(text, "  {reason}");
    }
    let losses = || verdict.comparisons.iter().filter_map(|comparison| comparison.loss.as_ref());
    if losses().count() > 0 && losses().all(|loss| loss.estimate == 0.0) {
        let _ = writeln!(
            text,
            "  both versions answer alike, as they do where the settings are the incumbent's: only \
             relabelling could tell against the candidate"
        );
    }
    if !verdict.comparisons.is_empty() {
        let mut table = Table::new(&[
            "head",
            "metric",
            "customers",
            "incumbent",
            "candidate",
            "loss",
            "from",
            "to",
            "refuses",
        ]);
        for comparison in &verdict.comparisons {
            let loss = comparison.loss.as_ref();
            table.row(vec![
                comparison.head.clone(),
                comparison.metric.clone(),
                comparison.n_customers.to_string(),
                number(comparison.incumbent, 4),
                number(comparison.candidate, 4),
                number(loss.map(|loss| loss.estimate), 4),
                number(loss.map(|loss| loss.low), 4),
                number(loss.map(|loss| loss.high), 4),
                if comparison.refuses { "yes".to_owned() } else { String::new() },
            ]);
        }
        let _ = write!(text, "\n{table}");
    }
    text.push('\n');
    text
}
