//! Any family of models of purchases: fitted, named and asked in the same way.

use super::optimum::Optimum;
use super::purchases::{Cohort, Purchases};
use super::{BetaGeometric, BtydError, Nbd, Pareto};
use crate::domain::{Draws, Seed};
use crate::models::{Diagnostics, Estimator, Fit, FitError};
use serde::{Deserialize, Serialize};

/// Drop-out must raise the log-likelihood by this much over the model without it. A smaller gain is
/// what a flat likelihood shows, and no finding: of customers who never drop out, chance alone gives
/// more in about one log of four, since how they would drop out is then free (Davies 1977,
/// *Biometrika* 64).
pub(super) const LEAST_GAIN: f64 = 0.5;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PurchaseFamily {
    /// Without drop-out.
    Nbd,
    BgNbd,
    MbgNbd,
    /// Every second event of a Poisson process is a purchase.
    #[serde(rename = "bg_cnbd_2")]
    BgCnbd2,
    #[serde(rename = "bg_cnbd_3")]
    BgCnbd3,
    #[serde(rename = "mbg_cnbd_2")]
    MbgCnbd2,
    #[serde(rename = "mbg_cnbd_3")]
    MbgCnbd3,
    ParetoNbd,
}

impl PurchaseFamily {
    /// All of them.
    pub const ALL: [PurchaseFamily; 8] = [
        PurchaseFamily::Nbd,
        PurchaseFamily::BgNbd,
        PurchaseFamily::MbgNbd,
        PurchaseFamily::BgCnbd2,
        PurchaseFamily::BgCnbd3,
        PurchaseFamily::MbgCnbd2,
        PurchaseFamily::MbgCnbd3,
        PurchaseFamily::ParetoNbd,
    ];

    /// Whether customers who bought once count as alive for ever, by construction.
    pub fn keeps_first_timers(self) -> bool {
        matches!(self, PurchaseFamily::BgNbd | PurchaseFamily::BgCnbd2 | PurchaseFamily::BgCnbd3)
    }

    /// Events of a Poisson process per purchase.
    pub(super) fn k(self) -> u32 {
        match self {
            PurchaseFamily::BgCnbd2 | PurchaseFamily::MbgCnbd2 => 2,
            PurchaseFamily::BgCnbd3 | PurchaseFamily::MbgCnbd3 => 3,
            PurchaseFamily::Nbd
            | PurchaseFamily::BgNbd
            | PurchaseFamily::MbgNbd
            | PurchaseFamily::ParetoNbd => 1,
        }
    }

    /// The name in settings, reports and versions.
    pub fn name(self) -> &'static str {
        match self {
            PurchaseFamily::Nbd => "nbd",
            PurchaseFamily::BgNbd => "bg_nbd",
            PurchaseFamily::MbgNbd => "mbg_nbd",
            PurchaseFamily::BgCnbd2 => "bg_cnbd_2",
            PurchaseFamily::BgCnbd3 => "bg_cnbd_3",
            PurchaseFamily::MbgCnbd2 => "mbg_cnbd_2",
            PurchaseFamily::MbgCnbd3 => "mbg_cnbd_3",
            PurchaseFamily::ParetoNbd => "pareto_nbd",
        }
    }
}

/// A fitted model of purchases, as it is saved. Its answers are in the unit of time that it was
/// fitted in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "snake_case")]
pub enum PurchaseModel {
    Nbd(Nbd),
    BetaGeometric(BetaGeometric),
    ParetoNbd(Pareto),
}

/// What a model says of one customer and the time t after T.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prospects {
    /// P(has not dropped out by T).
    pub p_alive: f64,
    /// P(no purchase in (T, T + t]).
    pub p_no_purchase: f64,
    /// In (T, T + t].
    pub expected_purchases: f64,
}

/// Asks the model, whichever it is.
macro_rules! ask {
    ($self:ident, $model:ident => $answer:expr) => {
        match $self {
            PurchaseModel::Nbd($model) => $answer,
            PurchaseModel::BetaGeometric($model) => $answer,
            PurchaseModel::ParetoNbd($model) => $answer,
        }
    };
}

impl PurchaseModel {
    /// What the model is, of what can be asked for.
    pub fn family(&self) -> PurchaseFamily {
        match self {
            PurchaseModel::Nbd(_) => PurchaseFamily::Nbd,
            PurchaseModel::ParetoNbd(_) => PurchaseFamily::ParetoNbd,
            PurchaseModel::BetaGeometric(model) => match (model.modified, model.k) {
                (false, 3) => PurchaseFamily::BgCnbd3,
                (false, 2) => PurchaseFamily::BgCnbd2,
                (false, _) => PurchaseFamily::BgNbd,
                (true, 3) => PurchaseFamily::MbgCnbd3,
                (true, 2) => PurchaseFamily::MbgCnbd2,
                (true, _) => PurchaseFamily::MbgNbd,
            },
        }
    }

    /// True for parameters by which every answer is defined.
    pub fn check(&self) -> bool {
        ask!(self, model => model.check())
    }

    /// ln of the density of the customer's purchase times.
    pub fn ln_likelihood(&self, customer: &Purchases) -> f64 {
        ask!(self, model => model.ln_likelihood(customer))
    }

    /// P(has not dropped out by T).
    pub fn p_alive(&self, customer: &Purchases) -> f64 {
        ask!(self, model => model.p_alive(customer))
    }

    /// P(has not dropped out by T + t), with what is known at T.
    pub fn p_alive_after(&self, customer: &Purchases, t: f64) -> f64 {
        ask!(self, model => model.p_alive_after(customer, t))
    }

    /// P(no purchase in (T, T + t]).
    pub fn p_no_purchase(&self, customer: &Purchases, t: f64) -> f64 {
        ask!(self, model => model.p_no_purchase(customer, t))
    }

    /// Expected purchases in (T, T + t].
    pub fn expected_purchases(&self, customer: &Purchases, t: f64) -> f64 {
        ask!(self, model => model.expected_purchases(customer, t))
    }

    /// P(alive), P(no purchase) and expected purchases in (T, T + t], the same numbers as one by one.
    pub fn prospects(&self, customer: &Purchases, t: f64) -> Prospects {
        match self {
            PurchaseModel::Nbd(model) => Prospects {
                p_alive: model.p_alive(customer),
                p_no_purchase: model.p_no_purchase(customer, t),
                expected_purchases: model.expected_purchases(customer, t),
            },
            PurchaseModel::BetaGeometric(model) => model.prospects(customer, t),
            PurchaseModel::ParetoNbd(model) => model.prospects(customer, t),
        }
    }

    /// P(0, 1, 2 .. purchases in (T, T + t]), as many as `out` has room for.
    pub fn p_counts(&self, customer: &Purchases, t: f64, out: &mut [f64]) {
        ask!(self, model => model.p_counts(customer, t, out))
    }

    /// Purchases in (T, T + t], drawn: first the customer's own rate and drop-out given what is known
    /// at T, then what they do.
    pub fn draw(&self, customer: &Purchases, t: f64, draws: &mut Draws) -> u32 {
        ask!(self, model => model.draw(customer, t, draws))
    }

    /// One such number for each place of `out`.
    pub fn draw_all(&self, customer: &Purchases, t: f64, draws: &mut Draws, out: &mut [u32]) {
        ask!(self, model => model.draw_all(customer, t, draws, out));
    }
}

/// A fitted parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    pub name: String,
    pub value: f64,
    /// From the Hessian, by the delta method; absent where the likelihood does not tell the
    /// parameter.
    pub standard_error: Option<f64>,
}

/// What speaks for a fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    pub n_customers: u64,
    /// Distinct (x, t_x, T).
    pub n_rows: u64,
    /// Σ over customers of ln of the density of their purchase times, in the unit that they came in.
    pub log_likelihood: f64,
    /// What it is without drop-out; equal where there is none.
    pub log_likelihood_without_drop_out: f64,
    pub parameters: Vec<Parameter>,
    /// Of the negative Hessian by the logarithms of the parameters; absent where that is not positive
    /// definite.
    pub condition_number: Option<f64>,
}

/// A fitted model and what speaks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurchaseFit {
    pub model: PurchaseModel,
    pub evidence: Evidence,
    /// Why it is the model without drop-out, where another was asked for.
    pub replaced: Option<String>,
}

/// Which family to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurchaseParams {
    pub family: PurchaseFamily,
}

impl Estimator for PurchaseParams {
    type Input<'a> = Cohort;
    type Fitted = PurchaseFit;

    /// Maximum likelihood. Nothing is drawn, so the seed does not matter. Where the customers do not
    /// show that they drop out, the model is the one without drop-out (the NBD, or the CNBD of the same
    /// k), and says so.
    fn fit(&self, cohort: &Cohort, _seed: Seed) -> Result<Fit<PurchaseFit>, FitError> {
        let n_customers = cohort.n_customers() as u64;
        if cohort.max_frequency == 0 {
            return Err(BtydError::NoRepeats { n_customers }.into());
        }
        let beta_geometric = |modified| {
            let (model, optimum) = BetaGeometric::fit(cohort, self.family.k(), modified);
            Found::new(PurchaseModel::BetaGeometric(model), &optimum)
        };
        let wanted = match self.family {
            PurchaseFamily::Nbd => None,
            PurchaseFamily::BgNbd | PurchaseFamily::BgCnbd2 | PurchaseFamily::BgCnbd3 => {
                Some(beta_geometric(false))
            }
            PurchaseFamily::MbgNbd | PurchaseFamily::MbgCnbd2 | PurchaseFamily::MbgCnbd3 => {
                Some(beta_geometric(true))
            }
            PurchaseFamily::ParetoNbd => {
                let (model, optimum) = Pareto::fit(cohort);
                Some(Found::new(PurchaseModel::ParetoNbd(model), &optimum))
            }
        };
        let simple = without_drop_out(cohort, self.family.k());
        let without = simple.value;
        let (found, replaced) = match wanted.map(|wanted| (wanted.refuted(without), wanted)) {
            None => (simple, None),
            Some((None, wanted)) => (wanted, None),
            Some((Some(reason), _)) => (simple, Some(reason)),
        };
        if !found.is_usable() {
            let family = found.model.family().name();
            return Err(BtydError::NotConverged { family, n_iter: found.n_iter }.into());
        }
        Ok(found.into_fit(cohort, without, replaced))
    }
}

/// The model of customers who never drop out, with every k-th event a purchase.
fn without_drop_out(cohort: &Cohort, k: u32) -> Found {
    if k == 1 {
        let (model, optimum) = Nbd::fit(cohort);
        return Found::new(PurchaseModel::Nbd(model), &optimum);
    }
    let (model, optimum) = BetaGeometric::fit_without_drop_out(cohort, k);
    Found::new(PurchaseModel::BetaGeometric(model), &optimum)
}

/// An optimum of any family, in the cohort's unit of time.
struct Found {
    model: PurchaseModel,
    value: f64,
    converged: bool,
    n_iter: u32,
    /// Of the logarithms.
    standard_errors: Vec<Option<f64>>,
    at_bound: Vec<bool>,
    condition_number: f64,
}

impl Found {
    fn new<const N: usize>(model: PurchaseModel, optimum: &Optimum<N>) -> Found {
        Found {
            model,
            value: optimum.value,
            converged: optimum.converged,
            n_iter: optimum.n_iter,
            standard_errors: optimum.standard_errors().to_vec(),
            at_bound: optimum.at_bound.to_vec(),
            condition_number: optimum.condition_number(),
        }
    }

    fn is_usable(&self) -> bool {
        self.value.is_finite() && self.model.check()
    }

    /// Why the model without drop-out, which reaches the value `without`, is to be preferred, where
    /// it is.
    fn refuted(&self, without: f64) -> Option<String> {
        let family = self.model.family().name();
        if !self.is_usable() || !self.converged {
            return Some(format!("the {family} likelihood has no maximum that could be found"));
        }
        let gain = self.value - without;
        (gain < LEAST_GAIN).then(|| {
            format!(
                "drop-out is not identified: {family} raises the log-likelihood of the model without \
                 it by {:.3}",
                gain.max(0.0)
            )
        })
    }

    /// The parameters' names and values, in the order of the optimum.
    fn parameters(&self) -> Vec<(&'static str, f64)> {
        match &self.model {
            PurchaseModel::Nbd(Nbd { r, alpha }) => vec![("r", *r), ("alpha", *alpha)],
            PurchaseModel::BetaGeometric(model) => {
                vec![("r", model.r), ("alpha", model.alpha), ("a", model.a), ("b", model.b)]
            }
            PurchaseModel::ParetoNbd(model) => {
                vec![("r", model.r), ("alpha", model.alpha), ("s", model.s), ("beta", model.beta)]
            }
        }
    }

    fn into_fit(self, cohort: &Cohort, without: f64, replaced: Option<String>) -> Fit<PurchaseFit> {
        // Densities of times are per unit of time, once for each repeat purchase.
        let n_repeats: f64 =
            cohort.rows.iter().map(|row| row.weight * f64::from(row.frequency)).sum();
        let per_unit = |value: f64| value - n_repeats * libm::log(cohort.unit);
        let parameters: Vec<Parameter> = self
            .parameters()
            .into_iter()
            .zip(&self.standard_errors)
            .map(|((name, value), log_error)| Parameter {
                name: name.to_owned(),
                value,
                standard_error: log_error.map(|error| value * error).filter(|se| se.is_finite()),
            })
            .collect();
        let mut notes: Vec<String> = replaced.iter().cloned().collect();
        if !self.converged {
            notes.push(format!("stopped after {} steps", self.n_iter));
        }
        for (parameter, at_bound) in parameters.iter().zip(&self.at_bound) {
            if *at_bound || parameter.standard_error.is_none() {
                notes.push(format!("the likelihood does not tell {}", parameter.name));
            }
        }
        let log_likelihood = per_unit(self.value);
        let fit = PurchaseFit {
            model: self.model,
            evidence: Evidence {
                n_customers: cohort.n_customers() as u64,
                n_rows: cohort.n_rows() as u64,
                log_likelihood,
                log_likelihood_without_drop_out: per_unit(without),
                parameters,
                condition_number: Some(self.condition_number).filter(|number| number.is_finite()),
            },
            replaced,
        };
        let diagnostics = Diagnostics {
            converged: self.converged,
            n_iter: Some(self.n_iter),
            objective: log_likelihood,
            run: 0,
            notes,
        };
        Fit { model: fit, diagnostics }
    }
}
