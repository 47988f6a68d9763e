//! The log-likelihood of all groups of a cohort, by the logarithms of the base and the effects.

use super::super::beta_geometric::Likelihood;
use super::super::jet::Jet;
use super::super::nbd::{BOUND, LN_NOBODY, NOBODY};
use super::super::optimum::Optimum;
use super::super::pareto::Layout;
use super::super::proximal::{Limit, Smooth};
use super::super::purchases::Cohort;
use super::super::{BetaGeometric, Nbd, Pareto, PurchaseFamily, PurchaseModel};
use super::{CovariateCohort, CovariateParams};
use rayon::prelude::*;

/// Where ln alpha is in theta.
pub(super) const ALPHA: usize = 1;
/// Fits start from logarithms no larger: near infinity a likelihood has no slope that leads back.
const START_BOUND: f64 = 6.0;
/// Longest step of a logarithm.
const REACH: f64 = 2.0;

/// What customers do, of the four logarithms theta: ln r, ln alpha, and those of a and b or s and beta.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Process {
    /// Nobody drops out: a / b is next to 0, whatever the covariates.
    Lasting {
        k: u32,
    },
    BetaGeometric {
        k: u32,
        modified: bool,
    },
    Pareto,
}

/// The likelihood of one group.
enum Part<'a> {
    BetaGeometric(Likelihood<'a>),
    Pareto(Layout),
}

impl Part<'_> {
    fn at(&self, theta: &[f64; 4]) -> Jet<4> {
        match self {
            Part::BetaGeometric(likelihood) => likelihood.at(theta),
            Part::Pareto(layout) => layout.value(theta),
        }
    }
}

impl Process {
    pub fn of(family: PurchaseFamily) -> Process {
        match family {
            PurchaseFamily::Nbd => Process::Lasting { k: 1 },
            PurchaseFamily::ParetoNbd => Process::Pareto,
            _ => Process::BetaGeometric { k: family.k(), modified: !family.keeps_first_timers() },
        }
    }

    fn part<'a>(&self, cohort: &'a Cohort) -> Part<'a> {
        match *self {
            Process::Lasting { k } => Part::BetaGeometric(Likelihood::new(cohort, k, false)),
            Process::BetaGeometric { k, modified } => {
                Part::BetaGeometric(Likelihood::new(cohort, k, modified))
            }
            Process::Pareto => Part::Pareto(Layout::new(cohort)),
        }
    }

    /// The most likely theta without covariates, and its value.
    pub fn plain(&self, cohort: &Cohort) -> ([f64; 4], f64) {
        let lasting = |optimum: Optimum<2>| {
            ([optimum.theta[0], optimum.theta[1], LN_NOBODY, 0.0], optimum.value)
        };
        let all = |optimum: Optimum<4>| (optimum.theta, optimum.value);
        match *self {
            Process::Lasting { k: 1 } => lasting(Nbd::fit(cohort).1),
            Process::Lasting { k } => lasting(BetaGeometric::fit_without_drop_out(cohort, k).1),
            Process::BetaGeometric { k, modified } => {
                all(BetaGeometric::fit(cohort, k, modified).1)
            }
            Process::Pareto => all(Pareto::fit(cohort).1),
        }
    }

    /// The logarithms that covariates move, and whether up or down.
    fn targets(&self) -> &'static [(usize, f64)] {
        match self {
            Process::Lasting { .. } => &[(ALPHA, -1.0)],
            Process::BetaGeometric { .. } => &[(ALPHA, -1.0), (2, 1.0)],
            Process::Pareto => &[(ALPHA, -1.0), (3, -1.0)],
        }
    }

    /// The names of those parameters that are fitted, and which are times.
    pub fn base(&self) -> &'static [(&'static str, bool)] {
        match self {
            Process::Lasting { .. } => &[("r", false), ("alpha", true)],
            Process::BetaGeometric { .. } => {
                &[("r", false), ("alpha", true), ("a", false), ("b", false)]
            }
            Process::Pareto => &[("r", false), ("alpha", true), ("s", false), ("beta", true)],
        }
    }

    pub fn model(&self, theta: [f64; 4], unit: f64) -> PurchaseModel {
        let [r, alpha, third, fourth] = theta.map(libm::exp);
        let (alpha, a, b) = (alpha * unit, third, fourth);
        let beta_geometric = |k, modified| {
            PurchaseModel::BetaGeometric(BetaGeometric { r, alpha, a, b, k, modified })
        };
        match *self {
            Process::Lasting { k: 1 } => PurchaseModel::Nbd(Nbd { r, alpha }),
            Process::Lasting { k } => PurchaseModel::BetaGeometric(BetaGeometric {
                r,
                alpha,
                a: NOBODY,
                b: 1.0,
                k,
                modified: false,
            }),
            Process::BetaGeometric { k, modified } => beta_geometric(k, modified),
            Process::Pareto => {
                PurchaseModel::ParetoNbd(Pareto { r, alpha, s: third, beta: fourth * unit })
            }
        }
    }
}

/// A variable of the fit.
pub(super) struct Variable {
    /// The covariate, unless it is a logarithm of the base.
    pub covariate: Option<usize>,
    /// Which of theta it moves, and by how much in each group, `(n_groups,)`.
    pub target: usize,
    by: Vec<f64>,
}

/// The log-likelihood of all groups as a function of the variables.
pub(super) struct Objective<'a> {
    parts: Vec<Part<'a>>,
    pub variables: Vec<Variable>,
    /// What variables start from; the others stay there.
    pub theta: [f64; 4],
}

impl<'a> Objective<'a> {
    /// The logarithms of the base come first, then the effects on each target by covariate; one in
    /// which nobody differs has none, since the base tells as much.
    pub fn new(cohort: &'a CovariateCohort, process: Process, theta: [f64; 4]) -> Objective<'a> {
        let ones = || vec![1.0; cohort.groups.len()];
        let base = |target| Variable { covariate: None, target, by: ones() };
        let mut variables: Vec<Variable> = (0..process.base().len()).map(base).collect();
        for &(target, sign) in process.targets() {
            for j in 0..cohort.names.len() {
                let by: Vec<f64> = cohort.groups.iter().map(|g| sign * g.covariates[j]).collect();
                if by.iter().any(|each| *each != 0.0) {
                    variables.push(Variable { covariate: Some(j), target, by });
                }
            }
        }
        let parts = cohort.groups.par_iter().map(|group| process.part(&group.cohort)).collect();
        Objective { parts, variables, theta }
    }

    /// The start: the base's own logarithms, and no effects.
    pub fn start(&self) -> Vec<f64> {
        let start = |each: &Variable| match each.covariate {
            None => self.theta[each.target].clamp(-START_BOUND, START_BOUND),
            Some(_) => 0.0,
        };
        self.variables.iter().map(start).collect()
    }

    /// Penalties and bounds; an effect is bounded where it is largest, as a move of the logarithm.
    pub fn limits(&self, params: &CovariateParams, n_customers: f64) -> Vec<Limit> {
        let weight = params.penalty * n_customers;
        let limit = |each: &Variable| {
            let largest = each.by.iter().fold(0.0, |most: f64, by| most.max(by.abs()));
            let weight = if each.covariate.is_some() { weight } else { 0.0 };
            Limit {
                l1: weight * params.l1_ratio,
                l2: weight * (1.0 - params.l1_ratio),
                bound: BOUND / largest,
                reach: REACH / largest,
            }
        };
        self.variables.iter().map(limit).collect()
    }

    pub fn at(&self, x: &[f64]) -> Smooth {
        let m = x.len();
        let jet = |(group, part): (usize, &Part)| {
            let mut theta = self.theta;
            self.variables.iter().for_each(|each| theta[each.target] = 0.0);
            for (each, x) in self.variables.iter().zip(x) {
                theta[each.target] += each.by[group] * x;
            }
            part.at(&theta)
        };
        // Groups are added in order, so that the bits do not depend on threads.
        let jets: Vec<Jet<4>> = self.parts.par_iter().enumerate().map(jet).collect();
        let (mut value, mut gradient, mut hessian) = (0.0, vec![0.0; m], vec![0.0; m * m]);
        for (group, jet) in jets.iter().enumerate() {
            value += jet.value;
            for (i, one) in self.variables.iter().enumerate() {
                gradient[i] += one.by[group] * jet.gradient[one.target];
                let row = jet.hessian[one.target].map(|each| one.by[group] * each);
                for (sum, other) in hessian[i * m..][..m].iter_mut().zip(&self.variables) {
                    *sum += other.by[group] * row[other.target];
                }
            }
        }
        Smooth { value, gradient, hessian }
    }
}

#[cfg(test)]
mod tests {
    use super::super::CovariateModel;
    use super::super::tests::{MBG, PARETO, cohort, customers, world};
    use super::*;
    use crate::models::btyd::Purchases;

    #[test]
    fn slopes_are_those_of_differences_and_values_those_of_customers() {
        for base in [MBG, PARETO] {
            let world = world(base);
            let customers = customers(&world, 300);
            let cohort = cohort(&customers);
            let process = Process::of(base.family());
            let objective = Objective::new(&cohort, process, [0.0; 4]);
            let x = [-0.3, -1.0, -0.6, 0.4, 0.5, -0.5, 0.1, 0.2, -0.4, 0.6, 0.3, -0.1];
            let here = objective.at(&x);
            let (theta, unit) = (std::array::from_fn(|i| x[i]), cohort.whole.unit);
            let (rate, drop_out) = (x[4..8].to_vec(), x[8..].to_vec());
            let base = process.model(theta, unit);
            let centre = cohort.centre.clone();
            let same = CovariateModel { base, centre, rate, drop_out, ..world };
            let one = |(c, z): &(Purchases, Vec<f64>)| {
                same.model_for(z).ln_likelihood(c) + f64::from(c.frequency) * libm::log(unit)
            };
            let sum: f64 = customers.iter().map(one).sum();
            assert!((here.value - sum).abs() < 1e-9 * sum.abs(), "{} {sum}", here.value);
            for i in 0..12 {
                let [low, high] = [-1e-5, 1e-5].map(|step| {
                    let mut near = x;
                    near[i] += step;
                    objective.at(&near)
                });
                let close = |exact: f64, high: f64, low: f64| {
                    ((high - low) / 2e-5 - exact).abs() < 1e-5 * (1.0 + exact.abs())
                };
                assert!(close(here.gradient[i], high.value, low.value), "{i}");
                for j in 0..12 {
                    let curve = here.hessian[12 * i + j];
                    assert!(close(curve, high.gradient[j], low.gradient[j]), "{i} {j}");
                }
            }
        }
    }
}
