//! Purchases by who customers are: covariates that do not change, such as the channel that customers
//! came by, multiply their rate of purchases and their drop-out.
//!
//! As in Fader & Hardie (2007), "Incorporating Time-Invariant Covariates into the Pareto/NBD and BG/NBD
//! Models", a customer with the covariates z has alpha exp(−gamma·z), a rate of purchases that is
//! exp(gamma·z) times as high; in the Pareto/NBD beta exp(−delta·z), the same for the rate of drop-out;
//! and in the BG/NBD family a exp(delta·z), the same for the odds a / b of the mean probability to drop
//! out. They let z act on b too; here it does not, for an effect that a and b share leaves that mean
//! where it is. Effects are held back by an elastic net (Zou & Hastie 2005).
//!
//! Customers with the same z are a cohort of their own, whose four logarithms are linear in the logs
//! of the base and the effects. Sums over the groups give the exact derivatives of the whole.

mod cohort;
mod objective;

pub use cohort::CovariateCohort;

use super::family::LEAST_GAIN;
use super::nbd::BOUND;
use super::proximal::{Peak, maximise};
use super::{BetaGeometric, BtydError, Nbd, Parameter, Pareto, PurchaseFamily, PurchaseModel};
use crate::domain::Seed;
use crate::models::{Diagnostics, Estimator, Fit, FitError};
use objective::{ALPHA, Objective, Process};
use serde::{Deserialize, Serialize};

/// How far all effects together may move a logarithm, in an answer about covariates that no fit saw.
const LARGEST_SHIFT: f64 = 3.0 * BOUND;

/// A model of purchases for every vector of covariates, as it is saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CovariateModel {
    /// Of a customer whose covariates are all at `centre`.
    pub base: PurchaseModel,
    pub names: Vec<String>,
    /// `(n_covariates,)`, the mean over the customers of the fit.
    pub centre: Vec<f64>,
    /// gamma, `(n_covariates,)`.
    pub rate: Vec<f64>,
    /// delta, `(n_covariates,)`; 0 where nobody drops out.
    pub drop_out: Vec<f64>,
}

impl CovariateModel {
    /// The model of a customer with these covariates `(n_covariates,)`, to be asked like any other. A
    /// covariate that is missing or not finite counts as the centre.
    pub fn model_for(&self, covariates: &[f64]) -> PurchaseModel {
        let shift = |effects: &[f64]| {
            let each = covariates.iter().zip(&self.centre).zip(effects);
            let sum: f64 = each
                .filter(|((z, _), effect)| z.is_finite() && **effect != 0.0)
                .map(|((z, centre), effect)| effect * (z - centre))
                .sum();
            // Of two infinities that cancel each other nothing is left.
            let sum = if sum.is_nan() { 0.0 } else { sum };
            libm::exp(sum.clamp(-LARGEST_SHIFT, LARGEST_SHIFT))
        };
        let (rate, drop_out) = (shift(&self.rate), shift(&self.drop_out));
        match self.base {
            PurchaseModel::Nbd(base) => {
                PurchaseModel::Nbd(Nbd { alpha: base.alpha / rate, ..base })
            }
            PurchaseModel::BetaGeometric(base) => PurchaseModel::BetaGeometric(BetaGeometric {
                alpha: base.alpha / rate,
                a: base.a * drop_out,
                ..base
            }),
            PurchaseModel::ParetoNbd(base) => PurchaseModel::ParetoNbd(Pareto {
                alpha: base.alpha / rate,
                beta: base.beta / drop_out,
                ..base
            }),
        }
    }
}

/// What speaks for a fit with covariates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CovariateEvidence {
    pub n_customers: u64,
    /// Distinct vectors of covariates.
    pub n_groups: u64,
    /// Distinct (x, t_x, T, covariates).
    pub n_rows: u64,
    /// Without the penalty; per unit of time in which the customers came.
    pub log_likelihood: f64,
    /// Of the most likely model of the same family that knows no covariates.
    pub log_likelihood_without_covariates: f64,
    /// Of the base, then "rate: …" and "drop_out: …" of every covariate in which customers differ.
    /// Standard errors count the ridge as knowledge, and which effects are 0 as known.
    pub parameters: Vec<Parameter>,
}

/// A fitted model and what speaks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CovariateFit {
    pub model: CovariateModel,
    pub evidence: CovariateEvidence,
    /// Why it is the model without drop-out, where another was asked for.
    pub replaced: Option<String>,
}

/// Which family to fit, and how strongly effects are held back, named as in scikit-learn's elastic net
/// but for `penalty`, which is its alpha: the log-likelihood per customer is lessened by penalty ·
/// (l1_ratio Σ|effect| + (1 − l1_ratio) / 2 Σ effect²). The base is not penalised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CovariateParams {
    pub family: PurchaseFamily,
    pub penalty: f64,
    pub l1_ratio: f64,
}

impl Estimator for CovariateParams {
    type Input<'a> = CovariateCohort;
    type Fitted = CovariateFit;

    /// Nothing is drawn, so the seed does not matter. Where the customers do not show that they drop
    /// out, even with covariates, the model is the NBD with effects on the rate, and says so.
    fn fit(&self, cohort: &CovariateCohort, _seed: Seed) -> Result<Fit<CovariateFit>, FitError> {
        let sound = self.penalty >= 0.0 && self.penalty.is_finite();
        if !(sound && (0.0..=1.0).contains(&self.l1_ratio)) {
            return Err(BtydError::Penalty.into());
        }
        if cohort.whole.max_frequency == 0 {
            let n_customers = cohort.whole.n_customers as u64;
            return Err(BtydError::NoRepeats { n_customers }.into());
        }
        let simple = Found::new(self, cohort, Process::Lasting { k: self.family.k() });
        let (found, replaced) = match Process::of(self.family) {
            Process::Lasting { .. } => (simple, None),
            process => {
                let wanted = Found::new(self, cohort, process);
                match wanted.refuted(&simple, self.family.name()) {
                    None => (wanted, None),
                    reason => (simple, reason),
                }
            }
        };
        if !found.is_usable() {
            let (family, n_iter) = (found.model.base.family().name(), found.peak.n_iter);
            return Err(BtydError::NotConverged { family, n_iter }.into());
        }
        Ok(found.into_fit(cohort, replaced))
    }
}

/// A penalised optimum, its value in the cohort's unit of time.
struct Found {
    model: CovariateModel,
    /// In the order of the optimum.
    parameters: Vec<Parameter>,
    peak: Peak,
    /// Of the most likely model without covariates.
    plain: f64,
}

impl Found {
    fn new(params: &CovariateParams, cohort: &CovariateCohort, process: Process) -> Found {
        let (theta, plain) = process.plain(&cohort.whole);
        let objective = Objective::new(cohort, process, theta);
        let limits = objective.limits(params, cohort.whole.n_customers);
        let peak = maximise(|x| objective.at(x), &objective.start(), &limits);
        let (mut theta, unit) = (objective.theta, cohort.whole.unit);
        let zeros = vec![0.0; cohort.names.len()];
        let (mut rate, mut drop_out) = (zeros.clone(), zeros);
        let mut parameters = Vec::with_capacity(peak.at.len());
        for (i, (variable, &x)) in objective.variables.iter().zip(&peak.at).enumerate() {
            let (name, value, per_log) = match (variable.covariate, variable.target) {
                (None, target) => {
                    theta[target] = x;
                    let (name, is_time) = process.base()[target];
                    let value = libm::exp(x) * if is_time { unit } else { 1.0 };
                    (name.to_owned(), value, value)
                }
                (Some(j), ALPHA) => {
                    rate[j] = x;
                    (format!("rate: {}", cohort.names[j]), x, 1.0)
                }
                (Some(j), _) => {
                    drop_out[j] = x;
                    (format!("drop_out: {}", cohort.names[j]), x, 1.0)
                }
            };
            let standard_error = peak.standard_errors[i].map(|error| per_log * error);
            let standard_error = standard_error.filter(|error| error.is_finite());
            parameters.push(Parameter { name, value, standard_error });
        }
        let base = process.model(theta, unit);
        let (names, centre) = (cohort.names.clone(), cohort.centre.clone());
        let model = CovariateModel { base, names, centre, rate, drop_out };
        Found { model, parameters, peak, plain }
    }

    fn is_usable(&self) -> bool {
        self.peak.value.is_finite() && self.model.base.check()
    }

    /// Why the model without drop-out is to be preferred, where it is.
    fn refuted(&self, simple: &Found, family: &str) -> Option<String> {
        if !self.is_usable() || !self.peak.converged {
            return Some(format!("the {family} likelihood has no maximum that could be found"));
        }
        let penalised = |found: &Found| found.peak.value - found.peak.penalty;
        let gain = penalised(self) - penalised(simple);
        (gain < LEAST_GAIN).then(|| {
            format!(
                "drop-out is not identified: {family} with covariates raises the penalised \
                 log-likelihood of the model without it by {:.1e}",
                gain.max(0.0)
            )
        })
    }

    fn into_fit(self, cohort: &CovariateCohort, replaced: Option<String>) -> Fit<CovariateFit> {
        // Densities of times are per unit of time, once for each repeat purchase.
        let rows = || cohort.groups.iter().flat_map(|group| &group.cohort.rows);
        let n_repeats: f64 = rows().map(|row| row.weight * f64::from(row.frequency)).sum();
        let per_unit = |value: f64| value - n_repeats * libm::log(cohort.whole.unit);
        let mut notes: Vec<String> = replaced.iter().cloned().collect();
        if !self.peak.converged {
            notes.push(format!("stopped after {} steps", self.peak.n_iter));
        }
        for parameter in &self.parameters {
            // An effect that the penalty made 0 is a finding.
            if parameter.standard_error.is_none() && parameter.value != 0.0 {
                notes.push(format!("the likelihood does not tell {}", parameter.name));
            }
        }
        for (j, name) in cohort.names.iter().enumerate() {
            if cohort.groups.iter().all(|group| group.covariates[j] == 0.0) {
                notes.push(format!("all customers are alike in {name}"));
            }
        }
        let log_likelihood = per_unit(self.peak.value);
        let diagnostics = Diagnostics {
            converged: self.peak.converged,
            n_iter: Some(self.peak.n_iter),
            objective: log_likelihood - self.peak.penalty,
            run: 0,
            notes,
        };
        let evidence = CovariateEvidence {
            n_customers: cohort.whole.n_customers as u64,
            n_groups: cohort.groups.len() as u64,
            n_rows: rows().count() as u64,
            log_likelihood,
            log_likelihood_without_covariates: per_unit(self.plain),
            parameters: self.parameters,
        };
        Fit { model: CovariateFit { model: self.model, evidence, replaced }, diagnostics }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Draws;
    use crate::models::btyd::Purchases;

    pub(super) const MBG: PurchaseModel = PurchaseModel::BetaGeometric(BetaGeometric {
        r: 0.8,
        alpha: 6.0,
        a: 0.6,
        b: 2.0,
        k: 1,
        modified: true,
    });
    pub(super) const PARETO: PurchaseModel =
        PurchaseModel::ParetoNbd(Pareto { r: 0.8, alpha: 6.0, s: 0.9, beta: 15.0 });

    /// Three of four channels, a score in three values, and a coin that says nothing.
    pub(super) fn world(base: PurchaseModel) -> CovariateModel {
        CovariateModel {
            base,
            names: ["web", "store", "score", "coin"].map(str::to_owned).to_vec(),
            centre: vec![0.0; 4],
            rate: vec![0.5, -0.5, 0.2, 0.0],
            drop_out: vec![-0.4, 0.6, 0.0, 0.0],
        }
    }

    /// Purchases up to an age of 20 to 39.
    fn play(model: &PurchaseModel, draws: &mut Draws) -> Purchases {
        let age = 20.0 + f64::from(draws.below(20));
        let (r, alpha) = match model {
            PurchaseModel::Nbd(m) => (m.r, m.alpha),
            PurchaseModel::BetaGeometric(m) => (m.r, m.alpha),
            PurchaseModel::ParetoNbd(m) => (m.r, m.alpha),
        };
        let rate = draws.gamma(r) / alpha;
        let (p, k, end) = match model {
            PurchaseModel::Nbd(_) => (0.0, 1, age),
            PurchaseModel::BetaGeometric(m) => (draws.beta(m.a, m.b), m.k, age),
            PurchaseModel::ParetoNbd(m) => {
                (0.0, 1, age.min(draws.exponential() * m.beta / draws.gamma(m.s)))
            }
        };
        let mut c = Purchases { frequency: 0, recency: 0.0, age, ln_gaps: 0.0 };
        let modified = matches!(model, PurchaseModel::BetaGeometric(m) if m.modified);
        let mut now = if modified && draws.chance(p) { f64::INFINITY } else { 0.0 };
        loop {
            now += (0..k).map(|_| draws.exponential()).sum::<f64>() / rate;
            if now > end {
                return c;
            }
            c.frequency += 1;
            c.ln_gaps += libm::log(now - c.recency);
            c.recency = now;
            now = if draws.chance(p) { f64::INFINITY } else { now };
        }
    }

    pub(super) fn customers(world: &CovariateModel, n: usize) -> Vec<(Purchases, Vec<f64>)> {
        let mut draws = Draws::new(Seed(3));
        let customer = |_| {
            let (channel, score, coin) = (draws.below(4), draws.below(3), draws.below(2));
            let is = |which| if channel == which { 1.0 } else { 0.0 };
            let z = vec![is(0), is(1), f64::from(score) - 1.0, f64::from(coin)];
            (play(&world.model_for(&z), &mut draws), z)
        };
        (0..n).map(customer).collect()
    }

    pub(super) fn cohort(customers: &[(Purchases, Vec<f64>)]) -> CovariateCohort {
        let names = (0..customers[0].1.len()).map(|j| format!("z{j}")).collect();
        CovariateCohort::new(names, customers).unwrap()
    }

    fn fit(
        cohort: &CovariateCohort,
        family: PurchaseFamily,
        penalty: f64,
        l1_ratio: f64,
    ) -> Fit<CovariateFit> {
        CovariateParams { family, penalty, l1_ratio }.fit(cohort, Seed(0)).unwrap()
    }

    #[test]
    fn known_effects_are_found() {
        for base in [MBG, PARETO] {
            let world = world(base);
            let cohort = cohort(&customers(&world, 20_000));
            assert_eq!(cohort.n_groups(), 18);
            let fit = fit(&cohort, base.family(), 0.0, 0.5);
            assert!(fit.diagnostics.converged && fit.diagnostics.notes.is_empty(), "{fit:?}");
            let evidence = &fit.model.evidence;
            assert!(evidence.log_likelihood > evidence.log_likelihood_without_covariates + 100.0);
            let effects = world.rate.iter().chain(&world.drop_out);
            for (got, want) in evidence.parameters[4..].iter().zip(effects) {
                let error = got.standard_error.unwrap();
                assert!(error < 0.1 && (got.value - want).abs() < 4.0 * error, "{got:?} {want}");
            }
        }
    }

    #[test]
    fn penalties_take_effects_away() {
        let cohort = cohort(&customers(&world(MBG), 5000));
        let all =
            |fit: &CovariateFit| [fit.model.rate.clone(), fit.model.drop_out.clone()].concat();
        let none = fit(&cohort, PurchaseFamily::MbgNbd, 1e3, 0.5).model;
        let plain = PurchaseFamily::MbgNbd;
        let plain = super::super::PurchaseParams { family: plain }.fit(&cohort.whole, Seed(0));
        let PurchaseModel::BetaGeometric(plain) = plain.unwrap().model.model else { panic!() };
        let PurchaseModel::BetaGeometric(base) = none.model.base else { panic!() };
        assert_eq!(all(&none), [0.0; 8]);
        for (got, want) in [(base.r, plain.r), (base.alpha, plain.alpha), (base.a, plain.a)] {
            assert!((got / want - 1.0).abs() < 1e-6, "{base:?} {plain:?}");
        }
        let lasso = fit(&cohort, PurchaseFamily::MbgNbd, 0.01, 1.0).model;
        assert!(lasso.model.rate[0] > 0.2 && lasso.model.rate[1] < -0.2, "{lasso:?}");
        assert_eq!((lasso.model.rate[3], lasso.model.drop_out[3]), (0.0, 0.0));
        let free = all(&fit(&cohort, PurchaseFamily::MbgNbd, 0.0, 0.0).model);
        let ridge = all(&fit(&cohort, PurchaseFamily::MbgNbd, 0.1, 0.0).model);
        let length = |effects: &[f64]| effects.iter().map(|each| each * each).sum::<f64>();
        assert!(length(&ridge) < 0.5 * length(&free) && ridge.iter().all(|each| *each != 0.0));
    }

    #[test]
    fn columns_that_say_nothing_or_the_same_are_no_trouble() {
        let customers = customers(&world(PARETO), 3000);
        let widen = |c: &(Purchases, Vec<f64>)| {
            let other = 1.0 - c.1[0] - c.1[1];
            (c.0, [&c.1[..2], &[other, 0.0, 7.0]].concat())
        };
        let wide = cohort(&customers.iter().map(widen).collect::<Vec<_>>());
        for penalty in [0.0, 1e-3] {
            let fit = fit(&wide, PurchaseFamily::ParetoNbd, penalty, 0.0);
            let (model, parameters) = (&fit.model.model, &fit.model.evidence.parameters);
            assert!(fit.diagnostics.converged, "{fit:?}");
            // Nobody has the fourth, and everybody the fifth.
            assert_eq!((&model.rate[3..], &model.drop_out[3..]), (&[0.0; 2][..], &[0.0; 2][..]));
            assert_eq!(parameters.len(), 10);
            let told = parameters.iter().all(|each| each.standard_error.is_some());
            assert_eq!(told, penalty > 0.0, "{parameters:?}");
        }
        // One group: the same as without covariates.
        let one: Vec<_> = customers.iter().map(|c| (c.0, vec![1.0, 0.0])).collect();
        let one = fit(&cohort(&one), PurchaseFamily::ParetoNbd, 0.0, 0.5).model;
        assert_eq!((one.evidence.n_groups, one.evidence.parameters.len()), (1, 4));
        let gain = one.evidence.log_likelihood - one.evidence.log_likelihood_without_covariates;
        assert!(gain.abs() < 1e-6, "{gain}");
    }

    #[test]
    fn units_orders_and_threads_do_not_matter() {
        let mut customers = customers(&world(MBG), 4000);
        let reference = fit(&cohort(&customers), PurchaseFamily::MbgNbd, 1e-3, 0.5).model;
        customers.reverse();
        customers.rotate_left(700);
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let again = one.install(|| fit(&cohort(&customers), PurchaseFamily::MbgNbd, 1e-3, 0.5));
        assert_eq!(again.model, reference);
        for (customer, _) in &mut customers {
            customer.age *= 7.3;
            customer.recency *= 7.3;
        }
        let slow = fit(&cohort(&customers), PurchaseFamily::MbgNbd, 1e-3, 0.5).model;
        for (got, want) in slow.model.rate.iter().zip(&reference.model.rate) {
            assert!((got - want).abs() < 1e-6, "{slow:?} {reference:?}");
        }
        let alpha = |fit: &CovariateFit| fit.evidence.parameters[1].value;
        assert!((alpha(&slow) / alpha(&reference) / 7.3 - 1.0).abs() < 1e-6);
    }

    #[test]
    fn who_never_drops_out_is_fitted_so() {
        let nbd = PurchaseModel::Nbd(Nbd { r: 0.8, alpha: 6.0 });
        let some = cohort(&customers(&world(nbd), 3000));
        let fitted = fit(&some, PurchaseFamily::MbgNbd, 1e-4, 0.5).model;
        assert!(matches!(fitted.model.base, PurchaseModel::Nbd(_)) && fitted.replaced.is_some());
        assert!(fitted.model.rate[0] > 0.3 && fitted.model.drop_out == [0.0; 4]);
        for odd in [f64::NAN, f64::INFINITY, -1e300] {
            assert!(fitted.model.model_for(&[odd, -odd, odd]).check());
        }
        let centre = fitted.model.model_for(&fitted.model.centre);
        assert_eq!((fitted.model.model_for(&[]), centre), (fitted.model.base, fitted.model.base));
        for (penalty, l1_ratio) in [(-1.0, 0.5), (f64::NAN, 0.5), (1.0, 1.1)] {
            let family = PurchaseFamily::Nbd;
            let refused = CovariateParams { family, penalty, l1_ratio }.fit(&some, Seed(0));
            assert!(matches!(refused, Err(FitError::Purchases(BtydError::Penalty))));
        }
    }
}
