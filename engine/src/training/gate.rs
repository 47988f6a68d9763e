//! The gate: whether a candidate is certainly worse than the incumbent for the same customers.

use super::bootstrap::{Interval, difference_interval};
use super::metrics::{auc, brier, mean_absolute_error, normalised_gini};
use crate::domain::Seed;
use serde::{Deserialize, Serialize};

/// The level of the interval that must lie above 0 before a loss refuses.
const LEVEL: f64 = 0.95;

/// Losses up to this part of the incumbent's metric are rounding, however sure they are: fits to
/// the same events on two kinds of processor may differ.
const ROUNDING: f64 = 1e-6;

/// Up to this many customers the bootstrap makes as many replicates as were asked for.
const MOST_CUSTOMERS_IN_FULL: u64 = 20_000;

/// Beyond it, customers times replicates stay about here, at no less than 100 replicates.
const MOST_DRAWS: u64 = 10_000_000;

/// What one version says of the customers at the cut-off, row by row. `None` where it abstains; a
/// number that is not finite counts as none.
#[derive(Debug, Clone, PartialEq)]
pub struct Rival {
    /// P(no purchase within the window), `(n_customers,)`.
    pub churn: Vec<Option<f64>>,
    /// Expected spend within the window in major currency units, `(n_customers,)`.
    pub value: Vec<Option<f64>>,
}

/// What became of the same customers within the window, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcomes {
    /// Whether nothing was bought, `(n_customers,)`.
    pub churned: Vec<bool>,
    /// In major currency units, `(n_customers,)`.
    pub spend: Vec<f64>,
}

/// What the gate asks for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateParams {
    /// A shorter window decides nothing.
    pub least_days: u32,
    /// Fewer customers decide nothing.
    pub least_customers: u64,
    /// The largest share of customers that may see another segment id, in `[0, 1]`.
    pub most_relabelled: f64,
    /// Of the bootstrap. Beyond 20,000 customers it makes as many as keep customers times
    /// replicates at about ten million, and at least 100.
    pub replicates: u32,
}

/// The gate's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Passed,
    Refused,
    /// Too little has happened to tell.
    Undecided,
}

/// One metric of both versions, over the customers for whom both answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// `churn` or `value`.
    pub head: String,
    /// `brier`, `auc`, `normalised_gini` or `mae`.
    pub metric: String,
    pub n_customers: u64,
    /// Absent where the metric is undefined, such as AUC where only one outcome occurred.
    pub incumbent: Option<f64>,
    pub candidate: Option<f64>,
    /// The candidate's loss in the metric's unit: positive is worse, whichever way the metric runs.
    pub loss: Option<Interval>,
    pub refuses: bool,
}

/// The gate's decision and all that it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub outcome: Outcome,
    /// Whole phrases, those that refuse before those that leave it undecided; empty where passed.
    pub reasons: Vec<String>,
    pub window_days: u32,
    /// Rows that were compared, whether or not the heads answer about them.
    pub n_customers: u64,
    pub comparisons: Vec<Comparison>,
    /// Share of the customers that see another segment id, in `[0, 1]`; absent where unknown.
    pub relabelled: Option<f64>,
}

impl Default for GateParams {
    fn default() -> GateParams {
        GateParams { least_days: 28, least_customers: 200, most_relabelled: 0.2, replicates: 500 }
    }
}

/// Compares a candidate with the incumbent by what happened in the `window_days` after a cut-off.
///
/// A metric refuses the candidate where the whole 95 % bootstrap interval of its loss lies above 0
/// by more than rounding. None does where the window is shorter than `least_days` or where there
/// are fewer than `least_customers`, and none of a head's where both versions answer about fewer
/// than that: the gate is then undecided, unless something else refuses. It also refuses where more
/// than `most_relabelled` of the customers would see another segment id, whatever the metrics say.
///
/// # Panics
/// Where the rows are not of the same customers: a mistake of the caller, never of the data.
pub fn compare(
    incumbent: &Rival,
    candidate: &Rival,
    outcomes: &Outcomes,
    window_days: u32,
    relabelled: Option<f64>,
    params: &GateParams,
    seed: Seed,
) -> Verdict {
    let n_rows = outcomes.churned.len();
    let lengths = [incumbent, candidate].map(|rival| [rival.churn.len(), rival.value.len()]);
    assert!(
        outcomes.spend.len() == n_rows && lengths == [[n_rows; 2]; 2],
        "rows must be of the same customers"
    );
    let (n_customers, least) = (n_rows as u64, params.least_customers);
    let churn = Both::of(&incumbent.churn, &candidate.churn, &outcomes.churned);
    let value = Both::of(&incumbent.value, &candidate.value, &outcomes.spend);
    let mae = |actual: &[f64], predicted: &[f64]| Some(mean_absolute_error(actual, predicted));
    let mut comparisons = vec![
        churn.compare(["churn", "brier"], false, |y, p| Some(brier(y, p)), params, seed),
        churn.compare(["churn", "auc"], true, auc, params, seed),
        value.compare(["value", "normalised_gini"], true, normalised_gini, params, seed),
        value.compare(["value", "mae"], false, mae, params, seed),
    ];

    let mut undecided = Vec::new();
    if window_days < params.least_days {
        let needed = params.least_days;
        undecided.push(format!("the window has {window_days} days; at least {needed} are needed"));
    }
    if n_customers < least {
        undecided.push(format!("there are {n_customers} customers; at least {least} are needed"));
    }
    let enough = undecided.is_empty();
    for (head, n) in [("churn", churn.outcomes.len()), ("value", value.outcomes.len())] {
        if enough && (n as u64) < least {
            undecided.push(too_few(head, n, least));
        }
    }
    let mut refusing = Vec::new();
    // Written so that a share that is not a number refuses as well.
    if let Some(share) = relabelled.filter(|share| !share.le(&params.most_relabelled)) {
        let (share, most) = (100.0 * share, 100.0 * params.most_relabelled);
        refusing.push(format!(
            "{share:.1} % of the customers would see another segment for the model's sake; at most \
             {most:.1} % may (a warm start, segments.warm_start, stays nearer)"
        ));
    }
    for comparison in &mut comparisons {
        let phrase = comparison.certain_loss();
        let phrase = phrase.filter(|_| enough && comparison.n_customers >= least);
        comparison.refuses = phrase.is_some();
        refusing.extend(phrase);
    }
    let outcome = match (refusing.is_empty(), undecided.is_empty()) {
        (false, _) => Outcome::Refused,
        (true, false) => Outcome::Undecided,
        (true, true) => Outcome::Passed,
    };
    refusing.extend(undecided);
    Verdict { outcome, reasons: refusing, window_days, n_customers, comparisons, relabelled }
}

/// That too few customers are answered about by both versions.
pub(super) fn too_few(head: &str, n: usize, least: u64) -> String {
    format!("both versions tell the {head} of {n} customers; at least {least} are needed")
}

/// Two versions' answers about the customers for whom both have one, each `(n_both,)`.
struct Both<T> {
    incumbent: Vec<f64>,
    candidate: Vec<f64>,
    outcomes: Vec<T>,
}

impl<T: Copy + Sync> Both<T> {
    fn of(incumbent: &[Option<f64>], candidate: &[Option<f64>], outcomes: &[T]) -> Both<T> {
        let mut both = Both { incumbent: vec![], candidate: vec![], outcomes: vec![] };
        let finite = |answer: &Option<f64>| answer.filter(|number| number.is_finite());
        for ((incumbent, candidate), &outcome) in incumbent.iter().zip(candidate).zip(outcomes) {
            if let (Some(incumbent), Some(candidate)) = (finite(incumbent), finite(candidate)) {
                both.incumbent.push(incumbent);
                both.candidate.push(candidate);
                both.outcomes.push(outcome);
            }
        }
        both
    }

    /// Both versions by one metric, which does not refuse yet.
    fn compare(
        &self,
        [head, name]: [&str; 2],
        more_is_better: bool,
        metric: impl Fn(&[T], &[f64]) -> Option<f64> + Sync,
        params: &GateParams,
        seed: Seed,
    ) -> Comparison {
        // A mean of nothing is not finite.
        let measure = |outcomes: &[T], predictions: &[f64]| {
            metric(outcomes, predictions).filter(|value| value.is_finite())
        };
        let loss = |rows: &[usize]| {
            let outcomes: Vec<T> = rows.iter().map(|&row| self.outcomes[row]).collect();
            let drawn = |predictions: &[f64]| {
                measure(&outcomes, &rows.iter().map(|&row| predictions[row]).collect::<Vec<f64>>())
            };
            let (incumbent, candidate) = (drawn(&self.incumbent)?, drawn(&self.candidate)?);
            Some(if more_is_better { incumbent - candidate } else { candidate - incumbent })
        };
        let n = self.outcomes.len();
        let times = replicates(params.replicates, n as u64);
        Comparison {
            head: head.to_owned(),
            metric: name.to_owned(),
            n_customers: n as u64,
            incumbent: measure(&self.outcomes, &self.incumbent),
            candidate: measure(&self.outcomes, &self.candidate),
            // All metrics of the same customers see the same draws.
            loss: difference_interval(n, loss, seed, times, LEVEL),
            refuses: false,
        }
    }
}

impl Comparison {
    /// Says by how much the candidate is worse, where that is certain.
    fn certain_loss(&self) -> Option<String> {
        let Interval { low, high, level, .. } = self.loss?;
        let (incumbent, candidate) = (self.incumbent?, self.candidate?);
        let (metric, head, percent) = (&self.metric, &self.head, 100.0 * level);
        (low > ROUNDING * incumbent.abs()).then(|| {
            format!(
                "the candidate's {metric} of {head} is certainly worse: {candidate:.6} against \
                 {incumbent:.6}, a loss of {low:.6} to {high:.6} at {percent:.0} %"
            )
        })
    }
}

/// How many replicates are worth their time for this many customers.
fn replicates(asked: u32, n_customers: u64) -> u32 {
    if n_customers <= MOST_CUSTOMERS_IN_FULL {
        return asked;
    }
    asked.min((MOST_DRAWS / n_customers).max(100) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    const SEED: Seed = Seed(5);

    /// Customers whose outcomes are as the incumbent says: it knows all that can be known.
    fn shop(n: usize) -> (Rival, Outcomes) {
        let mut rng = SEED.rng();
        let p: Vec<f64> = (0..n).map(|_| rng.gen_range(0.0..1.0)).collect();
        let churned: Vec<bool> = p.iter().map(|&p| rng.gen_range(0.0_f64..1.0) < p).collect();
        let spend = churned.iter().map(|&churned| if churned { 0.0 } else { 100.0 }).collect();
        let value = p.iter().map(|p| Some(100.0 * (1.0 - p))).collect();
        let churn = p.into_iter().map(Some).collect();
        (Rival { churn, value }, Outcomes { churned, spend })
    }

    /// Everybody gets somebody else's answers.
    fn shuffled(rival: &Rival) -> Rival {
        let Rival { mut churn, mut value } = rival.clone();
        churn.rotate_left(1);
        value.rotate_left(1);
        Rival { churn, value }
    }

    fn judge(rivals: [&Rival; 2], outcomes: &Outcomes, days: u32, moved: Option<f64>) -> Verdict {
        compare(rivals[0], rivals[1], outcomes, days, moved, &GateParams::default(), SEED)
    }

    #[test]
    fn equals_pass() {
        let (rival, outcomes) = shop(500);
        let verdict = judge([&rival, &rival], &outcomes, 28, Some(0.2));
        assert_eq!((verdict.outcome, verdict.reasons.len()), (Outcome::Passed, 0));
        let loss = Interval { estimate: 0.0, low: 0.0, high: 0.0, level: LEVEL };
        assert!(verdict.comparisons.iter().all(|metric| metric.loss == Some(loss)));
    }

    #[test]
    fn shuffled_answers_are_refused_and_better_ones_pass() {
        let (rival, outcomes) = shop(500);
        let other = shuffled(&rival);
        let verdict = judge([&rival, &other], &outcomes, 90, None);
        assert_eq!((verdict.outcome, verdict.reasons.len()), (Outcome::Refused, 4));
        assert!(verdict.comparisons.iter().all(|metric| metric.refuses));
        assert_eq!(judge([&other, &rival], &outcomes, 90, None).outcome, Outcome::Passed);
    }

    #[test]
    fn too_little_decides_nothing() {
        let (rival, outcomes) = shop(150);
        let verdict = judge([&rival, &shuffled(&rival)], &outcomes, 90, None);
        assert_eq!((verdict.outcome, verdict.reasons.len()), (Outcome::Undecided, 1));
        assert!(verdict.comparisons.iter().all(|metric| metric.loss.is_some() && !metric.refuses));
        let (more, outcomes) = shop(300);
        assert_eq!(judge([&more, &more], &outcomes, 27, None).outcome, Outcome::Undecided);
        // Who abstains from most of a head does not pass by it.
        let mut silent = more.clone();
        silent.churn[100..].fill(None);
        let verdict = judge([&more, &silent], &outcomes, 90, None);
        assert_eq!((verdict.outcome, verdict.reasons.len()), (Outcome::Undecided, 1));
        assert_eq!(verdict.comparisons[0].n_customers, 100);
    }

    #[test]
    fn relabelling_refuses_in_any_case() {
        let (rival, outcomes) = shop(250);
        for (days, share) in [(90, 0.21), (5, 0.3), (90, f64::NAN)] {
            let outcome = judge([&rival, &rival], &outcomes, days, Some(share)).outcome;
            assert_eq!(outcome, Outcome::Refused, "{days} days, {share}");
        }
    }

    #[test]
    fn nobody_and_one_outcome_for_all_are_no_accident() {
        let (rival, mut outcomes) = shop(250);
        outcomes.churned.fill(true);
        outcomes.spend.fill(0.0);
        let verdict = judge([&rival, &rival], &outcomes, 90, None);
        let defined = verdict.comparisons.iter().map(|metric| metric.loss.is_some());
        assert_eq!(defined.collect::<Vec<_>>(), [true, false, false, true]);
        let (nobody, nothing) = shop(0);
        let verdict = judge([&nobody, &nobody], &nothing, 90, None);
        assert_eq!(verdict.outcome, Outcome::Undecided);
        assert!(verdict.comparisons.iter().all(|metric| metric.incumbent.is_none()));
    }

    #[test]
    fn many_customers_get_fewer_replicates() {
        let of = |n_customers| replicates(500, n_customers);
        assert_eq!([of(20_000), of(40_000), of(5_000_000)], [500, 250, 100]);
        assert_eq!((replicates(2_000, 300), replicates(50, 5_000_000)), (2_000, 50));
    }
}
