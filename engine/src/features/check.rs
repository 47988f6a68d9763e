//! What cannot be computed is refused before anything is.

use super::{Aggregate, Feature, FeatureSpec, Measure, Window};
use crate::domain::EventKind;
use serde::Serialize;
use std::collections::HashSet;
use thiserror::Error;

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
    #[error(
        "feature `{0}`: a ratio needs something else to divide by: `over`, `over_kinds` or \
         `over_of`"
    )]
    NoDivisor(String),
    #[error("feature `{0}`: `over` must be a window longer than `window`")]
    RatioWindows(String),
    #[error("feature `{0}`: `max_in_days` needs `span`, from 1 to as many days as its window has")]
    Span(String),
    #[error("feature `{name}`: `{key}` belongs to `{aggregate}` only")]
    Stray { name: String, key: &'static str, aggregate: &'static str },
    #[error("feature `{name}`: `where.{key}` holds an empty text, which no event carries")]
    BlankText { name: String, key: &'static str },
    #[error("feature `{0}`: `attribute` is missing, which names what the customers file says")]
    NoAttribute(String),
    #[error("feature `{0}`: the categories of `one_hot` are learned in training")]
    Unresolved(String),
    #[error("feature `{0}`: `impute` must be finite")]
    Impute(String),
}

impl FeatureSpec {
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
        let name = || self.name.clone();
        if self.name.trim().is_empty() {
            return Err(SpecError::Unnamed);
        }
        if self.kinds.is_empty() {
            return Err(SpecError::NoKinds(name()));
        }
        if self.impute.is_some_and(|impute| !impute.is_finite()) {
            return Err(SpecError::Impute(name()));
        }
        for (key, texts) in self.filter.lists() {
            if texts.iter().any(|text| text.trim().is_empty()) {
                return Err(SpecError::BlankText { name: name(), key });
            }
        }
        for of in [self.of].into_iter().chain(self.over_of) {
            if !self.aggregate.takes(of) {
                let aggregate = word(&self.aggregate);
                return Err(SpecError::WrongMeasure { name: name(), aggregate, of: word(&of) });
            }
        }
        self.check_attribute()?;
        self.check_ratio()?;
        self.check_span()
    }

    fn check_attribute(&self) -> Result<(), SpecError> {
        let name = || self.name.clone();
        let asks = matches!(self.aggregate, Aggregate::Attribute | Aggregate::OneHot);
        match (asks, &self.attribute) {
            (true, None) => return Err(SpecError::NoAttribute(name())),
            (false, Some(_)) => {
                let (key, aggregate) = ("attribute", "attribute");
                return Err(SpecError::Stray { name: name(), key, aggregate });
            }
            _ => {}
        }
        if self.value.is_some() && self.aggregate != Aggregate::Attribute {
            return Err(SpecError::Stray { name: name(), key: "value", aggregate: "attribute" });
        }
        Ok(())
    }

    fn check_ratio(&self) -> Result<(), SpecError> {
        let name = || self.name.clone();
        if self.aggregate != Aggregate::Ratio {
            return match [
                ("over", self.over.is_some()),
                ("over_kinds", !self.over_kinds.is_empty()),
                ("over_of", self.over_of.is_some()),
            ]
            .into_iter()
            .find(|(_, given)| *given)
            {
                Some((key, _)) => Err(SpecError::Stray { name: name(), key, aggregate: "ratio" }),
                None => Ok(()),
            };
        }
        if self.over.is_some_and(|over| !over.is_longer_than(self.window)) {
            return Err(SpecError::RatioWindows(name()));
        }
        let bits = |kinds: &[EventKind]| kinds.iter().fold(0, |bits, kind| bits | kind.bit());
        let other_kinds =
            !self.over_kinds.is_empty() && bits(&self.over_kinds) != bits(&self.kinds);
        let other_measure = self.over_of.is_some_and(|of: Measure| of != self.of);
        if self.over.is_none() && !other_kinds && !other_measure {
            return Err(SpecError::NoDivisor(name()));
        }
        Ok(())
    }

    fn check_span(&self) -> Result<(), SpecError> {
        let longest = match self.window {
            Window::All => u16::MAX,
            Window::Days(days) => days,
        };
        let name = || self.name.clone();
        match (self.aggregate, self.span) {
            (Aggregate::MaxInDays, Some(span)) if (1..=longest).contains(&span) => Ok(()),
            (Aggregate::MaxInDays, _) => Err(SpecError::Span(name())),
            (_, Some(_)) => {
                Err(SpecError::Stray { name: name(), key: "span", aggregate: "max_in_days" })
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(keys: &str) -> Result<(), SpecError> {
        let json = format!(r#"[{{ "name": "odd", {keys} }}]"#);
        serde_json::from_str::<FeatureSpec>(&json).unwrap().check()
    }

    #[test]
    fn impossible_features_are_refused_by_name() {
        for (keys, message) in [
            (
                r#""aggregate": "distinct", "of": "amount""#,
                "`distinct` cannot be taken of `amount`",
            ),
            (r#""aggregate": "distinct""#, "`distinct` cannot be taken of `events`"),
            (r#""aggregate": "top_share", "of": "days""#, "`top_share` cannot be taken of `days`"),
            (r#""aggregate": "count", "of": "item""#, "`count` cannot be taken of `item`"),
            (r#""aggregate": "min", "of": "days""#, "`min` cannot be taken of `days`"),
            (r#""aggregate": "sum", "of": "channel""#, "`sum` cannot be taken of `channel`"),
            (
                r#""aggregate": "longest_streak", "of": "amount""#,
                "`longest_streak` cannot be taken of `amount`",
            ),
            (
                r#""aggregate": "max_per_month", "of": "rating""#,
                "`max_per_month` cannot be taken of `rating`",
            ),
            (
                r#""aggregate": "ratio", "of": "amount", "over_of": "category""#,
                "`ratio` cannot be taken of `category`",
            ),
            (r#""aggregate": "max_in_days""#, "`max_in_days` needs `span`"),
            (r#""aggregate": "max_in_days", "span": 0"#, "`max_in_days` needs `span`"),
            (
                r#""aggregate": "max_in_days", "span": 8, "window": "7d""#,
                "`max_in_days` needs `span`",
            ),
            (r#""aggregate": "count", "span": 7"#, "`span` belongs to `max_in_days` only"),
            (r#""aggregate": "ratio""#, "a ratio needs something else"),
            (r#""aggregate": "ratio", "over_kinds": ["purchase"]"#, "a ratio needs something else"),
            (r#""aggregate": "ratio", "over_of": "events""#, "a ratio needs something else"),
            (r#""aggregate": "ratio", "over": "all""#, "must be a window longer"),
            (
                r#""aggregate": "ratio", "window": "90d", "over": "90d", "over_of": "days""#,
                "must be a window longer",
            ),
            (r#""aggregate": "count", "over": "all""#, "`over` belongs to `ratio` only"),
            (
                r#""aggregate": "count", "over_kinds": ["cart"]"#,
                "`over_kinds` belongs to `ratio` only",
            ),
            (r#""aggregate": "count", "over_of": "days""#, "`over_of` belongs to `ratio` only"),
            (r#""aggregate": "count", "where": { "item": [" "] }"#, "`where.item` holds an empty"),
            (r#""aggregate": "count", "kinds": []"#, "names no kind"),
        ] {
            let error = checked(keys).unwrap_err().to_string();
            assert!(error.contains(message) && error.contains("`odd`"), "{keys}: {error}");
        }
    }

    #[test]
    fn possible_features_are_taken() {
        for keys in [
            r#""aggregate": "distinct", "of": "channel", "window": "90d""#,
            r#""aggregate": "max_in_days", "span": 7, "window": "7d", "of": "quantity""#,
            r#""aggregate": "max_in_days", "span": 65535"#,
            r#""aggregate": "ratio", "window": "30d", "over": "90d""#,
            r#""aggregate": "ratio", "kinds": ["refund"], "over_kinds": ["purchase"]"#,
            r#""aggregate": "ratio", "of": "discount", "over_of": "amount""#,
            r#""aggregate": "mean", "kinds": ["rating"], "of": "rating""#,
        ] {
            assert_eq!(checked(keys), Ok(()), "{keys}");
        }
    }
}
