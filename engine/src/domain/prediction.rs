//! What habitus answers about one customer.

use super::{CustomerId, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a head gives no number. Each is a defined answer, not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Abstention {
    /// No event by the as-of; so too an unknown customer.
    NoHistory,
    /// Younger than the version's `min_age_days`.
    TooNew,
    /// Silent for at least the version's `lost_after_days`; said of churn only.
    AlreadyLost,
    /// The customer opted out of being scored.
    OptedOut,
}

/// A head's answer: a value, or the reason why there is none. Never both, never an invented number.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer<T> {
    Given(T),
    Abstained(Abstention),
}

impl<T> Answer<T> {
    /// The value, where one was given.
    pub fn given(&self) -> Option<&T> {
        match self {
            Answer::Given(value) => Some(value),
            Answer::Abstained(_) => None,
        }
    }

    /// The status as files and tables spell it.
    pub fn status(&self) -> &'static str {
        match self {
            Answer::Given(_) => "OK",
            Answer::Abstained(Abstention::NoHistory) => "NO_HISTORY",
            Answer::Abstained(Abstention::TooNew) => "TOO_NEW",
            Answer::Abstained(Abstention::AlreadyLost) => "ALREADY_LOST",
            Answer::Abstained(Abstention::OptedOut) => "OPTED_OUT",
        }
    }
}

/// A segment's opaque, stable id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentId(pub String);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything habitus says of one customer at one instant.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    pub customer: CustomerId,
    pub as_of: Timestamp,
    /// The newest event that the answer used.
    pub newest_event: Option<Timestamp>,
    pub segment: Answer<SegmentAnswer>,
    pub value: Answer<ValueAnswer>,
    pub churn: Answer<ChurnAnswer>,
}

/// A customer's bands of recency, frequency and monetary value, 1 to 5, 5 being the best (Hughes
/// 1994).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rfm {
    pub recency: u8,
    pub frequency: u8,
    pub monetary: u8,
}

impl fmt::Display for Rfm {
    /// Such as `5-3-1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.recency, self.frequency, self.monetary)
    }
}

/// The segment that a customer belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentAnswer {
    pub id: SegmentId,
    pub name: String,
    /// The cluster's index inside this model version; it means nothing to another version.
    pub cluster: usize,
    /// The mixture's responsibility, in `[0, 1]`; absent for k-means, which has no probabilities.
    pub probability: Option<f64>,
    /// Whether the customer is less dense under the mixture than the level frozen in the version,
    /// and so unlike those that the segments were learned from; absent for k-means and tiers, which
    /// have no densities.
    pub noise: Option<bool>,
    /// `A`, `B` or `C` by total spend, at thresholds frozen in the version.
    pub tier: &'static str,
    /// At thresholds frozen in the version.
    pub rfm: Rfm,
}

/// What a customer is expected to spend within the horizon.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueAnswer {
    pub horizon_days: u32,
    /// Expected spend in major currency units, undiscounted.
    pub ltv: f64,
    /// Bounds of the interval, in major currency units; its level and measured coverage stand in
    /// the version.
    pub ltv_low: f64,
    pub ltv_high: f64,
    /// Expected days with a purchase, by the blend where that tells value, else by the model of
    /// purchases; absent where there is neither.
    pub expected_purchases: Option<f64>,
    /// The interval around it, of the same level as that of spend; absent without the blend.
    pub purchases_low: Option<f64>,
    pub purchases_high: Option<f64>,
}

/// How likely a customer is to buy nothing within the horizon.
#[derive(Debug, Clone, PartialEq)]
pub struct ChurnAnswer {
    pub horizon_days: u32,
    /// P(no purchase within the horizon), in `[0, 1]`.
    pub probability: f64,
    /// Share of the training customers with a lower probability, in `[0, 1]`, frozen in the version.
    pub percentile: f64,
    /// P(has not dropped out by the as-of), by the model of purchases; absent where there is none.
    pub p_alive: Option<f64>,
    /// What moved this customer's probability most, largest effect first.
    pub reasons: Vec<Reason>,
}

/// One feature's part in a churn probability.
#[derive(Debug, Clone, PartialEq)]
pub struct Reason {
    /// The feature's name in the spec, or that of one of the blend's own inputs.
    pub feature: String,
    /// Its value before transforms; absent where it is undefined for this customer.
    pub value: Option<f64>,
    /// Its contribution to the log-odds of churn against the average training customer.
    pub log_odds: f64,
}
