//! What training says of a version.

use super::heads::{coverage_table, purchase_lines, replacements, served, trial_tables};
use super::table::{Table, money, number, percent};
use habitus_engine::domain::{Currency, EventKind};
use habitus_engine::models::density::REACHABILITY_QUANTILES;
use habitus_engine::segments::Segment;
use habitus_engine::training::{Evaluation, Trained};
use habitus_engine::version::{ChurnIs, ModelVersion, NoiseLevel};
use std::fmt::Write;

/// One line per segment.
pub fn segment_table(catalogue: &[Segment], currency: &Currency) -> Table {
    let spend = format!("spend/day ({})", currency.code);
    let ltv = format!("LTV ({})", currency.code);
    let mut table = Table::new(&[
        "segment",
        "name",
        "customers",
        "share",
        "of spend",
        "days since last",
        "purchase days",
        &spend,
        &ltv,
        "churn",
    ]);
    for segment in catalogue {
        let profile = &segment.profile;
        table.row(vec![
            segment.id.to_string(),
            segment.name.clone(),
            profile.n_customers.to_string(),
            percent(profile.share_of_customers),
            percent(profile.share_of_spend),
            number(Some(profile.median_days_since_last_purchase), 0),
            number(Some(profile.median_purchase_days), 0),
            money(profile.median_mean_spend),
            money(profile.mean_ltv),
            number(profile.mean_churn_probability, 3),
        ]);
    }
    table
}

/// The whole report of a training run, in Markdown. `rows` accounts for the log; `plots` stand beside
/// it by their file names.
pub fn training_report(
    name: &str,
    trained: &Trained,
    rows: &str,
    plots: &[(&'static str, String)],
) -> String {
    let (version, evaluation) = (&trained.version, &trained.evaluation);
    let clock = &evaluation.clock;
    let mut report = format!(
        "# {name}\n\nTrained on {} customers as of {}.\n\n## Segments\n\n{}\n",
        trained.n_customers,
        clock.as_of,
        segment_table(&version.segment.catalogue, &version.rules.currency),
    );
    report += "Purchase days, days since the last and spend of a purchase day are medians; LTV and \
               churn are means.\n\n### How many\n\n";
    report += &selection_table(evaluation).to_string();
    if let Some(noise) = noise(version) {
        push_line(&mut report, &format!("\n- noise: {noise}"));
    }
    for note in version.segment.clusters().iter().flat_map(|c| &c.diagnostics.notes) {
        push_line(&mut report, &format!("\n- {note}"));
    }
    push_line(&mut report, &format!("\n### Density\n\n{}", density_lines(evaluation)));
    if let Some(lineage) = super::lineage(version) {
        push_line(&mut report, &format!("\n### Where from\n\n{lineage}"));
    }
    push_line(&mut report, &format!("\n## Heads\n\n{}\n", heads_line(evaluation)));
    if version.churn_is != ChurnIs::Silence {
        push_line(&mut report, &format!("Churn is {}.\n", churn_meaning(version.churn_is)));
    }
    for note in &evaluation.notes {
        push_line(&mut report, &format!("- **Note**: {note}.\n"));
    }
    report += &trial_tables(evaluation);
    for line in replacements(version) {
        push_line(&mut report, &format!("- {line}"));
    }
    if let Some(coverage) = &evaluation.interval_coverage {
        let (table, level) = (coverage_table(coverage), percent(coverage.level));
        push_line(
            &mut report,
            &format!(
                "\n### Intervals by segment\n\n{table}\nThe share of customers whose spend, or days with a \
                 purchase, lay within their interval after {}, of {level} that are meant to. Each stands in \
                 the segment that this version gives them by what was known then. Under 30 customers a \
                 share would say nothing.",
                clock.measure
            ),
        );
    }
    if let Some(head) = &version.forecast.purchases {
        push_line(&mut report, &format!("\n### Purchases\n\n{}", purchase_lines(head)));
    }
    for (file, _) in plots {
        push_line(&mut report, &format!("![{}]({file})\n", file.trim_end_matches(".svg")));
    }
    push_line(&mut report, &format!("\n## Rows\n\n```text\n{rows}\n```"));
    report
}

/// Whether the customers have clusters of their own, whatever the segments say.
fn density_lines(evaluation: &Evaluation) -> String {
    let Some(density) = &evaluation.segments.density else {
        return "Nothing can be said: segments are tiers, the customers are too few for the number of \
                features, or nearly all of them coincide."
            .to_owned();
    };
    let clusters = match density.n_clusters {
        0 => "no cluster".to_owned(),
        1 => format!("1 cluster, of {} of the rows", percent(density.largest_share)),
        n => format!("{n} clusters, the largest of {} of the rows", percent(density.largest_share)),
    };
    let agreement = density.adjusted_rand.map_or_else(
        || "agreement with the segments is undefined under two clusters".to_owned(),
        |index| format!("agreement with the segments (adjusted Rand) {index:.2}"),
    );
    let valleys = match density.n_valleys {
        1 => "1 valley, so no wall parts the customers".to_owned(),
        n => format!("{n} valleys"),
    };
    let quantiles: Vec<String> = REACHABILITY_QUANTILES
        .iter()
        .zip(&density.reachability)
        .map(|(q, distance)| format!("{distance:.2} ({q})"))
        .collect();
    format!(
        "- DBSCAN ({} sampled rows, {} neighbours within {:.2}): {clusters}; {} noise; \
         {agreement}.\n- OPTICS: {valleys}; reachability at its quantiles {}.\n\nNothing is served \
         from this. Noise here is who lies in no dense region, not who is flagged by \
         `segment_noise`.",
        density.n_rows,
        density.min_points,
        density.eps,
        percent(density.noise_share),
        quantiles.join(", "),
    )
}

/// When the heads were fitted, and what their answers speak of.
fn heads_line(evaluation: &Evaluation) -> String {
    let clock = &evaluation.clock;
    if clock.fit == clock.measure {
        return format!(
            "Fitted, calibrated and measured on customers drawn as of {}, because labels have no \
             dates.",
            clock.as_of
        );
    }
    format!(
        "Fitted at {}, chosen and calibrated at {}, measured once at {}, fitted again there. Every \
         label window is the {} days after a cut-off; the horizon is {} days{}.",
        clock.fit,
        clock.calibrate,
        clock.measure,
        clock.window_days,
        clock.horizon_days,
        if evaluation.bridged {
            ", so answers are **bridged**: carried from the window to the horizon as the model of purchases \
             says, or at constant hazard where there is none; the blend is asked about the horizon itself"
        } else {
            ""
        },
    )
}

/// What churn is in a version, as a phrase.
pub fn churn_meaning(churn_is: ChurnIs) -> String {
    match churn_is {
        ChurnIs::Silence => "no purchase within the horizon".to_owned(),
        ChurnIs::Label => "the end of a contract".to_owned(),
        ChurnIs::Inactivity(inactivity) => {
            let kinds = Vec::<EventKind>::from(inactivity.activity);
            let kinds: Vec<&str> = kinds.into_iter().map(EventKind::name).collect();
            let (days, kinds) = (inactivity.days, kinds.join(", "));
            format!("{days} days in a row without activity ({kinds}), complete within the horizon")
        }
    }
}

/// From where on a customer is unlike those that the segments were learned from; `None` where
/// nothing tells.
pub fn noise(version: &ModelVersion) -> Option<String> {
    let NoiseLevel { quantile, log_density } = version.segment.noise()?;
    Some(format!("log-density below {log_density:.1} (the {quantile} quantile)"))
}

fn push_line(report: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(report, "{line}");
}

fn selection_table(evaluation: &Evaluation) -> Table {
    let mut table =
        Table::new(&["k", "chosen", "inertia", "BIC", "silhouette", "converged", "note"]);
    for candidate in &evaluation.segments.table {
        table.row(vec![
            candidate.k.to_string(),
            served(candidate.k == evaluation.segments.k),
            number(candidate.inertia, 1),
            number(candidate.bic, 1),
            number(candidate.silhouette, 4),
            candidate
                .diagnostics
                .as_ref()
                .map_or("no", |d| if d.converged { "yes" } else { "no" })
                .to_owned(),
            candidate.failure.clone().unwrap_or_default(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use habitus_engine::domain::Lifetime;
    use habitus_engine::segments::{Identity, Member, catalogue};

    #[test]
    fn a_segment_of_lost_customers_shows_no_churn() {
        let member = |cluster, churn_probability| Member { cluster, ltv: 1.0, churn_probability };
        let members = [member(0, Some(0.0)), member(1, None)];
        let segments = catalogue(Identity::mint(2, "test"), &[Lifetime::default(); 2], &members);
        let currency = Currency { code: "USD".into(), digits: 2 };
        let table = segment_table(&segments, &currency).to_string();
        let churn = |line: &str| line.trim_end_matches(" |").rsplit(' ').next().map(str::to_owned);
        let cells: Vec<_> = table.lines().skip(2).filter_map(churn).collect();
        assert_eq!(cells, ["0.000", "-"], "{table}");
    }
}
