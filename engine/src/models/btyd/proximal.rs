//! Maxima of smooth functions of many variables less an elastic-net penalty, by proximal Newton steps
//! (Lee, Sun & Saunders 2014, "Proximal Newton-Type Methods for Minimizing Composite Functions",
//! *SIAM Journal on Optimization* 24(3)).
//!
//! Each step maximises the quadratic model less the penalty within a box, by sweeps of coordinate
//! descent with soft thresholds (Friedman, Hastie & Tibshirani 2010, *Journal of Statistical Software*
//! 33(1)). The sweeps find which variables are zero; a linear system then moves all others at once,
//! since the logarithms of a model's parameters are too alike for sweeps alone.

/// Trial points are evaluated this often at most, halved steps too.
const MAX_ITER: u32 = 200;
/// Rounds of sweeps within a step; far fewer are needed.
const MAX_ROUNDS: u32 = 200;
/// A pivot below this share of its diagonal shows that columns are dependent.
const LEAST_PIVOT: f64 = 1e-10;

/// What is asked of one variable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limit {
    /// Weight of |value| in the penalty.
    pub l1: f64,
    /// Weight of value² / 2.
    pub l2: f64,
    /// Largest |value|.
    pub bound: f64,
    /// Largest change in one step.
    pub reach: f64,
}

/// A smooth function at a point, with its derivatives by m variables.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Smooth {
    pub value: f64,
    /// `(m,)`.
    pub gradient: Vec<f64>,
    /// `(m, m)`, symmetric, by rows.
    pub hessian: Vec<f64>,
}

/// Where the penalised maximum is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Peak {
    /// `(m,)`.
    pub at: Vec<f64>,
    /// Of the smooth function there; −∞ where it is not finite at the start.
    pub value: f64,
    pub penalty: f64,
    /// Trial points, refused ones too.
    pub n_iter: u32,
    pub converged: bool,
    /// `(m,)`, from the inverse of the penalised curvature of the variables that are neither zero by
    /// penalty nor at their bounds: the ridge counts as knowledge, and which are zero as known. `None`
    /// for the others, and for all where that curvature is not positive definite.
    pub standard_errors: Vec<Option<f64>>,
}

/// Maximises `function` − Σ (l1 |x| + l2 x² / 2) over all |x| <= bound, from `start`.
///
/// It has converged where the best step promises less than 1e-12 of 1 + |value|; that last step is
/// still taken, since it costs one evaluation. A trial point without finite derivatives is refused.
pub(super) fn maximise(
    function: impl Fn(&[f64]) -> Smooth,
    start: &[f64],
    limits: &[Limit],
) -> Peak {
    let bounded = |(x, limit): (&f64, &Limit)| x.max(-limit.bound).min(limit.bound);
    let mut at: Vec<f64> = start.iter().zip(limits).map(bounded).collect();
    let mut point = function(&at);
    let (mut n_iter, mut converged) = (0, false);
    if !is_finite(&point) {
        return Peak::new(at, Smooth { value: f64::NEG_INFINITY, ..point }, limits, 0, false);
    }
    while n_iter < MAX_ITER && !converged {
        let here = point.value - penalty(&at, limits);
        let scale = 1.0 + here.abs();
        // What rounding may add to or take from a difference of two values.
        let noise = 1e-14 * scale;
        let model = Model::new(&at, &point, limits);
        let to = model.best(&at, limits, 1e-15 * scale);
        let (slope, gain) = model.promise(&at, &to, limits);
        converged = gain <= 1e-12 * scale;
        let mut share = 1.0;
        let mut accepted = None;
        while accepted.is_none() && n_iter < MAX_ITER && share > 1e-10 {
            n_iter += 1;
            let between = |(from, to): (&f64, &f64)| from + share * (to - from);
            let there: Vec<f64> =
                if share < 1.0 { at.iter().zip(&to).map(between).collect() } else { to.clone() };
            let trial = function(&there);
            let rise = trial.value - penalty(&there, limits) - here;
            if is_finite(&trial) && rise + noise >= 1e-4 * share * slope {
                accepted = Some((there, trial));
            } else if converged {
                break;
            }
            share *= 0.5;
        }
        match accepted {
            Some(accepted) => (at, point) = accepted,
            None => break,
        }
    }
    Peak::new(at, point, limits, n_iter, converged)
}

fn is_finite(point: &Smooth) -> bool {
    let derivatives = || point.gradient.iter().chain(&point.hessian);
    point.value.is_finite() && derivatives().all(|each| each.is_finite())
}

fn penalty(at: &[f64], limits: &[Limit]) -> f64 {
    let one = |(x, limit): (&f64, &Limit)| limit.l1 * x.abs() + 0.5 * limit.l2 * (x * x);
    at.iter().zip(limits).map(one).sum()
}

/// x moved towards 0 by `by`, and 0 where that is further away.
fn soft(x: f64, by: f64) -> f64 {
    if x.abs() > by { x - by.copysign(x) } else { 0.0 }
}

/// The quadratic model at a point: what it rises by, the ridge included and |x| not.
struct Model {
    /// `(m,)`.
    slope: Vec<f64>,
    /// `(m, m)`, positive definite.
    curvature: Vec<f64>,
}

impl Model {
    fn new(at: &[f64], point: &Smooth, limits: &[Limit]) -> Model {
        let m = at.len();
        let slope = (0..m).map(|i| point.gradient[i] - limits[i].l2 * at[i]).collect();
        let mut curvature = penalised_curvature(point, limits);
        let largest = (0..m).fold(0.0, |most: f64, i| most.max(curvature[i * m + i].abs()));
        // What is curved the wrong way is taken to be curved as much the right way (Gill, Murray &
        // Wright 1981, *Practical Optimization*, section 4.4.2). Variables that the penalty holds at
        // 0 come last, so that they are what is changed where the others are at a maximum.
        let mut order: Vec<usize> = (0..m).collect();
        order.sort_by_key(|&i| limits[i].l1 > 0.0 && at[i] == 0.0);
        let mut raised = vec![0.0; m];
        factor(&curvature, m, &order, |i, pivot| {
            let own = curvature[i * m + i].abs().max(1e-12 * (1.0 + largest));
            let better = pivot.abs().max(1e-8 * own);
            raised[i] = better - pivot;
            Some(better)
        });
        (0..m).for_each(|i| curvature[i * m + i] += raised[i]);
        Model { slope, curvature }
    }

    /// The best point within the bounds and reach; sweeps that gain less than `least` end it.
    fn best(&self, at: &[f64], limits: &[Limit], least: f64) -> Vec<f64> {
        let m = at.len();
        let low: Vec<f64> =
            (0..m).map(|i| (at[i] - limits[i].reach).max(-limits[i].bound)).collect();
        let high: Vec<f64> =
            (0..m).map(|i| (at[i] + limits[i].reach).min(limits[i].bound)).collect();
        let (mut x, mut slope) = (at.to_vec(), self.slope.clone());
        for _ in 0..MAX_ROUNDS {
            self.move_free(&mut x, &mut slope, limits, &low, &high);
            let mut moved = 0.0;
            for i in 0..m {
                let own = self.curvature[i * m + i];
                let to = soft(x[i] + slope[i] / own, limits[i].l1 / own).max(low[i]).min(high[i]);
                let by = to - x[i];
                if by != 0.0 {
                    x[i] = to;
                    moved += own * (by * by);
                    let row = &self.curvature[i * m..][..m];
                    slope.iter_mut().zip(row).for_each(|(slope, curve)| *slope -= curve * by);
                }
            }
            if moved <= least {
                break;
            }
        }
        x
    }

    /// Moves all variables that are inside of their box, and not at a kink, towards where the model
    /// is best while signs are kept: up to the first bound or kink on the way.
    fn move_free(
        &self,
        x: &mut [f64],
        slope: &mut [f64],
        limits: &[Limit],
        low: &[f64],
        high: &[f64],
    ) {
        let m = x.len();
        let is_free =
            |&i: &usize| low[i] < x[i] && x[i] < high[i] && (limits[i].l1 == 0.0 || x[i] != 0.0);
        let free: Vec<usize> = (0..m).filter(is_free).collect();
        let Some(lower) = factor(&self.curvature, m, &free, |_, _| None) else { return };
        let mut by: Vec<f64> =
            free.iter().map(|&i| slope[i] - limits[i].l1.copysign(x[i])).collect();
        solve(&lower, &mut by);
        // Where each variable has to stop, were it alone.
        let stops: Vec<f64> = free
            .iter()
            .zip(&by)
            .map(|(&i, by)| match (limits[i].l1 > 0.0 && x[i] * (x[i] + by) < 0.0, *by > 0.0) {
                (true, _) => 0.0,
                (false, true) => high[i],
                (false, false) => low[i],
            })
            .collect();
        let mut share: f64 = 1.0;
        for ((&i, by), stop) in free.iter().zip(&by).zip(&stops) {
            if (stop - x[i]).abs() < share * by.abs() {
                share = (stop - x[i]) / by;
            }
        }
        for ((&i, by), stop) in free.iter().zip(&by).zip(&stops) {
            let step = share * by;
            // Exactly onto the stop, so that it counts as reached.
            let to = if (stop - x[i]).abs() <= step.abs() { *stop } else { x[i] + step };
            let step = to - x[i];
            x[i] = to;
            let row = &self.curvature[i * m..][..m];
            slope.iter_mut().zip(row).for_each(|(slope, curve)| *slope -= curve * step);
        }
    }

    /// What the way from `at` to `to` rises by at its beginning, and in all.
    fn promise(&self, at: &[f64], to: &[f64], limits: &[Limit]) -> (f64, f64) {
        let m = at.len();
        let (mut slope, mut bend) = (0.0, 0.0);
        for i in 0..m {
            let by = to[i] - at[i];
            let row = &self.curvature[i * m..][..m];
            let curve: f64 = row.iter().zip(to).zip(at).map(|((c, to), at)| c * (to - at)).sum();
            slope += self.slope[i] * by - limits[i].l1 * (to[i].abs() - at[i].abs());
            bend += by * curve;
        }
        (slope, slope - 0.5 * bend)
    }
}

/// −Hessian with the ridge, made symmetric.
fn penalised_curvature(point: &Smooth, limits: &[Limit]) -> Vec<f64> {
    let m = limits.len();
    let entry = |i: usize, j: usize| {
        let ridge = if i == j { limits[i].l2 } else { 0.0 };
        ridge - 0.5 * (point.hessian[i * m + j] + point.hessian[j * m + i])
    };
    (0..m * m).map(|index| entry(index / m, index % m)).collect()
}

/// Cholesky's lower factor, by rows, of the rows and columns in `chosen` of a symmetric matrix of
/// `(m, m)`. Where it is not positive definite, `mend` says which pivot to take instead, or `None`.
fn factor(
    matrix: &[f64],
    m: usize,
    chosen: &[usize],
    mut mend: impl FnMut(usize, f64) -> Option<f64>,
) -> Option<Vec<f64>> {
    let n = chosen.len();
    let mut lower = vec![0.0; n * n];
    for (row, &i) in chosen.iter().enumerate() {
        let (above, own) = lower.split_at_mut(row * n);
        for (column, &j) in chosen[..row].iter().enumerate() {
            let other = &above[column * n..][..n];
            let known: f64 = own[..column].iter().zip(other).map(|(a, b)| a * b).sum();
            own[column] = (matrix[i * m + j] - known) / other[column];
        }
        let known: f64 = own[..row].iter().map(|each| each * each).sum();
        let (diagonal, pivot) = (matrix[i * m + i], matrix[i * m + i] - known);
        let sound = diagonal > 0.0 && pivot > LEAST_PIVOT * diagonal;
        own[row] = if sound { pivot } else { mend(i, pivot)? }.sqrt();
    }
    Some(lower)
}

/// Solves the system of which `lower` is the factor, in place.
fn solve(lower: &[f64], x: &mut [f64]) {
    let n = x.len();
    for i in 0..n {
        let known: f64 = (0..i).map(|j| lower[i * n + j] * x[j]).sum();
        x[i] = (x[i] - known) / lower[i * n + i];
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| lower[j * n + i] * x[j]).sum();
        x[i] = (x[i] - known) / lower[i * n + i];
    }
}

impl Peak {
    fn new(at: Vec<f64>, point: Smooth, limits: &[Limit], n_iter: u32, converged: bool) -> Peak {
        let m = at.len();
        let told =
            |&i: &usize| at[i].abs() < limits[i].bound && (limits[i].l1 == 0.0 || at[i] != 0.0);
        let told: Vec<usize> = (0..m).filter(told).collect();
        let mut standard_errors = vec![None; m];
        if let Some(lower) = factor(&penalised_curvature(&point, limits), m, &told, |_, _| None) {
            for (k, &i) in told.iter().enumerate() {
                let mut column = vec![0.0; told.len()];
                column[k] = 1.0;
                solve(&lower, &mut column);
                standard_errors[i] = Some(column[k].sqrt()).filter(|error| error.is_finite());
            }
        }
        let penalty = penalty(&at, limits);
        Peak { at, value: point.value, penalty, n_iter, converged, standard_errors }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// −½ (x − c)ᵀ A (x − c), with A of the rows given.
    fn bowl(x: &[f64], centre: &[f64], a: &[f64]) -> Smooth {
        let m = x.len();
        let by: Vec<f64> = x.iter().zip(centre).map(|(x, c)| x - c).collect();
        let gradient: Vec<f64> =
            (0..m).map(|i| -(0..m).map(|j| a[i * m + j] * by[j]).sum::<f64>()).collect();
        let value = 0.5 * gradient.iter().zip(&by).map(|(g, by)| g * by).sum::<f64>();
        Smooth { value, gradient, hessian: a.iter().map(|each| -each).collect() }
    }

    fn limit(l1: f64, l2: f64) -> Limit {
        Limit { l1, l2, bound: 10.0, reach: 20.0 }
    }

    #[test]
    fn thresholds_and_ridges_are_those_of_the_formula() {
        let limits = [limit(0.0, 0.0), limit(1.0, 0.0), limit(1.0, 2.0), limit(5.0, 0.0)];
        let a: Vec<f64> = (0..16).map(|i| if i % 5 == 0 { 2.0 } else { 0.0 }).collect();
        let peak = maximise(|x| bowl(x, &[1.0, -2.0, 3.0, 1.0], &a), &[0.0; 4], &limits);
        assert!(peak.converged && peak.n_iter <= 2, "{peak:?}");
        assert_eq!(peak.at, [1.0, -1.5, 1.25, 0.0]);
        assert_eq!(peak.standard_errors[2..], [Some(0.5), None]);
    }

    #[test]
    fn at_the_end_no_variable_can_better_it() {
        // Strongly correlated, with values that the penalty and the bounds hold back.
        let (m, mut a) = (12, vec![0.0; 144]);
        for i in 0..m {
            for j in 0..m {
                a[i * m + j] = 5.0 / (1.0 + (i as f64 - j as f64).abs());
            }
            a[i * m + i] += 0.01;
        }
        let centre: Vec<f64> = (0..m).map(|i| ((7 * i) % 5) as f64 - 2.0).collect();
        let mut limits = vec![limit(0.8, 0.1); m];
        (limits[0], limits[4].bound) = (limit(0.0, 0.0), 0.2);
        let peak = maximise(|x| bowl(x, &centre, &a), &vec![0.3; m], &limits);
        assert!(peak.converged && peak.at.contains(&0.0) && peak.at[4] == 0.2, "{peak:?}");
        let slopes = bowl(&peak.at, &centre, &a).gradient;
        for i in (0..m).filter(|&i| i != 4) {
            let slope = slopes[i] - limits[i].l2 * peak.at[i];
            let excess = if peak.at[i] == 0.0 {
                (slope.abs() - limits[i].l1).max(0.0)
            } else {
                (slope - limits[i].l1.copysign(peak.at[i])).abs()
            };
            assert!(excess < 1e-9, "{i} {excess}");
        }
    }

    #[test]
    fn dependent_variables_saddles_and_cliffs_are_left_in_one_piece() {
        // Only the sum matters.
        let peak = maximise(|x| bowl(x, &[1.0, 2.0], &[1.0; 4]), &[0.0; 2], &[limit(0.0, 0.0); 2]);
        assert!(peak.converged && (peak.at[0] + peak.at[1] - 3.0).abs() < 1e-6, "{peak:?}");
        assert_eq!(peak.standard_errors, [None; 2]);
        // x² − x⁴ / 2, without a value beyond 2.
        let waves = |x: &[f64]| Smooth {
            value: if x[0] < 2.0 { x[0] * x[0] * (1.0 - 0.5 * x[0] * x[0]) } else { f64::NAN },
            gradient: vec![2.0 * x[0] * (1.0 - x[0] * x[0])],
            hessian: vec![2.0 - 6.0 * x[0] * x[0]],
        };
        let peak = maximise(waves, &[0.2], &[limit(0.0, 0.0)]);
        assert!(peak.converged && (peak.at[0] - 1.0).abs() < 1e-6, "{peak:?}");
        assert_eq!(maximise(waves, &[3.0], &[limit(0.0, 0.0)]).value, f64::NEG_INFINITY);
    }
}
