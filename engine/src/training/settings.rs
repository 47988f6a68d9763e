//! What a training is asked to make.

use super::stage::Lens;
use crate::domain::{EventRules, History, Seed};
use crate::features::{Categories, FeatureSpec, Plan};
use crate::models::btyd::PurchaseFamily;
use crate::models::selection::SegmentationParams;
use crate::version::{ChurnIs, Eligibility};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that shapes a version besides the events and the incumbent. Part of the manifest and
/// of the digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSettings {
    pub rules: EventRules,
    pub eligibility: Eligibility,
    pub horizon_days: u32,
    pub seed: Seed,
    pub spec: FeatureSpec,
    pub segmentation: SegmentationParams,
    /// The features that segments are learned from; all of the spec's where empty.
    pub segment_features: Vec<String>,
    /// Fewer customers get value tiers instead of clusters.
    pub small_below: u64,
    /// Customers less dense than this quantile of the training customers are noise, from 0 to below
    /// a half; told where the segments' family has densities.
    pub noise_quantile: f64,
    /// Names by segment id.
    pub segment_names: BTreeMap<String, String>,
    /// Heads are learned from a seeded sample of so many customers; segments from all.
    pub max_customers: u64,
    pub churn_is: ChurnIs,
    pub heads: HeadSettings,
}

impl TrainingSettings {
    /// The settings with a column per category of these customers in the place of each `one_hot`.
    pub(super) fn resolved(&self, histories: &[History]) -> TrainingSettings {
        let mut categories = Categories::of(&self.spec);
        categories.see(histories);
        let spec = self.spec.resolved(&categories);
        let segment_features = self.spec.resolved_names(&self.segment_features, &spec);
        let covariates = self.spec.resolved_names(&self.heads.covariates, &spec);
        let heads = HeadSettings { covariates, ..self.heads.clone() };
        TrainingSettings { spec, segment_features, heads, ..self.clone() }
    }

    /// What the probability of churn is learned by: no model of purchases tells of the end of a contract or
    /// of inactivity.
    pub(super) fn churn_by(&self) -> ChurnBy {
        if self.churn_is.is_of_purchases() { self.heads.churn } else { ChurnBy::Logistic }
    }

    /// Whether a head may be told by a blend. Of contracts none is, whose customers need not have bought.
    pub(super) fn wants_blend(&self) -> bool {
        let value = matches!(self.heads.value, ValueBy::Auto | ValueBy::Blend);
        let churn = matches!(self.churn_by(), ChurnBy::Auto | ChurnBy::Blend);
        self.churn_is != ChurnIs::Label && (value || churn)
    }

    /// How stages look at customers under these settings.
    pub(super) fn lens<'a>(&'a self, plan: &'a Plan) -> Lens<'a> {
        Lens {
            plan,
            rules: &self.rules,
            eligibility: self.eligibility,
            churn_is: self.churn_is,
            at_most: usize::MAX,
        }
    }
}

/// Which models the heads of value and churn choose among; the baselines are always tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadSettings {
    pub value: ValueBy,
    pub churn: ChurnBy,
    /// Models of purchases to choose among. Without any, hazards are constant.
    pub purchases: Vec<PurchaseFamily>,
    /// Features, of attributes alone, that may move the rate and the drop-out of these models.
    pub covariates: Vec<String>,
    /// How strongly their effects are held back, as [`CovariateParams`] has it.
    ///
    /// [`CovariateParams`]: crate::models::btyd::CovariateParams
    pub penalty: f64,
    pub l1_ratio: f64,
}

impl Default for HeadSettings {
    fn default() -> HeadSettings {
        let purchases =
            vec![PurchaseFamily::MbgNbd, PurchaseFamily::MbgCnbd2, PurchaseFamily::ParetoNbd];
        HeadSettings {
            value: ValueBy::default(),
            churn: ChurnBy::default(),
            purchases,
            covariates: Vec::new(),
            penalty: 1e-3,
            l1_ratio: 0.5,
        }
    }
}

/// What expected spend is learned by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueBy {
    /// The blend where it can be learned and neither the model of purchases nor the baseline is better
    /// at calibration by more than chance; without it whichever ranks customers best there.
    #[default]
    Auto,
    Blend,
    Hurdle,
    Purchases,
}

/// What the probability of churn is learned by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChurnBy {
    /// Likewise; without the blend whichever has the better Brier score at calibration.
    #[default]
    Auto,
    Blend,
    Logistic,
    Purchases,
}
