//! What features are wanted, as a user writes it.

use crate::domain::EventKind;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The features of a model, in the order of the matrix' columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeatureSpec(pub Vec<Feature>);

/// One feature: an aggregate over the events of some kinds within a window that ends at the as-of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    pub name: String,
    #[serde(default = "purchases_only")]
    pub kinds: Vec<EventKind>,
    pub aggregate: Aggregate,
    /// What is aggregated; `events` where left out.
    #[serde(default)]
    pub of: Measure,
    /// The window; the whole history where left out.
    #[serde(default)]
    pub window: Window,
    /// The longer window that a `ratio` divides by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Window>,
    /// Stands in for an undefined value before transforms; the median of the defined ones where left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impute: Option<f64>,
    /// Applied in this order before a model sees the value; `standardize` where left out.
    #[serde(default = "standardize_only")]
    pub transform: Vec<Transform>,
}

fn purchases_only() -> Vec<EventKind> {
    vec![EventKind::Purchase]
}

fn standardize_only() -> Vec<Transform> {
    vec![Transform::Standardize]
}

/// How the events of a window become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// Number of events, or of days with an event; 0 where there are none.
    Count,
    /// Sum of a measure; 0 where there is nothing to add.
    Sum,
    /// Mean of a measure; undefined of nothing.
    Mean,
    /// Largest value of a measure; undefined of nothing.
    Max,
    /// The sample's standard deviation (n - 1); undefined of fewer than two values.
    Std,
    /// Calendar days from the last event to the as-of; undefined without one.
    DaysSinceLast,
    /// Calendar days from the first event to the as-of; undefined without one.
    DaysSinceFirst,
    /// Mean of the days between consecutive days with an event; undefined below two such days.
    GapMean,
    /// Coefficient of variation (sample's) of those gaps; undefined below three such days.
    GapVariation,
    /// The count or sum of `window` divided by that of `over`; undefined where the latter is 0.
    Ratio,
}

/// What an aggregate looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    #[default]
    Events,
    /// Distinct calendar days with an event.
    Days,
    /// Major currency units.
    Amount,
    /// Units of goods.
    Quantity,
    /// Major currency units.
    Discount,
}

impl Measure {
    /// Whether an event carries a value of it, or is merely counted.
    pub(super) fn is_valued(self) -> bool {
        matches!(self, Measure::Amount | Measure::Quantity | Measure::Discount)
    }
}

/// The last so many calendar days up to and with the as-of's, or everything. Written `90d`, `all`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Window {
    #[default]
    All,
    Days(u16),
}

impl Window {
    fn is_longer_than(self, other: Window) -> bool {
        match (self, other) {
            (Window::All, Window::Days(_)) => true,
            (Window::Days(long), Window::Days(short)) => long > short,
            (_, Window::All) => false,
        }
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Window, String> {
        if text == "all" {
            return Ok(Window::All);
        }
        match text.strip_suffix('d').and_then(|days| days.parse().ok()) {
            Some(days) if days > 0 => Ok(Window::Days(days)),
            _ => Err(format!(
                "`{text}` is no window; write `all` or days such as `90d` (1d to 65535d)"
            )),
        }
    }
}

impl TryFrom<String> for Window {
    type Error = String;

    fn try_from(text: String) -> Result<Window, String> {
        text.parse()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Window::All => f.write_str("all"),
            Window::Days(days) => write!(f, "{days}d"),
        }
    }
}

impl From<Window> for String {
    fn from(window: Window) -> String {
        window.to_string()
    }
}

/// What is done to a value before a model sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// ln(1 + x), with negative x taken as 0.
    Log1p,
    /// sign(x) ln(1 + |x|).
    SignedLog,
    /// Clamp to the training data's 1st and 99th percentile.
    Winsorize,
    /// Subtract the training data's mean, divide by its standard deviation.
    Standardize,
}

/// Why a spec is impossible.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpecError {
    #[error("the feature list is empty")]
    Empty,
    #[error("a feature has an empty name")]
    Unnamed,
    #[error("two features are called `{0}`")]
    Duplicate(String),
    #[error("feature `{0}` names no kind of event")]
    NoKinds(String),
    #[error("feature `{name}`: `{aggregate}` cannot be taken of `{of}`")]
    WrongMeasure { name: String, aggregate: String, of: String },
    #[error("feature `{0}`: a ratio needs `over`, a window longer than `window`")]
    RatioWindows(String),
    #[error("feature `{0}`: `impute` must be finite")]
    Impute(String),
    #[error("feature `{0}`: `over` belongs to a ratio only")]
    StrayOver(String),
}

impl FeatureSpec {
    /// The columns' names.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|feature| feature.name.clone()).collect()
    }

    /// Refuses what cannot be computed.
    ///
    /// # Errors
    /// The first [`SpecError`].
    pub fn check(&self) -> Result<(), SpecError> {
        if self.0.is_empty() {
            return Err(SpecError::Empty);
        }
        let mut names = HashSet::new();
        for feature in &self.0 {
            if !names.insert(&feature.name) {
                return Err(SpecError::Duplicate(feature.name.clone()));
            }
            feature.check()?;
        }
        Ok(())
    }
}

impl Feature {
    fn check(&self) -> Result<(), SpecError> {
        if self.name.trim().is_empty() {
            return Err(SpecError::Unnamed);
        }
        if self.kinds.is_empty() {
            return Err(SpecError::NoKinds(self.name.clone()));
        }
        if self.impute.is_some_and(|impute| !impute.is_finite()) {
            return Err(SpecError::Impute(self.name.clone()));
        }
        let fits = match self.aggregate {
            Aggregate::Count => !self.of.is_valued(),
            Aggregate::Sum | Aggregate::Mean | Aggregate::Max | Aggregate::Std => {
                self.of.is_valued()
            }
            Aggregate::Ratio => true,
            _ => self.of == Measure::Events,
        };
        if !fits {
            return Err(SpecError::WrongMeasure {
                name: self.name.clone(),
                aggregate: word(&self.aggregate),
                of: word(&self.of),
            });
        }
        match (self.aggregate, self.over) {
            (Aggregate::Ratio, Some(over)) if over.is_longer_than(self.window) => Ok(()),
            (Aggregate::Ratio, _) => Err(SpecError::RatioWindows(self.name.clone())),
            (_, Some(_)) => Err(SpecError::StrayOver(self.name.clone())),
            (_, None) => Ok(()),
        }
    }
}

/// A unit variant as a configuration spells it.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
