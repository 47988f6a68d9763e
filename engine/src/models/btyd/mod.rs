//! Buy till you die: probability models of customers without a contract, who buy at a rate of their
//! own until they drop out, which nobody sees.
//!
//! A model is fitted to everybody's x, t_x and T ([`Cohort`]) and then asked about one customer
//! ([`Purchases`]). What each family assumes stands at its struct; docs/models/btyd.md compares them.

mod beta_geometric;
mod bgbb;
mod covariates;
mod family;
mod horizon;
mod jet;
mod nbd;
mod optimum;
mod pareto;
mod proximal;
mod purchases;
mod season;
mod special;
mod spend;

pub use beta_geometric::BetaGeometric;
pub use bgbb::{BgBb, BgBbError, BgBbParams, OccasionCohort, Occasions};
pub use covariates::{
    CovariateCohort, CovariateEvidence, CovariateFit, CovariateModel, CovariateParams,
};
pub use family::{
    Evidence, Parameter, Prospects, PurchaseFamily, PurchaseFit, PurchaseModel, PurchaseParams,
};
pub use nbd::Nbd;
pub use pareto::Pareto;
pub use purchases::{Cohort, Purchases};
pub use season::Season;
pub use spend::{GammaGamma, Spend, SpendCohort, SpendError, SpendFinding, SpendFit};

use thiserror::Error;

/// Why no model of purchases was learned.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BtydError {
    #[error("there are no customers")]
    NoCustomers,
    #[error(
        "customer {customer}'s purchases are impossible: 0 <= t_x <= T must hold, and t_x = 0 where \
         x = 0 alone"
    )]
    Invalid { customer: usize },
    #[error(
        "none of {n_customers} customers bought twice, so that nothing tells how often they buy"
    )]
    NoRepeats { n_customers: u64 },
    #[error("the {family} likelihood has no maximum that could be found in {n_iter} steps")]
    NotConverged { family: &'static str, n_iter: u32 },
    #[error("customer {customer}'s covariates must be {n_covariates} numbers within ±1e15")]
    Covariates { customer: usize, n_covariates: usize },
    #[error("customers have more than {most} distinct vectors of covariates")]
    TooManyGroups { most: usize },
    #[error("seasons need a log of a full year")]
    ShortYear,
    #[error("a penalty is finite and not negative, and its l1_ratio within [0, 1]")]
    Penalty,
}
