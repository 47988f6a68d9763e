//! What of a model can be drawn: calibration, gain, and prediction beside outcome.

use super::{Answers, Backtest, Bounds};
use crate::training::metrics::{Bin, Ranking, numbers};
use serde::Serialize;

/// Points of a gain curve, from nobody to everybody.
const N_POINTS: usize = 101;

/// One model's curves over everybody who was known at the cut-off; calibration over those of them who
/// could churn. What it does not answer has none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curves {
    pub model: String,
    /// P(churn) by ten bins of equal count, the least first.
    pub calibration: Option<Vec<Decile>>,
    /// Expected spend likewise, in major currency units.
    pub spend: Option<Vec<Decile>>,
    /// The share of each of these tenths whose spend its interval held; absent without intervals.
    pub spend_coverage: Option<Vec<f64>>,
    /// The share of all spend that the customers with the largest predictions had: of the first 0 %,
    /// 1 % .. 100 % of them.
    pub gain: Option<Vec<f64>>,
}

/// A tenth of the customers, by prediction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Decile {
    pub n_customers: usize,
    pub mean_predicted: f64,
    pub mean_actual: f64,
}

impl Backtest {
    /// The curves of every model.
    pub fn curves(&self) -> Vec<Curves> {
        let (asked, churned) = self.outcomes_of_churn(|_| true);
        let churned = numbers(&churned);
        let deciles = |actual: &[f64], predicted: &[f64]| -> Vec<Decile> {
            let weights = vec![1.0; actual.len()];
            let bins = Ranking::of(predicted).bins(actual, predicted, &weights);
            bins.iter().filter(|bin| bin.n > 0.0).map(Decile::of).collect()
        };
        let coverage = |predicted: &[f64], bounds: &Bounds| {
            let ends = bounds.low.iter().zip(&bounds.high);
            let held = |(spend, (low, high)): (&f64, (&f64, &f64))| low <= spend && spend <= high;
            let held: Vec<bool> = self.spend.iter().zip(ends).map(held).collect();
            let tenths: Vec<Decile> = deciles(&numbers(&held), predicted);
            tenths.into_iter().map(|tenth| tenth.mean_actual).collect()
        };
        let of = |answers: &Answers| {
            let spend = answers.spend.as_ref();
            let interval = answers.spend_interval.as_ref();
            Curves {
                model: answers.model.clone(),
                calibration: answers.silence.as_ref().map(|p| {
                    let p: Vec<f64> = asked.iter().map(|&row| p[row]).collect();
                    deciles(&churned, &p)
                }),
                spend: spend.map(|predicted| deciles(&self.spend, predicted)),
                spend_coverage: spend
                    .zip(interval)
                    .map(|(predicted, bounds)| coverage(predicted, bounds)),
                gain: spend.and_then(|predicted| gain(&self.spend, predicted)),
            }
        };
        self.models.iter().map(of).collect()
    }

    /// The gain curve of who knows what will be spent; `None` where nothing is.
    pub fn best_gain(&self) -> Option<Vec<f64>> {
        gain(&self.spend, &self.spend)
    }
}

impl Decile {
    fn of(bin: &Bin) -> Decile {
        Decile {
            n_customers: bin.n as usize,
            mean_predicted: bin.predicted / bin.n,
            mean_actual: bin.actual / bin.n,
        }
    }
}

/// Cumulative shares of `actual` from the largest prediction down, a tie evenly.
fn gain(actual: &[f64], predicted: &[f64]) -> Option<Vec<f64>> {
    let total: f64 = actual.iter().sum();
    if total <= 0.0 {
        return None;
    }
    let ranking = Ranking::of(predicted);
    // From where to where in the order each tie is, and how much it had by then.
    let (mut end, mut captured) = (0.0, 0.0);
    let mut points = Vec::with_capacity(N_POINTS);
    points.push(0.0);
    for tie in ranking.ties().rev() {
        let (start, before) = (end, captured);
        let n = tie.len() as f64;
        let own: f64 = tie.iter().map(|&row| actual[row as usize]).sum();
        end += n;
        captured += own;
        while points.len() + 1 < N_POINTS {
            let at = points.len() as f64 / (N_POINTS - 1) as f64 * actual.len() as f64;
            if at > end {
                break;
            }
            points.push((before + own * (at - start) / n) / total);
        }
    }
    // Everybody has all of it, whatever sums round to.
    points.resize(N_POINTS, 1.0);
    Some(points)
}
