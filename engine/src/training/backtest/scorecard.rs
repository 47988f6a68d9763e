//! Every model against every metric, with what the bootstrap over customers says of each number.

use super::{Answers, Backtest, Bounds, CHURN_BASELINE, INTERVAL_BASELINE, VALUE_BASELINE};
use crate::domain::Seed;
use crate::training::bootstrap::{Estimate, Resampled};
use crate::training::metrics::{
    Ranking, correlation, interval_score, mean_of, numbers, squared, surprise,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// Whose outcomes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Everybody who was known at the cut-off.
    All,
    /// Those about whom the head in question would answer.
    Eligible,
}

/// What is measured; docs/models/evaluation.md defines each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    Auc,
    Brier,
    LogLoss,
    Ece,
    Mae,
    Rmse,
    Spearman,
    NormalisedGini,
    TopDecileCapture,
    DecileMape,
    TotalRatio,
    IntervalCoverage,
    IntervalScore,
}

impl Metric {
    /// Of P(churn).
    pub const OF_CHURN: [Metric; 4] = [Metric::Auc, Metric::Brier, Metric::LogLoss, Metric::Ece];
    /// Of expected purchases and of expected spend.
    pub const OF_AMOUNTS: [Metric; 9] = [
        Metric::Mae,
        Metric::Rmse,
        Metric::Spearman,
        Metric::NormalisedGini,
        Metric::TopDecileCapture,
        Metric::DecileMape,
        Metric::TotalRatio,
        Metric::IntervalCoverage,
        Metric::IntervalScore,
    ];

    /// How bad a value is, so that less is better for each metric; `None` where a metric does not say
    /// which of two models is better. A total ratio is as bad as it is far from 1.
    pub fn loss(self, value: f64) -> Option<f64> {
        match self {
            Metric::Auc | Metric::Spearman | Metric::NormalisedGini | Metric::TopDecileCapture => {
                Some(-value)
            }
            Metric::Brier
            | Metric::LogLoss
            | Metric::Ece
            | Metric::Mae
            | Metric::Rmse
            | Metric::DecileMape
            | Metric::IntervalScore => Some(value),
            Metric::TotalRatio => Some((value - 1.0).abs()),
            Metric::IntervalCoverage => None,
        }
    }
}

/// Every model that answers, by what it answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scorecard {
    /// Of P(churn).
    pub churn: Section,
    /// Of days with a purchase.
    pub purchases: Section,
    /// Of spend, in major currency units.
    pub spend: Section,
}

/// The models that answer one question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Section {
    pub n_customers: usize,
    /// Mean of what happened: the share that churned, days with a purchase, or spend.
    pub mean_actual: f64,
    /// The model that gains are over.
    pub baseline: &'static str,
    /// That of gains in the interval score; absent where no interval is asked for.
    pub interval_baseline: Option<&'static str>,
    pub models: Vec<ModelScores>,
}

/// One model's numbers. A metric that is undefined, or that the model gives no answer for, is absent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelScores {
    pub model: String,
    pub scores: BTreeMap<Metric, Estimate>,
    /// By how much the model is better than the baseline, over the same draws of customers: positive
    /// is better, whichever way the metric runs.
    pub gains: BTreeMap<Metric, Estimate>,
}

impl Backtest {
    /// Measures every model, with so many `replicates` of the bootstrap; 0 for the numbers alone. The
    /// same seed gives the same bits for any number of threads.
    pub fn scorecard(&self, who: Who, replicates: u32, seed: Seed) -> Scorecard {
        let rows = |is_eligible: &[bool]| -> Vec<usize> {
            let counts = |&row: &usize| who == Who::All || is_eligible[row];
            (0..self.customers.len()).filter(counts).collect()
        };
        let valued = rows(&self.is_valued);
        let (churning, churned) =
            self.outcomes_of_churn(|row| who == Who::All || self.is_churning[row]);
        let silent = numbers(&churned);
        let churn: Vec<(&str, Churn)> =
            self.answering(|answers| Churn::of(answers, &churning, &silent));
        let amounts = |actual: &[f64], of: fn(&Answers) -> Said<'_>| {
            let actual = picked(actual, &valued);
            let models = self.answering(|answers| Amounts::of(of(answers), &valued, &actual));
            let ranking = Ranking::of(&actual);
            let statistics = |weights: &[f64]| {
                let mut ranks = vec![0.0; actual.len()];
                ranking.ranks(weights, &mut ranks);
                let own = ranking.gini(&actual, weights);
                let total = mean_of(&actual, weights);
                let truth = Truth { actual: &actual, ranks: &ranks, own, total };
                let mut scratch = vec![0.0; actual.len()];
                let of = |model: &(&str, Amounts)| model.1.scores(&truth, weights, &mut scratch);
                models.iter().flat_map(of).collect()
            };
            let names: Vec<&str> = models.iter().map(|(name, _)| *name).collect();
            let resampled = Resampled::of(actual.len(), statistics, seed, replicates);
            section(&actual, VALUE_BASELINE, &names, &Metric::OF_AMOUNTS, &resampled)
        };
        let statistics = |weights: &[f64]| {
            churn.iter().flat_map(|(_, model)| model.scores(&silent, weights)).collect()
        };
        let names: Vec<&str> = churn.iter().map(|(name, _)| *name).collect();
        let resampled = Resampled::of(silent.len(), statistics, seed, replicates);
        Scorecard {
            churn: section(&silent, CHURN_BASELINE, &names, &Metric::OF_CHURN, &resampled),
            purchases: amounts(&self.purchases, |answers| {
                (answers.purchases.as_deref(), answers.purchase_interval.as_ref())
            }),
            spend: amounts(&self.spend, |answers| {
                (answers.spend.as_deref(), answers.spend_interval.as_ref())
            }),
        }
    }

    /// The models that answer, by name.
    fn answering<M>(&self, of: impl Fn(&Answers) -> Option<M>) -> Vec<(&str, M)> {
        let models = self.models.iter();
        models.filter_map(|answers| Some((answers.model.as_str(), of(answers)?))).collect()
    }
}

/// A model's prediction and its interval.
type Said<'a> = (Option<&'a [f64]>, Option<&'a Bounds>);

/// The statistics of so many models in a row, as numbers and gains with their intervals.
fn section(
    actual: &[f64],
    baseline: &'static str,
    names: &[&str],
    metrics: &[Metric],
    resampled: &Resampled,
) -> Section {
    let place_of = |name: &str| names.iter().position(|known| *known == name);
    let base_of = |metric: Metric| match metric {
        Metric::IntervalScore => place_of(INTERVAL_BASELINE),
        _ => place_of(baseline),
    };
    let model = |(index, name): (usize, &&str)| {
        let place = |model: usize, metric: usize| model * metrics.len() + metric;
        let score = |(metric, name): (usize, &Metric)| {
            Some((*name, resampled.estimate(|values| values[place(index, metric)])?))
        };
        let gain = |(metric, name): (usize, &Metric)| {
            let base = base_of(*name).filter(|&base| base != index)?;
            let loss = |value: Option<f64>| name.loss(value?);
            let gain = resampled.estimate(|values| {
                Some(loss(values[place(base, metric)])? - loss(values[place(index, metric)])?)
            });
            Some((*name, gain?))
        };
        ModelScores {
            model: (*name).to_owned(),
            scores: metrics.iter().enumerate().filter_map(score).collect(),
            gains: metrics.iter().enumerate().filter_map(gain).collect(),
        }
    };
    Section {
        n_customers: actual.len(),
        mean_actual: actual.iter().sum::<f64>() / actual.len().max(1) as f64,
        baseline,
        interval_baseline: metrics.contains(&Metric::IntervalScore).then_some(INTERVAL_BASELINE),
        models: names.iter().enumerate().map(model).collect(),
    }
}

/// The chosen rows of a column.
fn picked(values: &[f64], rows: &[usize]) -> Vec<f64> {
    rows.iter().map(|&row| values[row]).collect()
}

/// What a model says of churn, ranked, with its loss for each customer.
struct Churn {
    ranking: Ranking,
    told: Option<Told>,
}

struct Told {
    probabilities: Vec<f64>,
    squares: Vec<f64>,
    surprises: Vec<f64>,
}

impl Churn {
    fn of(answers: &Answers, rows: &[usize], silent: &[f64]) -> Option<Churn> {
        let Some(probabilities) = &answers.silence else {
            let ranking = Ranking::of(&picked(answers.silence_score.as_ref()?, rows));
            return Some(Churn { ranking, told: None });
        };
        let probabilities = picked(probabilities, rows);
        let both = || silent.iter().zip(&probabilities);
        let squares = both().map(|(&silent, &p)| squared(silent, p)).collect();
        let surprises = both().map(|(&silent, &p)| surprise(silent > 0.0, p)).collect();
        let ranking = Ranking::of(&probabilities);
        Some(Churn { ranking, told: Some(Told { probabilities, squares, surprises }) })
    }

    /// In the order of [`Metric::OF_CHURN`].
    fn scores(&self, silent: &[f64], weights: &[f64]) -> [Option<f64>; 4] {
        let told = self.told.as_ref();
        [
            self.ranking.auc(silent, weights),
            told.map(|told| mean_of(&told.squares, weights)),
            told.map(|told| mean_of(&told.surprises, weights)),
            told.map(|told| self.ranking.ece(silent, &told.probabilities, weights)),
        ]
    }
}

/// What happened, as every model of a draw of customers is held against it.
struct Truth<'a> {
    actual: &'a [f64],
    ranks: &'a [f64],
    /// Gini by itself.
    own: Option<f64>,
    /// Its mean.
    total: f64,
}

/// What a model says of an amount, ranked, with its losses for each customer.
struct Amounts {
    ranking: Ranking,
    predicted: Vec<f64>,
    distances: Vec<f64>,
    squares: Vec<f64>,
    interval: Option<Held>,
}

struct Held {
    holds: Vec<f64>,
    scores: Vec<f64>,
}

impl Amounts {
    fn of((predicted, bounds): Said<'_>, rows: &[usize], actual: &[f64]) -> Option<Amounts> {
        let predicted = picked(predicted?, rows);
        let both = || actual.iter().zip(&predicted);
        let interval = bounds.map(|Bounds { level, low, high }| {
            let (low, high) = (picked(low, rows), picked(high, rows));
            let bounds = || actual.iter().zip(low.iter().zip(&high));
            let holds =
                |(actual, (low, high))| f64::from(u8::from(low <= actual && actual <= high));
            let score = |(actual, (low, high)): (&f64, (&f64, &f64))| {
                interval_score(*actual, *low, *high, *level)
            };
            Held { holds: bounds().map(holds).collect(), scores: bounds().map(score).collect() }
        });
        Some(Amounts {
            distances: both().map(|(actual, predicted)| (actual - predicted).abs()).collect(),
            squares: both().map(|(&actual, &predicted)| squared(actual, predicted)).collect(),
            ranking: Ranking::of(&predicted),
            predicted,
            interval,
        })
    }

    /// In the order of [`Metric::OF_AMOUNTS`].
    fn scores(&self, truth: &Truth<'_>, weights: &[f64], ranks: &mut [f64]) -> [Option<f64>; 9] {
        self.ranking.ranks(weights, ranks);
        let Amounts { ranking, predicted, .. } = self;
        let held = self.interval.as_ref();
        [
            Some(mean_of(&self.distances, weights)),
            Some(mean_of(&self.squares, weights).sqrt()),
            correlation(truth.ranks, ranks, weights),
            ranking.normalised_gini(truth.own, truth.actual, weights),
            ranking.top_decile(truth.actual, weights),
            ranking.decile_mape(truth.actual, predicted, weights),
            (truth.total > 0.0).then(|| mean_of(predicted, weights) / truth.total),
            held.map(|held| mean_of(&held.holds, weights)),
            held.map(|held| mean_of(&held.scores, weights)),
        ]
    }
}
