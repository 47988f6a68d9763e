//! Everything that a model version needs to answer. It holds parameters, never customer rows.

mod forecast;

use crate::domain::{AsOf, Day, EventRules, History, Inactivity, Lifetime};
use crate::features::{Encoder, FeatureSpec, lifetime_or_none};
use crate::models::selection::Candidate;
use crate::models::{Diagnostics, Membership, SegmentModel, Segmenter};
use crate::segments::{Bands, LineageRecord, Segment};
use serde::{Deserialize, Serialize};

pub use forecast::{
    BlendHead, Bridge, ChurnHead, CovariateColumn, CovariateHead, Expected, Facts, Forecast,
    Outlook, PurchaseHead, Replaced, ValueHead,
};

/// The number of the layout below; a reader refuses one that it does not know.
pub const FORMAT: u32 = 5;

/// A model version's parameters, as they are saved and as they answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelVersion {
    pub format: u32,
    /// What shapes a history.
    pub rules: EventRules,
    pub eligibility: Eligibility,
    pub churn_is: ChurnIs,
    pub spec: FeatureSpec,
    pub segment: SegmentHead,
    pub bands: Bands,
    pub forecast: Forecast,
}

/// What the churn head speaks of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChurnIs {
    /// No purchase within the horizon.
    #[default]
    Silence,
    /// A contract that ends, as the label of the customers file tells: within the horizon where ends
    /// have dates, and otherwise within whatever time the labels cover.
    Label,
    /// So many days in a row without activity, completed within the horizon.
    Inactivity(Inactivity),
}

impl ChurnIs {
    /// What is summarised of a customer at `as_of`: the purchases, and the silence where churn is
    /// inactivity. Nothing is in it without an event.
    pub fn lifetime(self, history: &History, as_of: AsOf, rules: &EventRules) -> Lifetime {
        let lifetime = lifetime_or_none(history, as_of, &rules.currency);
        match self {
            ChurnIs::Silence | ChurnIs::Label => lifetime,
            ChurnIs::Inactivity(inactivity) => {
                let inactive_days = inactivity.silent_days(history, as_of, &rules.zone);
                Lifetime { inactive_days, ..lifetime }
            }
        }
    }

    /// Whether models of purchases, the blend among them, answer what is asked.
    pub fn is_of_purchases(self) -> bool {
        self == ChurnIs::Silence
    }

    /// Whether a probability within some days says nothing of other days: a silence that takes so many
    /// days has no hazard that could go on.
    pub fn is_of_the_window_alone(self) -> bool {
        matches!(self, ChurnIs::Inactivity(_))
    }

    /// Whether customers are answered about who did nothing yet.
    pub fn knows_silent(self) -> bool {
        self == ChurnIs::Label
    }

    /// Whether a contract ended by `as_of`, as far as its end has a date.
    pub fn has_ended(self, history: &History, as_of: AsOf) -> bool {
        let label = history.attributes().and_then(|attributes| attributes.label);
        self == ChurnIs::Label
            && label.is_some_and(|label| label.churned && label.at.is_some_and(|at| at <= as_of.at))
    }
}

/// Whom the heads answer about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eligibility {
    /// Customers whose first event is younger are TOO_NEW.
    pub min_age_days: u32,
    /// Customers silent for at least this long are ALREADY_LOST to the churn head.
    pub lost_after_days: Option<u32>,
}

/// The segment head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentHead {
    pub by: SegmentBy,
    /// One entry per cluster, in the model's order.
    pub catalogue: Vec<Segment>,
    /// How the segments descend from those of an earlier version, where there was one.
    pub lineage: Option<Lineage>,
}

/// What segments are made by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentBy {
    Clusters(Box<Clusters>),
    /// Value tiers, where there were too few customers for clusters.
    Tiers,
}

/// Learned clusters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clusters {
    /// Fitted at the version's as-of.
    pub encoder: Encoder,
    pub model: SegmentModel,
    pub diagnostics: Diagnostics,
    /// Every number of clusters that was tried.
    pub selection: Vec<Candidate>,
    /// Below which density a customer is noise; absent where the family has no densities.
    pub noise: Option<NoiseLevel>,
}

/// The density below which a customer is unlike those that the clusters were learned from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseLevel {
    /// Which quantile of the training customers' log-densities the level is.
    pub quantile: f64,
    /// ln of the density, in scaled units; whoever lies below is noise.
    pub log_density: f64,
}

/// How the segments of a version descend from those of the incumbent at its training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    pub incumbent: Incumbent,
    /// Customers that both versions can score at this version's as-of.
    pub n_common: u64,
    /// Those of them whom this version puts into another segment than the incumbent does, both
    /// asked at this version's as-of: they moved because the model changed.
    pub moved_by_model: u64,
    /// What `moved_by_model` would be if segments were told by the index of their cluster.
    pub moved_by_index: u64,
    /// Customers that the incumbent can score at both versions' as-ofs.
    pub n_remained: u64,
    /// Those of them whom the incumbent puts into another segment now than at its own as-of: they
    /// moved because they changed.
    pub moved_by_customer: u64,
    pub records: Vec<LineageRecord>,
}

/// A version by what it is called and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incumbent {
    pub version: String,
    pub digest: String,
}

impl SegmentHead {
    /// The cluster or tier of a customer, by the raw feature row of `(n_features,)` and the lifetime.
    pub fn assign(&self, bands: &Bands, raw: &[f64], life: &Lifetime) -> Membership {
        match &self.by {
            SegmentBy::Clusters(clusters) => {
                clusters.model.assign(&clusters.encoder.scaled_row(raw))
            }
            SegmentBy::Tiers => Membership {
                cluster: bands.tier(life) as usize,
                probability: None,
                log_density: None,
            },
        }
    }

    /// Whether a customer of this membership is unlike those that the clusters were learned from;
    /// `None` where nothing tells, as of tiers and of clusters without densities.
    pub fn is_noise(&self, membership: &Membership) -> Option<bool> {
        let density = membership.log_density?;
        // What overflowed on its way to a density is as far away as can be.
        self.noise().map(|level| density.is_nan() || density < level.log_density)
    }

    /// The density below which a customer is noise, where there is one.
    pub fn noise(&self) -> Option<NoiseLevel> {
        self.clusters()?.noise
    }

    /// What the segments are made by, in reports.
    pub fn family(&self) -> &'static str {
        match &self.by {
            SegmentBy::Clusters(clusters) => clusters.model.family(),
            SegmentBy::Tiers => "tiers",
        }
    }

    /// The clusters, where there are any.
    pub fn clusters(&self) -> Option<&Clusters> {
        match &self.by {
            SegmentBy::Clusters(clusters) => Some(clusters),
            SegmentBy::Tiers => None,
        }
    }
}

impl Eligibility {
    /// Nobody is left aside.
    pub const EVERYBODY: Eligibility = Eligibility { min_age_days: 0, lost_after_days: None };

    /// Whether a customer whose first event fell on `first` is too young to be answered about.
    pub fn is_too_new(&self, first: Day, as_of: Day) -> bool {
        as_of.since(first) < self.min_age_days as i32
    }

    /// Whether the heads answer about a customer at all: one who is known, old enough, and did not opt
    /// out.
    pub fn answers(&self, churn_is: ChurnIs, history: &History, as_of: AsOf) -> bool {
        let first = history.events().first().filter(|first| first.at <= as_of.at);
        let is_known = match first {
            Some(first) => !self.is_too_new(first.day, as_of.day),
            None => churn_is.knows_silent() && history.is_known_at(as_of),
        };
        is_known && !history.opted_out()
    }

    /// Whether a customer has been silent for too long for the churn head: for `lost_after_days`, or for
    /// the days that churn takes where it is inactivity.
    pub fn is_lost(&self, churn_is: ChurnIs, lifetime: &Lifetime) -> bool {
        let inactive = match (churn_is, lifetime.inactive_days) {
            (ChurnIs::Inactivity(inactivity), Some(days)) => days >= inactivity.days,
            _ => false,
        };
        let is_lost = |days| lifetime.days_since_last_purchase >= days;
        inactive || self.lost_after_days.is_some_and(is_lost)
    }
}
