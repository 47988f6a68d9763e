//! The models of purchases that a blend asks, side by side.

use crate::domain::Lifetime;
use crate::domain::Seed;
use crate::models::btyd::{
    Cohort, GammaGamma, Prospects, PurchaseFamily, PurchaseModel, PurchaseParams, Purchases, Spend,
    SpendCohort,
};
use crate::models::{Estimator, FitError};
use serde::{Deserialize, Serialize};

/// More customers would tell a handful of parameters little more.
const MOST_CUSTOMERS: usize = 50_000;

/// Models that err in different directions: one of customers who never leave, one of those who may
/// leave whenever they bought, and one of those who may leave at any time. In days.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experts {
    pub nbd: PurchaseModel,
    pub mbg_nbd: PurchaseModel,
    pub pareto_nbd: PurchaseModel,
    /// Absent where amounts have no model with a finite mean; a customer's own mean stands in.
    pub spend: Option<GammaGamma>,
}

/// What the experts say of one customer and the days ahead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Views {
    pub nbd: Prospects,
    pub mbg_nbd: Prospects,
    pub pareto_nbd: Prospects,
    /// Expected spend of a purchase day, in major currency units.
    pub spend: f64,
}

impl Experts {
    /// Fits each to the customers who bought. One whose drop-out the log does not show is the NBD.
    ///
    /// # Errors
    /// As the fit of the NBD.
    pub fn fit(lifetimes: &[Lifetime]) -> Result<Experts, FitError> {
        let step = lifetimes.len().div_ceil(MOST_CUSTOMERS).max(1);
        let buyers = || lifetimes.iter().step_by(step).filter(|life| life.purchase_days > 0);
        let customers: Vec<Purchases> = buyers().map(Purchases::from).collect();
        let cohort = Cohort::new(&customers)?;
        // Nothing is drawn, so no seed matters.
        let fit = |family| {
            let fit = PurchaseParams { family }.fit(&cohort, Seed(0));
            fit.map(|fit| fit.model.model)
        };
        let nbd = fit(PurchaseFamily::Nbd)?;
        let spends: Vec<(Spend, f64)> = buyers()
            .map(|life| Spend { frequency: life.frequency, mean: life.monetary_value })
            .filter(Spend::check)
            .map(|spend| (spend, 1.0))
            .collect();
        let cohort_of_spend = SpendCohort::new(&spends).ok();
        let spend = cohort_of_spend.and_then(|cohort| GammaGamma::fit(&cohort).with_mean());
        Ok(Experts {
            nbd,
            mbg_nbd: fit(PurchaseFamily::MbgNbd).unwrap_or(nbd),
            pareto_nbd: fit(PurchaseFamily::ParetoNbd).unwrap_or(nbd),
            spend,
        })
    }

    /// What they say of the `days` after the instant up to which this lifetime is.
    pub fn views(&self, lifetime: &Lifetime, days: u32) -> Views {
        let (customer, days) = (Purchases::from(lifetime), f64::from(days));
        let expected = self
            .spend
            .and_then(|spend| spend.expected_spend(lifetime.frequency, lifetime.monetary_value));
        Views {
            nbd: self.nbd.prospects(&customer, days),
            mbg_nbd: self.mbg_nbd.prospects(&customer, days),
            pareto_nbd: self.pareto_nbd.prospects(&customer, days),
            spend: expected.unwrap_or(lifetime.mean_spend()),
        }
    }

    /// True for parameters by which every answer is defined.
    pub fn check(&self) -> bool {
        [self.nbd, self.mbg_nbd, self.pareto_nbd].iter().all(PurchaseModel::check)
    }
}
