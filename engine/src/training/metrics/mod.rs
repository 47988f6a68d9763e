//! How good an answer was. Definitions agree with scikit-learn and scipy where they have them. Where
//! predictions are tied, every customer of the tie counts with the tie's mean outcome, so that no
//! metric depends on the order of rows.
//!
//! Each is the metric over a [`Ranking`] in which every row counts once; a bootstrap over customers
//! asks the same rankings with rows that count as often as they were drawn.

mod ranking;

pub use ranking::{Bin, N_BINS, Ranking};

pub(super) use ranking::{correlation, mean_of};

/// Probabilities are kept this far from 0 and 1 before a logarithm is taken, so that a single sure
/// mistake stays finite.
const CLIP: f64 = 1e-4;

/// Area under the ROC curve of `scores` for the outcome `true`, ties counted half (Mann & Whitney
/// 1947). `None` where only one outcome occurs.
pub fn auc(outcomes: &[bool], scores: &[f64]) -> Option<f64> {
    Ranking::of(scores).auc(&numbers(outcomes), &once(scores))
}

/// Mean squared difference of probability and outcome (Brier 1950).
pub fn brier(outcomes: &[bool], probabilities: &[f64]) -> f64 {
    mean(outcomes.iter().zip(probabilities).map(|(&outcome, &p)| squared(number(outcome), p)))
}

/// Mean negative log-likelihood, with probabilities kept 1e-4 away from 0 and 1.
pub fn log_loss(outcomes: &[bool], probabilities: &[f64]) -> f64 {
    mean(outcomes.iter().zip(probabilities).map(|(&outcome, &p)| surprise(outcome, p)))
}

/// Expected calibration error over ten bins of equal count, ordered by probability.
pub fn ece(outcomes: &[bool], probabilities: &[f64]) -> f64 {
    Ranking::of(probabilities).ece(&numbers(outcomes), probabilities, &once(probabilities))
}

/// Gini of `actual` ranked by `predicted`, over its Gini ranked by itself; 1 is a perfect ranking,
/// 0 a random one. `None` where nothing or everything is equal.
pub fn normalised_gini(actual: &[f64], predicted: &[f64]) -> Option<f64> {
    let weights = once(actual);
    let own = Ranking::of(actual).gini(actual, &weights);
    Ranking::of(predicted).normalised_gini(own, actual, &weights)
}

/// The share of all that was spent which the tenth of the customers with the largest predictions
/// spent, the tenth being ⌊n / 10⌋ customers. `None` below ten customers, and where nothing was
/// spent.
pub fn top_decile_capture(actual: &[f64], predicted: &[f64]) -> Option<f64> {
    Ranking::of(predicted).top_decile(actual, &once(actual))
}

/// The mean over ten bins of equal count, ordered by prediction, of |mean actual - mean predicted| /
/// mean actual. Bins in which nothing was spent are left out; `None` where all are.
pub fn decile_mape(actual: &[f64], predicted: &[f64]) -> Option<f64> {
    Ranking::of(predicted).decile_mape(actual, predicted, &once(actual))
}

/// Spearman's rank correlation: Pearson's of the ranks, of which a tie shares the mean. `None` where
/// either side is all equal.
pub fn spearman(actual: &[f64], predicted: &[f64]) -> Option<f64> {
    let weights = once(actual);
    let ranks = |values: &[f64]| {
        let mut ranks = vec![0.0; values.len()];
        Ranking::of(values).ranks(&weights, &mut ranks);
        ranks
    };
    correlation(&ranks(actual), &ranks(predicted), &weights)
}

/// Mean absolute difference.
pub fn mean_absolute_error(actual: &[f64], predicted: &[f64]) -> f64 {
    mean(actual.iter().zip(predicted).map(|(a, p)| (a - p).abs()))
}

/// The root of the mean squared difference.
pub fn root_mean_squared_error(actual: &[f64], predicted: &[f64]) -> f64 {
    mean(actual.iter().zip(predicted).map(|(&a, &p)| squared(a, p))).sqrt()
}

/// Sum of predictions over sum of actual values; `None` where the latter is 0.
pub fn total_ratio(actual: &[f64], predicted: &[f64]) -> Option<f64> {
    let total: f64 = actual.iter().sum();
    (total != 0.0).then(|| predicted.iter().sum::<f64>() / total)
}

/// The interval score of one outcome, in its unit: the interval's width, and 2 / (1 - level) times
/// the distance to it where it does not hold the outcome (Gneiting & Raftery 2007, *JASA* 102, eq.
/// 43). Less is better, and no interval does better on average than that between the true quantiles.
pub fn interval_score(actual: f64, low: f64, high: f64, level: f64) -> f64 {
    let missed = (low - actual).max(actual - high).max(0.0);
    high - low + 2.0 / (1.0 - level) * missed
}

/// The squared difference.
pub(super) fn squared(actual: f64, predicted: f64) -> f64 {
    (predicted - actual).powi(2)
}

/// -ln of the probability that was given to what happened.
pub(super) fn surprise(outcome: bool, probability: f64) -> f64 {
    let p = probability.clamp(CLIP, 1.0 - CLIP);
    -libm::log(if outcome { p } else { 1.0 - p })
}

/// 1 for what happened, 0 for what did not.
pub(super) fn numbers(outcomes: &[bool]) -> Vec<f64> {
    outcomes.iter().map(|&outcome| number(outcome)).collect()
}

fn number(outcome: bool) -> f64 {
    f64::from(u8::from(outcome))
}

fn once(rows: &[f64]) -> Vec<f64> {
    vec![1.0; rows.len()]
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}
