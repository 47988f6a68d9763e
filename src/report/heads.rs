//! What training says of the heads: every model that was tried, and what gave way.

use super::table::{Table, number, percent};
use habitus_engine::models::btyd::Season;
use habitus_engine::training::{
    ChurnMetrics, Evaluation, Held, IntervalCoverage, PurchaseMetrics, SegmentCoverage, Trial,
    ValueMetrics,
};
use habitus_engine::version::{
    CovariateColumn, CovariateHead, ModelVersion, PurchaseHead, Replaced,
};

/// Models of purchases where any was tried, and both heads against their baselines, measured once at
/// the last cut-off.
pub fn trial_tables(evaluation: &Evaluation) -> String {
    let mut tables = vec![churn_table(&evaluation.churn), value_table(&evaluation.value)];
    if !evaluation.purchases.is_empty() {
        tables.insert(0, purchase_table(&evaluation.purchases));
    }
    tables.iter().map(|table| format!("{table}\n")).collect()
}

fn churn_table(trials: &[Trial<ChurnMetrics>]) -> Table {
    let mut table = Table::new(&[
        "churn model",
        "served",
        "customers",
        "churned",
        "AUC",
        "Brier",
        "log loss",
        "ECE",
        "Brier at calibration",
        "note",
    ]);
    for trial in trials {
        let holdout = trial.holdout.as_ref();
        table.row(vec![
            trial.family.clone(),
            served(trial.chosen),
            holdout.map_or_else(|| "-".into(), |metrics| metrics.n_customers.to_string()),
            holdout.map_or_else(|| "-".into(), |metrics| percent(metrics.rate)),
            number(holdout.and_then(|metrics| metrics.auc), 4),
            number(holdout.map(|metrics| metrics.brier), 4),
            number(holdout.map(|metrics| metrics.log_loss), 4),
            number(holdout.map(|metrics| metrics.ece), 4),
            number(trial.calibration.as_ref().map(|metrics| metrics.brier), 4),
            note(trial),
        ]);
    }
    table
}

fn purchase_table(trials: &[Trial<PurchaseMetrics>]) -> Table {
    let mut table = Table::new(&[
        "model of purchases",
        "served",
        "customers",
        "actual mean",
        "predicted mean",
        "MAE",
        "total ratio",
        "AUC",
        "Brier",
        "ECE",
        "interval",
        "coverage",
        "Brier at calibration",
        "note",
    ]);
    for trial in trials {
        let holdout = trial.holdout.as_ref();
        table.row(vec![
            trial.family.clone(),
            served(trial.chosen),
            holdout.map_or_else(|| "-".into(), |metrics| metrics.n_customers.to_string()),
            number(holdout.map(|metrics| metrics.mean_actual), 3),
            number(holdout.map(|metrics| metrics.mean_predicted), 3),
            number(holdout.map(|metrics| metrics.mae), 3),
            number(holdout.and_then(|metrics| metrics.total_ratio), 3),
            number(holdout.and_then(|metrics| metrics.auc), 4),
            number(holdout.map(|metrics| metrics.brier), 4),
            number(holdout.map(|metrics| metrics.ece), 4),
            holdout.map_or_else(|| "-".into(), |metrics| percent(metrics.interval_level)),
            holdout.map_or_else(|| "-".into(), |metrics| percent(metrics.interval_coverage)),
            number(trial.calibration.as_ref().map(|metrics| metrics.brier), 4),
            note(trial),
        ]);
    }
    table
}

/// What the model of purchases is made of.
pub fn purchases(version: &ModelVersion) -> String {
    let head = version.forecast.purchases.as_ref();
    head.map_or_else(|| "none".to_owned(), PurchaseHead::family)
}

/// The model of purchases that is served: what it learned from, and its parameters.
pub(super) fn purchase_lines(head: &PurchaseHead) -> String {
    let evidence = &head.evidence;
    // With covariates another fit answers, of which the plain one is the measure.
    let covariates = head.covariates.as_ref();
    let parameters = covariates.map_or(&evidence.parameters, |head| &head.evidence.parameters);
    let mut table = Table::new(&["parameter", "value", "standard error"]);
    for parameter in parameters {
        table.row(vec![
            parameter.name.clone(),
            format!("{:.5}", parameter.value),
            number(parameter.standard_error, 5),
        ]);
    }
    let spend = head.spend.map_or_else(
        || {
            "Spend has no model: a customer's own mean stands for what a purchase day is worth."
                .to_owned()
        },
        |spend| {
            format!(
                "Spend of a purchase day: Gamma-Gamma with p {:.4}, q {:.4}, v {:.4}.",
                spend.p, spend.q, spend.v
            )
        },
    );
    format!(
        "{} of {} customers ({} distinct rows) at the as-of, times in days: log-likelihood {:.3}, \
         without drop-out {:.3}; condition number {}.\n\n{table}\n{spend}\n{}{}",
        head.family(),
        evidence.n_customers,
        evidence.n_rows,
        evidence.log_likelihood,
        evidence.log_likelihood_without_drop_out,
        evidence.condition_number.map_or_else(|| "-".to_owned(), |number| format!("{number:.0}")),
        head.covariates.as_ref().map(covariate_lines).unwrap_or_default(),
        head.season.as_ref().map(season_line).unwrap_or_default(),
    ) + &head.diagnostics.notes.iter().map(|note| format!("\n- {note}.\n")).collect::<String>()
}

/// What attributes do.
fn covariate_lines(head: &CovariateHead) -> String {
    let scale =
        |(name, column): (&String, &CovariateColumn)| format!("{name} by {:.3}", column.scale);
    let scales: Vec<String> = head.model.names.iter().zip(&head.columns).map(scale).collect();
    format!(
        "\nWith covariates the log-likelihood is {:.3}; r, alpha and the rest are of the average \
         customer, and effects are logarithms of factors, of the rate or of dropping out, per covariate \
         divided by its scale ({}).\n",
        head.evidence.log_likelihood,
        scales.join(", "),
    )
}

/// How much more is bought in each month than in the mean of the year.
fn season_line(season: &Season) -> String {
    let factors: Vec<String> =
        season.by_month.iter().map(|factor| format!("{factor:.2}")).collect();
    format!(
        "\nPurchases by month, January first, as multiples of the mean: {}.\n",
        factors.join(", ")
    )
}

fn value_table(trials: &[Trial<ValueMetrics>]) -> Table {
    let mut table = Table::new(&[
        "value model",
        "served",
        "customers",
        "actual mean",
        "predicted mean",
        "MAE",
        "norm. Gini",
        "total ratio",
        "interval",
        "coverage",
        "Gini at calibration",
        "note",
    ]);
    for trial in trials {
        let holdout = trial.holdout.as_ref();
        table.row(vec![
            trial.family.clone(),
            served(trial.chosen),
            holdout.map_or_else(|| "-".into(), |metrics| metrics.n_customers.to_string()),
            number(holdout.map(|metrics| metrics.mean_actual), 2),
            number(holdout.map(|metrics| metrics.mean_predicted), 2),
            number(holdout.map(|metrics| metrics.mae), 2),
            number(holdout.and_then(|metrics| metrics.normalised_gini), 4),
            number(holdout.and_then(|metrics| metrics.total_ratio), 3),
            holdout.map_or_else(|| "-".into(), |metrics| percent(metrics.interval_level)),
            holdout.map_or_else(|| "-".into(), |metrics| percent(metrics.interval_coverage)),
            number(trial.calibration.as_ref().and_then(|metrics| metrics.normalised_gini), 4),
            note(trial),
        ]);
    }
    table
}

/// What the served intervals held, by segment.
pub(super) fn coverage_table(coverage: &IntervalCoverage) -> Table {
    let mut table = Table::new(&["segment", "name", "customers", "spend held", "purchases held"]);
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), percent);
    let mut row = |id: String, name: String, held: &Held| {
        let (spend, purchases) = (share(held.spend), share(held.purchases));
        table.row(vec![id, name, held.n_customers.to_string(), spend, purchases]);
    };
    for SegmentCoverage { segment, name, held } in &coverage.segments {
        row(segment.to_string(), name.clone(), held);
    }
    row("all".to_owned(), String::new(), &coverage.all);
    table
}

/// Why there is no model, or what its fit had to say.
fn note<M>(trial: &Trial<M>) -> String {
    let notes = trial.diagnostics.iter().flat_map(|diagnostics| &diagnostics.notes);
    trial.failure.iter().chain(notes).cloned().collect::<Vec<_>>().join("; ")
}

pub(super) fn served(chosen: bool) -> String {
    if chosen { "yes".to_owned() } else { String::new() }
}

/// The heads that gave way to a baseline, and why; a line each.
pub fn replacements(version: &ModelVersion) -> Vec<String> {
    let forecast = &version.forecast;
    let purchases = forecast.purchases.as_ref().and_then(|head| head.replaced.as_ref());
    let (churn, value) = (forecast.churn.replaced.as_ref(), forecast.value.replaced.as_ref());
    [("purchases", purchases), ("churn", churn), ("value", value)]
        .into_iter()
        .filter_map(|(head, replaced)| {
            let Replaced { family, by, reason } = replaced?;
            Some(format!("{head}: {family} gave way to {by}: {reason}"))
        })
        .collect()
}
