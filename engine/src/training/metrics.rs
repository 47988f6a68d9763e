//! How good an answer was. Definitions agree with scikit-learn where it has them; ties never depend
//! on the order of rows unless said.

/// Area under the ROC curve of `scores` for the outcome `true`, ties counted half (Mann & Whitney
/// 1947). `None` where only one outcome occurs.
pub fn auc(outcomes: &[bool], scores: &[f64]) -> Option<f64> {
    let positives = outcomes.iter().filter(|&&outcome| outcome).count() as f64;
    let negatives = outcomes.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let order = ascending(scores);
    let mut rank_sum = 0.0;
    let mut start = 0;
    while start < order.len() {
        let tied =
            order[start..].iter().take_while(|&&row| scores[row] == scores[order[start]]).count();
        let mean_rank = (2 * start + tied + 1) as f64 / 2.0;
        let members = order[start..start + tied].iter().filter(|&&row| outcomes[row]).count();
        rank_sum += mean_rank * members as f64;
        start += tied;
    }
    Some((rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

/// Mean squared difference of probability and outcome (Brier 1950).
pub fn brier(outcomes: &[bool], probabilities: &[f64]) -> f64 {
    mean(outcomes.iter().zip(probabilities).map(|(&outcome, p)| (p - number(outcome)).powi(2)))
}

/// Mean negative log-likelihood, with probabilities kept 1e-4 away from 0 and 1, so that a single
/// sure mistake stays finite.
pub fn log_loss(outcomes: &[bool], probabilities: &[f64]) -> f64 {
    mean(outcomes.iter().zip(probabilities).map(|(&outcome, &p)| {
        let p = p.clamp(1e-4, 1.0 - 1e-4);
        -libm::log(if outcome { p } else { 1.0 - p })
    }))
}

/// Expected calibration error over ten bins of equal count, ordered by probability (ties by row, as
/// in the reference table).
pub fn ece(outcomes: &[bool], probabilities: &[f64]) -> f64 {
    let order = ascending(probabilities);
    let n = order.len();
    let mut error = 0.0;
    let mut start = 0;
    for bin in 0..10 {
        // The first n mod 10 bins hold one more, as numpy.array_split has it.
        let end = start + n / 10 + usize::from(bin < n % 10);
        let happened: f64 = order[start..end].iter().map(|&row| number(outcomes[row])).sum();
        let promised: f64 = order[start..end].iter().map(|&row| probabilities[row]).sum();
        error += (happened - promised).abs();
        start = end;
    }
    error / n as f64
}

/// Gini of `actual` ranked by `predicted`, over its Gini ranked by itself; 1 is a perfect ranking,
/// 0 a random one. Ties keep the order of rows. `None` where nothing or everything is equal.
pub fn normalised_gini(actual: &[f64], predicted: &[f64]) -> Option<f64> {
    let own = gini(actual, actual)?;
    (own.abs() > 1e-12).then_some(gini(actual, predicted)? / own)
}

fn gini(actual: &[f64], ranking: &[f64]) -> Option<f64> {
    let total: f64 = actual.iter().sum();
    if total <= 0.0 {
        return None;
    }
    let mut order: Vec<usize> = (0..ranking.len()).collect();
    order.sort_by(|&a, &b| ranking[b].total_cmp(&ranking[a]));
    let n = actual.len() as f64;
    let mut running = 0.0;
    let area: f64 = order
        .iter()
        .map(|&row| {
            running += actual[row];
            running / total
        })
        .sum();
    Some(area / n - (n + 1.0) / (2.0 * n))
}

/// Mean absolute difference.
pub fn mean_absolute_error(actual: &[f64], predicted: &[f64]) -> f64 {
    mean(actual.iter().zip(predicted).map(|(a, p)| (a - p).abs()))
}

/// Sum of predictions over sum of actual values; `None` where the latter is 0.
pub fn total_ratio(actual: &[f64], predicted: &[f64]) -> Option<f64> {
    let total: f64 = actual.iter().sum();
    (total != 0.0).then(|| predicted.iter().sum::<f64>() / total)
}

fn number(outcome: bool) -> f64 {
    f64::from(u8::from(outcome))
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}

/// Rows by value, ties by row.
fn ascending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    order
}
