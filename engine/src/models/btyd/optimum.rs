//! Maxima of smooth functions of a few variables, by Newton's method in a trust region.
//!
//! The step is the maximum of the quadratic model within a ball (Moré & Sorensen 1983, "Computing a
//! Trust Region Step", *SIAM Journal on Scientific and Statistical Computing* 4(3)). With so few
//! variables the eigenvectors of the Hessian are cheap, and they make their hard case an easy one.

use super::jet::Jet;

/// No step is longer, in log-parameters: the model of a likelihood is not to be trusted further.
const MAX_RADIUS: f64 = 2.0;

/// Objectives are evaluated this often and once more at most.
const MAX_ITER: u32 = 200;

/// Where a maximum is, and what the objective looks like there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Optimum<const N: usize> {
    pub theta: [f64; N],
    /// −∞, with a gradient and a Hessian of 0, where the objective is not finite at the start.
    pub value: f64,
    pub gradient: [f64; N],
    pub hessian: [[f64; N]; N],
    /// Trial points, refused ones too.
    pub n_iter: u32,
    pub converged: bool,
    /// Which variables ended at the bound.
    pub at_bound: [bool; N],
}

/// Maximises `objective` over all |theta_i| <= `bound`, from `start`.
///
/// It has converged where the best step of any allowed length promises less than 1e-12 of
/// 1 + |value|; at a concave point that promise is the Newton decrement, and at a saddle it is not
/// small. A last step is then still taken, since it costs one evaluation and squares the distance.
/// A trial point where the objective or a derivative is not finite is refused, and the region
/// shrinks.
pub(super) fn maximise<const N: usize>(
    objective: impl Fn(&[f64; N]) -> Jet<N>,
    start: [f64; N],
    bound: f64,
) -> Optimum<N> {
    let within = |theta: [f64; N]| theta.map(|each| each.max(-bound).min(bound));
    let mut theta = within(start);
    let mut point = objective(&theta);
    let end = |theta: [f64; N], point: Jet<N>, n_iter, converged| Optimum {
        theta,
        value: point.value,
        gradient: point.gradient,
        hessian: point.hessian,
        n_iter,
        converged,
        at_bound: theta.map(|each| each.abs() >= bound),
    };
    if !is_finite(&point) {
        return end(theta, Jet::constant(f64::NEG_INFINITY), 0, false);
    }
    let mut radius = MAX_RADIUS;
    for n_iter in 1..=MAX_ITER {
        let scale = 1.0 + point.value.abs();
        // What rounding may add to or take from a difference of two values.
        let noise = 1e-14 * scale;
        let promising = Step::promising(&theta, &point, bound, 1e-12 * scale);
        let converged = promising.gain <= 1e-12 * scale;
        if converged && promising.gain <= 1e-15 * scale {
            return end(theta, point, n_iter - 1, true);
        }
        let step = if converged || norm(&promising.by) <= radius {
            promising
        } else {
            Step::new(&theta, &point, bound, radius)
        };
        let trial_theta = within(std::array::from_fn(|i| theta[i] + step.by[i]));
        let trial = objective(&trial_theta);
        // Both with the noise, so that steps too small to measure pass (Conn, Gould & Toint 2000,
        // *Trust-Region Methods*, section 17.4.2).
        let ratio = (trial.value - point.value + noise) / (step.gain + noise);
        let accepted = is_finite(&trial) && step.gain > 0.0 && ratio > 1e-4;
        let length = norm(&step.by);
        if !accepted || ratio < 0.25 {
            radius = 0.25 * length;
        } else if ratio > 0.75 && length > 0.9 * radius {
            radius = (2.0 * radius).min(MAX_RADIUS);
        }
        if accepted {
            (theta, point) = (trial_theta, trial);
        }
        // A region that shrank to nothing has the edge of the objective's domain in it.
        let stuck = radius.is_nan() || radius < 1e-13;
        if converged || stuck {
            return end(theta, point, n_iter, converged);
        }
    }
    end(theta, point, MAX_ITER, false)
}

fn is_finite<const N: usize>(jet: &Jet<N>) -> bool {
    let finite = |each: &[f64; N]| each.iter().all(|value| value.is_finite());
    jet.value.is_finite() && finite(&jet.gradient) && jet.hessian.iter().all(finite)
}

fn norm<const N: usize>(vector: &[f64; N]) -> f64 {
    vector.iter().map(|each| each * each).sum::<f64>().sqrt()
}

/// A step and what the quadratic model promises of it.
#[derive(Debug, Clone, Copy)]
struct Step<const N: usize> {
    by: [f64; N],
    gain: f64,
}

impl<const N: usize> Step<N> {
    /// A step of any allowed length with a gain above `gain`, or else the best that was found.
    /// Moving variables onto their bounds can spoil a long step; it spoils no short one.
    fn promising(theta: &[f64; N], point: &Jet<N>, bound: f64, gain: f64) -> Step<N> {
        let mut best = Step::new(theta, point, bound, MAX_RADIUS);
        let mut radius = MAX_RADIUS;
        while best.gain <= gain && radius > 1e-5 {
            radius *= 0.25;
            let step = Step::new(theta, point, bound, radius);
            if step.gain > best.gain {
                best = step;
            }
        }
        best
    }

    /// The best step within `radius` and the bound. Variables that would leave the bounds are moved
    /// onto them, the furthest first, and the others chosen anew.
    fn new(theta: &[f64; N], point: &Jet<N>, bound: f64, radius: f64) -> Step<N> {
        let mut by = [0.0; N];
        let mut fixed: [bool; N] = std::array::from_fn(|i| {
            let slope = point.gradient[i];
            (slope > 0.0 && theta[i] >= bound) || (slope < 0.0 && theta[i] <= -bound)
        });
        loop {
            let rest: f64 = (0..N).filter(|&i| fixed[i]).map(|i| by[i] * by[i]).sum();
            let rest = (radius * radius - rest).max(0.0).sqrt();
            by = free_step(point, &fixed, &by, rest);
            let beyond = |i: usize| (theta[i] + by[i]).abs() - bound;
            let furthest = (0..N)
                .filter(|&i| !fixed[i] && beyond(i) > 0.0)
                .max_by(|&i, &j| beyond(i).total_cmp(&beyond(j)));
            let Some(i) = furthest else { break };
            fixed[i] = true;
            by[i] = bound.copysign(by[i]) - theta[i];
        }
        let curve = |i: usize| -> f64 { (0..N).map(|j| point.hessian[i][j] * by[j]).sum() };
        let gain = (0..N).map(|i| by[i] * (point.gradient[i] + 0.5 * curve(i))).sum();
        Step { by, gain }
    }
}

/// The best step of the variables that are not fixed within `radius`, beside the fixed ones' steps.
fn free_step<const N: usize>(
    point: &Jet<N>,
    fixed: &[bool; N],
    by: &[f64; N],
    radius: f64,
) -> [f64; N] {
    let gradient: [f64; N] = std::array::from_fn(|i| {
        let coupled = (0..N).filter(|&j| fixed[j]).map(|j| point.hessian[i][j] * by[j]);
        if fixed[i] { 0.0 } else { point.gradient[i] + coupled.sum::<f64>() }
    });
    let (values, vectors) = eigen(&free_curvature(&point.hessian, fixed));
    let slopes: [f64; N] =
        std::array::from_fn(|k| (0..N).map(|i| vectors[i][k] * gradient[i]).sum());
    let lowest = (0..N).min_by(|&i, &j| values[i].total_cmp(&values[j])).unwrap_or_default();
    // Every curvature is raised by a shift that makes the lowest one `floor`.
    let shifted = |floor: f64| -> [f64; N] {
        std::array::from_fn(|k| {
            let curvature = values[k] - values[lowest] + floor;
            if slopes[k] == 0.0 { 0.0 } else { slopes[k] / curvature }
        })
    };
    let concave = values.iter().all(|&value| value > 0.0);
    let mut along = if concave { shifted(values[lowest]) } else { [f64::INFINITY; N] };
    if norm(&along) > radius {
        // The step grows shorter with the shift: halve the range of shifts that make it fit.
        let mut low = if concave { values[lowest] } else { 0.0 };
        let mut high = low.max(norm(&slopes) / radius);
        for _ in 0..80 {
            let middle = 0.5 * (low + high);
            if norm(&shifted(middle)) > radius { low = middle } else { high = middle }
        }
        along = shifted(high);
        if !concave {
            // Where no shift is right (the hard case) the lowest direction makes up the length.
            along[lowest] = 0.0;
            let rest =
                (radius * radius - along.iter().map(|each| each * each).sum::<f64>()).max(0.0);
            along[lowest] = rest.sqrt().copysign(slopes[lowest]);
        }
    }
    std::array::from_fn(|i| {
        if fixed[i] { by[i] } else { (0..N).map(|k| vectors[i][k] * along[k]).sum() }
    })
}

/// −Hessian, symmetric, with each fixed variable uncoupled and curved more than all others.
fn free_curvature<const N: usize>(hessian: &[[f64; N]; N], fixed: &[bool; N]) -> [[f64; N]; N] {
    let largest = hessian.iter().flatten().fold(1.0, |largest: f64, each| largest.max(each.abs()));
    std::array::from_fn(|i| {
        std::array::from_fn(|j| match (fixed[i] || fixed[j], i == j) {
            (true, true) => 2.0 * N as f64 * largest,
            (true, false) => 0.0,
            (false, _) => -0.5 * (hessian[i][j] + hessian[j][i]),
        })
    })
}

/// Eigenvalues of a symmetric matrix, and its eigenvectors in columns, by Jacobi's rotations.
///
/// An entry is left alone only where it is small against both its diagonals, which keeps the digits
/// of small eigenvalues (Demmel & Veselić 1992, "Jacobi's Method is More Accurate than QR", *SIAM
/// Journal on Matrix Analysis and Applications* 13(4)).
fn eigen<const N: usize>(matrix: &[[f64; N]; N]) -> ([f64; N], [[f64; N]; N]) {
    let mut matrix = *matrix;
    let mut vectors = identity();
    for _sweep in 0..40 {
        let mut rotated = false;
        for p in 0..N {
            for q in p + 1..N {
                let entry = matrix[p][q];
                let least = (matrix[p][p].abs().sqrt() * matrix[q][q].abs().sqrt()) * f64::EPSILON;
                if entry == 0.0 || entry.abs() <= 0.5 * least {
                    continue;
                }
                rotated = true;
                let cotangent = 0.5 * (matrix[q][q] - matrix[p][p]) / entry;
                let root = (1.0 + cotangent * cotangent).sqrt();
                let tangent = 1.0 / (cotangent + root.copysign(cotangent));
                let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
                let sine = tangent * cosine;
                matrix[p][p] -= tangent * entry;
                matrix[q][q] += tangent * entry;
                (matrix[p][q], matrix[q][p]) = (0.0, 0.0);
                for k in (0..N).filter(|&k| k != p && k != q) {
                    let (one, other) = (matrix[k][p], matrix[k][q]);
                    matrix[k][p] = cosine * one - sine * other;
                    matrix[k][q] = sine * one + cosine * other;
                    (matrix[p][k], matrix[q][k]) = (matrix[k][p], matrix[k][q]);
                }
                for row in &mut vectors {
                    let (one, other): (f64, f64) = (row[p], row[q]);
                    row[p] = cosine * one - sine * other;
                    row[q] = sine * one + cosine * other;
                }
            }
        }
        if !rotated {
            break;
        }
    }
    (std::array::from_fn(|i| matrix[i][i]), vectors)
}

fn identity<const N: usize>() -> [[f64; N]; N] {
    std::array::from_fn(|i| std::array::from_fn(|j| if i == j { 1.0 } else { 0.0 }))
}

impl<const N: usize> Optimum<N> {
    /// Standard errors of theta, from the inverse of −Hessian. Variables at the bound have none and
    /// count as known; `None` for all where the others' Hessian is not negative definite.
    pub fn standard_errors(&self) -> [Option<f64>; N] {
        let curvature = free_curvature(&self.hessian, &self.at_bound);
        let Some((scales, values, vectors)) = scaled_eigen(&curvature) else {
            return [None; N];
        };
        std::array::from_fn(|i| {
            let variance: f64 =
                (0..N).map(|k| vectors[i][k] * vectors[i][k] / values[k]).sum::<f64>();
            let error = variance.sqrt() / scales[i];
            (!self.at_bound[i] && error.is_finite()).then_some(error)
        })
    }

    /// Largest over smallest eigenvalue of −Hessian; ∞ where it is not positive definite.
    pub fn condition_number(&self) -> f64 {
        let curvature = free_curvature(&self.hessian, &[false; N]);
        if scaled_eigen(&curvature).is_none() {
            return f64::INFINITY;
        }
        let (values, _) = eigen(&curvature);
        let largest = values.iter().fold(0.0, |largest: f64, &each| largest.max(each));
        let smallest = values.iter().fold(f64::INFINITY, |smallest, &each| smallest.min(each));
        if smallest > 0.0 { largest / smallest } else { f64::INFINITY }
    }
}

/// Roots of the diagonal of a positive definite matrix, and the eigenvalues and eigenvectors of the
/// matrix scaled to a diagonal of 1, in which rounding shows; `None` of any other matrix.
#[expect(clippy::type_complexity, reason = "three arrays that are read at once")]
fn scaled_eigen<const N: usize>(
    matrix: &[[f64; N]; N],
) -> Option<([f64; N], [f64; N], [[f64; N]; N])> {
    let scales: [f64; N] = std::array::from_fn(|i| matrix[i][i].max(0.0).sqrt());
    if scales.iter().any(|scale| !scale.is_normal()) {
        return None;
    }
    let scaled = std::array::from_fn(|i| {
        std::array::from_fn(|j| if i == j { 1.0 } else { matrix[i][j] / scales[i] / scales[j] })
    });
    let (values, vectors) = eigen(&scaled);
    // What rounding leaves of an eigenvalue that is zero is none.
    let least = 4.0 * N as f64 * f64::EPSILON;
    values.iter().all(|&value| value > least).then_some((scales, values, vectors))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variable itself at `index`.
    fn variable<const N: usize>(index: usize, value: f64) -> Jet<N> {
        let mut jet = Jet::constant(value);
        jet.gradient[index] = 1.0;
        jet
    }

    fn variables<const N: usize>(theta: &[f64; N]) -> [Jet<N>; N] {
        std::array::from_fn(|i| variable(i, theta[i]))
    }

    fn assert_near<const N: usize>(got: [f64; N], expected: [f64; N], within: f64) {
        let near = got.iter().zip(&expected).all(|(one, other)| (one - other).abs() <= within);
        assert!(near, "{got:?} {expected:?}");
    }

    #[test]
    fn it_follows_a_bent_valley_to_its_end() {
        let valley = |theta: &[f64; 2]| {
            let [x, y] = variables(theta);
            let (off, ahead) = (y - x * x, x.shift(-1.0));
            (off * off).scale(-100.0) - ahead * ahead
        };
        for start in [[-1.2, 1.0], [5.0, -9.0], [-8.0, 8.0], [1.0, 1.0]] {
            let optimum = maximise(valley, start, 20.0);
            assert!(optimum.converged && optimum.n_iter < 60, "{optimum:?}");
            assert_near(optimum.theta, [1.0, 1.0], 1e-6);
            assert_eq!(optimum.at_bound, [false; 2]);
        }
        // The end is beyond this bound, and the best place on its edge is in the valley.
        let bounded = maximise(valley, [-0.4, 0.3], 0.5);
        assert!(bounded.converged && bounded.at_bound[0]);
        assert_near(bounded.theta, [0.5, 0.25], 1e-2);
        let hard = |theta: &[f64; 4]| {
            let [a, b, c, d] = variables(theta);
            let squares =
                [a + b.scale(10.0), c - d, b - c.scale(2.0), a - d].map(|each| each * each);
            -(squares[0]
                + squares[1].scale(5.0)
                + squares[2] * squares[2]
                + (squares[3] * squares[3]).scale(10.0))
        };
        // Powell's function, whose Hessian is singular where it is largest.
        let optimum = maximise(hard, [3.0, -1.0, 0.0, 1.0], 20.0);
        assert!(optimum.converged && optimum.value > -1e-9, "{optimum:?}");
    }

    #[test]
    fn an_ill_conditioned_quadratic_keeps_its_digits() {
        for ratio in [1.0, 1e-6, 1e-10] {
            let quadratic = |theta: &[f64; 2]| {
                let [x, y] = variables(theta);
                let (along, across) = ((x + y).shift(-3.0), x - y);
                (along * along).scale(-0.25 * ratio) - (across * across).scale(0.25)
            };
            let optimum = maximise(quadratic, [-4.0, 7.0], 20.0);
            assert!(optimum.converged, "{optimum:?}");
            assert_near(optimum.theta, [1.5, 1.5], 1e-4 / ratio.sqrt().min(1e-1));
            assert!((optimum.condition_number() * ratio - 1.0).abs() < 1e-3);
            // Half the variance is along the valley.
            let expected = (0.5 + 0.5 / ratio).sqrt();
            for error in optimum.standard_errors() {
                assert!((error.unwrap() / expected - 1.0).abs() < 1e-3);
            }
        }
    }

    #[test]
    fn where_it_grows_for_ever_it_ends_flat_or_at_the_bound() {
        // Flat towards −∞ as a likelihood is whose customers never drop out.
        let flat = |theta: &[f64; 2]| {
            let [x, _] = variables(theta);
            -Jet::positive(1, theta[1]) - x * x
        };
        let optimum = maximise(flat, [2.0, 1.0], 60.0);
        assert!(optimum.converged && optimum.theta[1] < -20.0, "{optimum:?}");
        assert!(optimum.standard_errors()[1].is_none_or(|error| error > 1e4));
        assert!(optimum.condition_number() > 1e8);
        let optimum = maximise(flat, [2.0, 1.0], 6.0);
        assert_eq!((optimum.converged, optimum.at_bound), (true, [false, true]));
        assert_near(optimum.theta, [0.0, -6.0], 1e-9);
        let [error, none] = optimum.standard_errors();
        assert!((error.unwrap() - 0.5_f64.sqrt()).abs() < 1e-9 && none.is_none());
        // Linear in one variable, which moves the best place of the other.
        let slope = |theta: &[f64; 2]| {
            let [x, y] = variables(theta);
            y - (x - y.scale(0.5)) * (x - y.scale(0.5))
        };
        let optimum = maximise(slope, [-3.0, 2.0], 4.0);
        assert_eq!((optimum.converged, optimum.at_bound), (true, [false, true]));
        assert_near(optimum.theta, [2.0, 4.0], 1e-9);
    }

    #[test]
    fn it_leaves_saddles_and_minima() {
        let waves = |theta: &[f64; 2]| {
            let [x, y] = variables(theta);
            let square = x * x;
            square - (square * square).scale(0.5) - y * y
        };
        let optimum = maximise(waves, [0.0, 0.0], 20.0);
        assert!(optimum.converged && (optimum.value - 0.5).abs() < 1e-12);
        assert_near(optimum.theta.map(f64::abs), [1.0, 0.0], 1e-7);
        // The slope is across the direction of negative curvature: the hard case.
        let optimum = maximise(waves, [0.0, 1.0], 20.0);
        assert!(optimum.converged && (optimum.value - 0.5).abs() < 1e-12);
    }

    #[test]
    fn places_without_a_value_are_kept_out_of() {
        // NaN outside of the unit ball, and the maximum close to its edge.
        let ball = |theta: &[f64; 2]| {
            let [x, y] = variables(theta);
            (-(x * x + y * y)).shift(1.0).ln().scale(1e-3) + x
        };
        let optimum = maximise(ball, [-0.9, 0.3], 20.0);
        assert!(optimum.converged, "{optimum:?}");
        assert_near(optimum.theta, [(1.0_f64 + 1e-6).sqrt() - 1e-3, 0.0], 1e-6);
        // It grows up to the edge, so that there is no maximum.
        let cliff = |theta: &[f64; 1]| {
            let slope = variable(0, theta[0]);
            if theta[0] < 1.0 { slope } else { slope.scale(f64::NAN) }
        };
        let optimum = maximise(cliff, [0.0], 20.0);
        assert!(!optimum.converged && optimum.value < 1.0 && optimum.value > 0.99, "{optimum:?}");
        let nowhere = maximise(cliff, [2.0], 20.0);
        assert!(!nowhere.converged && nowhere.theta == [2.0] && nowhere.value == f64::NEG_INFINITY);
        assert_eq!(nowhere.standard_errors(), [None]);
        assert_eq!(nowhere.condition_number(), f64::INFINITY);
        assert!(!maximise(cliff, [f64::NAN], 20.0).theta[0].is_nan());
    }
}
