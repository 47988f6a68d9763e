//! How good an answer was. Definitions agree with scikit-learn where it has them. Where predictions
//! are tied, every customer of the tie counts with the tie's mean outcome, so that no metric depends
//! on the order of rows.

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
        let tied = order[start..]
            .iter()
            .take_while(|&&row| scores[row].total_cmp(&scores[order[start]]).is_eq())
            .count();
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

/// Expected calibration error over ten bins of equal count, ordered by probability.
pub fn ece(outcomes: &[bool], probabilities: &[f64]) -> f64 {
    let order = ascending(probabilities);
    let outcomes = tie_means(&order, probabilities, |row| number(outcomes[row]));
    let n = order.len();
    let mut error = 0.0;
    let mut start = 0;
    for bin in 0..10 {
        // The first n mod 10 bins hold one more, as numpy.array_split has it.
        let end = start + n / 10 + usize::from(bin < n % 10);
        let happened: f64 = outcomes[start..end].iter().sum();
        let promised: f64 = order[start..end].iter().map(|&row| probabilities[row]).sum();
        error += (happened - promised).abs();
        start = end;
    }
    error / n as f64
}

/// Gini of `actual` ranked by `predicted`, over its Gini ranked by itself; 1 is a perfect ranking,
/// 0 a random one. `None` where nothing or everything is equal.
pub fn normalised_gini(actual: &[f64], predicted: &[f64]) -> Option<f64> {
    let own = gini(actual, actual)?;
    (own.abs() > 1e-12).then_some(gini(actual, predicted)? / own)
}

fn gini(actual: &[f64], ranking: &[f64]) -> Option<f64> {
    let total: f64 = actual.iter().sum();
    if total <= 0.0 {
        return None;
    }
    let mut order = ascending(ranking);
    order.reverse();
    let n = actual.len() as f64;
    let mut running = 0.0;
    let area: f64 = tie_means(&order, ranking, |row| actual[row])
        .into_iter()
        .map(|value| {
            running += value;
            running / total
        })
        .sum();
    Some(area / n - (n + 1.0) / (2.0 * n))
}

/// The values of ordered rows, where rows with equal keys all get the mean value of their tie.
fn tie_means(order: &[usize], keys: &[f64], value: impl Fn(usize) -> f64) -> Vec<f64> {
    order
        .chunk_by(|&a, &b| keys[a].total_cmp(&keys[b]).is_eq())
        .flat_map(|tie| {
            let mean = tie.iter().map(|&row| value(row)).sum::<f64>() / tie.len() as f64;
            std::iter::repeat_n(mean, tie.len())
        })
        .collect()
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
