//! Every model against every metric: tables for a terminal, and the whole evaluation in Markdown.

use super::table::{Table, percent};
use habitus_engine::training::{
    Backtest, Estimate, Metric, ModelScores, Resampled, Scorecard, Section,
};
use habitus_engine::version::ChurnIs;
use serde_json::json;
use std::fmt::Write;

/// One cut-off: what the models said, and how good it was.
pub struct Evaluated {
    pub backtest: Backtest,
    pub all: Scorecard,
    /// Of those about whom the head in question would answer.
    pub eligible: Scorecard,
    /// What a reader should know before trusting the numbers.
    pub notes: Vec<String>,
}

impl Evaluated {
    /// Whom, when, and what happened.
    fn heading(&self) -> String {
        let Backtest { cutoff, until, clock, .. } = &self.backtest;
        let n = self.all.spend.n_customers;
        let churned = match self.backtest.churn_is {
            ChurnIs::Inactivity(inactivity) => format!(
                "of {} customers who were not inactive for {} days yet {} churned, of {n} in all",
                self.all.churn.n_customers,
                inactivity.days,
                percent(self.all.churn.mean_actual),
            ),
            ChurnIs::Silence | ChurnIs::Label => {
                format!("of {n} customers {} bought nothing", percent(self.all.churn.mean_actual))
            }
        };
        let learned = format!(
            "fitted at {}, calibrated at {}, last fitted at {}, each on the {} days after{}",
            clock.fit,
            clock.calibrate,
            clock.measure,
            clock.window_days,
            if clock.bridged() { "; bridged to the horizon" } else { "" },
        );
        format!(
            "cut-off {cutoff}, {} days up to {until}: {churned}; {:.4} days with a purchase and {:.2} spent \
             on average\n{learned}",
            clock.horizon_days, self.all.purchases.mean_actual, self.all.spend.mean_actual,
        )
    }

    /// The tables of those who count, under what they are called.
    fn blocks(&self) -> Vec<(String, &Scorecard)> {
        let eligible = &self.eligible;
        let counts = [eligible.churn.n_customers, eligible.spend.n_customers];
        let (n, can_churn) = (self.all.spend.n_customers, self.all.churn.n_customers);
        let everybody = if n == can_churn {
            format!("all {n} customers")
        } else {
            format!("all {n} customers, of whom {can_churn} were not yet inactive")
        };
        if counts == [self.all.churn.n_customers, self.all.spend.n_customers] {
            return vec![(format!("{everybody}, who are all eligible"), &self.all)];
        }
        let [churn, value] = counts;
        let some = format!("the eligible: {churn} for churn, {value} for purchases and spend");
        vec![(everybody, &self.all), (some, eligible)]
    }

    /// What models say of themselves, a line each.
    fn model_notes(&self) -> impl Iterator<Item = String> {
        let models = self.backtest.models.iter();
        models
            .filter(|answers| !answers.notes.is_empty())
            .map(|answers| format!("{}: {}", answers.model, answers.notes.join("; ")))
    }

    /// Tables for a terminal.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.heading());
        for (who, card) in self.blocks() {
            let _ = writeln!(text, "\n{who}\n\n{}", tables(card));
        }
        for note in self.notes.iter().cloned().chain(self.model_notes()) {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }

    /// Everything, for programs.
    pub fn json(&self) -> serde_json::Value {
        let Backtest { cutoff, until, clock, .. } = &self.backtest;
        let notes = |answers: &habitus_engine::training::Answers| {
            (!answers.notes.is_empty()).then(|| (answers.model.clone(), json!(answers.notes)))
        };
        let models: serde_json::Map<_, _> = self.backtest.models.iter().filter_map(notes).collect();
        json!({
            "cutoff": cutoff.to_string(),
            "until": until.to_string(),
            "horizon_days": clock.horizon_days,
            "window_days": clock.window_days,
            "churn_is": self.backtest.churn_is,
            "bridged": clock.bridged(),
            "clock": {
                "fit": clock.fit.to_string(),
                "calibrate": clock.calibrate.to_string(),
                "measure": clock.measure.to_string(),
            },
            "all": self.all,
            "eligible": self.eligible,
            "curves": self.backtest.curves(),
            "best_gain": self.backtest.best_gain(),
            "notes": self.notes,
            "model_notes": models,
        })
    }

    /// The chapter of this cut-off. `plots` stand beside it by their file names.
    fn chapter(&self, plots: &[String]) -> String {
        let mut chapter = format!("## Cut-off {}\n\n{}\n", self.backtest.cutoff, self.heading());
        for (who, card) in self.blocks() {
            let _ = write!(chapter, "\n### Of {who}\n\n{}\n{}", tables(card), gains(card));
        }
        let notes: Vec<String> = self.notes.iter().cloned().chain(self.model_notes()).collect();
        if !notes.is_empty() {
            let _ = writeln!(chapter, "\n### Notes\n\n- {}", notes.join("\n- "));
        }
        for file in plots {
            let _ = write!(chapter, "\n![{}]({file})\n", file.trim_end_matches(".svg"));
        }
        chapter
    }
}

/// The whole evaluation in Markdown: `rows` accounts for the log, and each cut-off has its plots by
/// their file names.
pub fn evaluation_report(
    name: &str,
    replicates: u32,
    rows: &str,
    cutoffs: &[(&Evaluated, Vec<String>)],
) -> String {
    let mut report = format!(
        "# Evaluation of {name}\n\nEvery model learned from what was known at a cut-off and was then held \
         against what happened in the horizon after it. ± is one standard error by {replicates} draws of \
         customers; gains are over the baseline, of interval scores over empirical quantiles by tenths of \
         the prediction; positive is better, with their {} intervals. The metrics are defined in docs/models/evaluation.md.\n",
        percent(Resampled::LEVEL),
    );
    for (evaluated, plots) in cutoffs {
        let _ = write!(report, "\n{}", evaluated.chapter(plots));
    }
    let _ = write!(report, "\n## Rows\n\n```text\n{rows}\n```\n");
    report
}

fn tables(card: &Scorecard) -> String {
    let churn = table("churn", &card.churn, &Metric::OF_CHURN);
    let purchases = table("purchases", &card.purchases, &Metric::OF_AMOUNTS);
    format!("{churn}\n{purchases}\n{}", table("spend", &card.spend, &Metric::OF_AMOUNTS))
}

/// A row for each model that answers.
fn table(what: &str, section: &Section, metrics: &[Metric]) -> Table {
    let mut over = format!("over {}", section.baseline);
    if let Some(interval) = section.interval_baseline {
        let _ = write!(over, ", intervals over {interval}");
    }
    let mut headers = vec![what];
    headers.extend(metrics.iter().map(|metric| name(*metric)));
    headers.push(&over);
    let mut table = Table::new(&headers);
    for model in &section.models {
        let mut row = vec![model.model.clone()];
        let cell = |metric: &Metric| {
            let score = model.scores.get(metric);
            score.map_or_else(|| "-".to_owned(), |score| with_error(score, decimals(what, *metric)))
        };
        row.extend(metrics.iter().map(cell));
        row.push(certain(model));
        table.row(row);
    }
    table
}

/// The metrics in which a model is better, or worse, than the baseline beyond its interval.
fn certain(model: &ModelScores) -> String {
    let sign = |(metric, gain): (&Metric, &Estimate)| {
        let (low, high) = (gain.low?, gain.high?);
        let sign = if low > 0.0 {
            '+'
        } else if high < 0.0 {
            '-'
        } else {
            return None;
        };
        Some(format!("{sign}{}", name(*metric)))
    };
    model.gains.iter().filter_map(sign).collect::<Vec<_>>().join(", ")
}

/// The gains with their intervals.
fn gains(card: &Scorecard) -> String {
    let mut text = String::new();
    let sections = [
        ("churn", &card.churn, &Metric::OF_CHURN[..]),
        ("purchases", &card.purchases, &Metric::OF_AMOUNTS),
        ("spend", &card.spend, &Metric::OF_AMOUNTS),
    ];
    for (what, section, metrics) in sections {
        let told =
            |metric: &&Metric| section.models.iter().any(|model| model.gains.contains_key(metric));
        let metrics: Vec<Metric> = metrics.iter().filter(told).copied().collect();
        let mut first = format!("gain in {what} over {}", section.baseline);
        if let Some(interval) = section.interval_baseline {
            let _ = write!(first, ", in intervals over {interval}");
        }
        let mut headers = vec![first.as_str()];
        headers.extend(metrics.iter().map(|metric| name(*metric)));
        let mut table = Table::new(&headers);
        for model in section.models.iter().filter(|model| !model.gains.is_empty()) {
            let mut row = vec![model.model.clone()];
            row.extend(metrics.iter().map(|metric| {
                let gain = model.gains.get(metric);
                gain.map_or_else(|| "-".to_owned(), |gain| between(gain, decimals(what, *metric)))
            }));
            table.row(row);
        }
        let _ = write!(text, "\n{table}");
    }
    text
}

fn with_error(score: &Estimate, decimals: usize) -> String {
    let Estimate { estimate, standard_error, .. } = score;
    let error = standard_error.map(|error| format!(" ± {error:.decimals$}"));
    format!("{estimate:.decimals$}{}", error.unwrap_or_default())
}

fn between(score: &Estimate, decimals: usize) -> String {
    match (score.low, score.high) {
        (Some(low), Some(high)) => {
            format!("{:.decimals$} ({low:.decimals$} to {high:.decimals$})", score.estimate)
        }
        _ => format!("{:.decimals$}", score.estimate),
    }
}

/// Money has cents.
fn decimals(what: &str, metric: Metric) -> usize {
    let is_amount = matches!(metric, Metric::Mae | Metric::Rmse | Metric::IntervalScore);
    if is_amount && what == "spend" { 2 } else { 4 }
}

/// The name in tables.
fn name(metric: Metric) -> &'static str {
    match metric {
        Metric::Auc => "AUC",
        Metric::Brier => "Brier",
        Metric::LogLoss => "log loss",
        Metric::Ece => "ECE",
        Metric::Mae => "MAE",
        Metric::Rmse => "RMSE",
        Metric::Spearman => "Spearman",
        Metric::NormalisedGini => "norm. Gini",
        Metric::TopDecileCapture => "top decile",
        Metric::DecileMape => "decile MAPE",
        Metric::TotalRatio => "total ratio",
        Metric::IntervalCoverage => "coverage",
        Metric::IntervalScore => "interval score",
    }
}
