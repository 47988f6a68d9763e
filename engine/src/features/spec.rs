//! What features are wanted, as a user writes it.

use super::{Aggregate, Measure, Window};
use crate::domain::EventKind;
use serde::{Deserialize, Serialize};

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
    /// Which of these events count, and which of their lines; written `where`.
    #[serde(default, rename = "where", skip_serializing_if = "Filter::is_empty")]
    pub filter: Filter,
    pub aggregate: Aggregate,
    /// What is aggregated; `events` where left out.
    #[serde(default)]
    pub of: Measure,
    /// The window; the whole history where left out.
    #[serde(default)]
    pub window: Window,
    /// The longer window that a `ratio` divides by; its own where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Window>,
    /// The kinds that a `ratio` divides by; its own where left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over_kinds: Vec<EventKind>,
    /// The measure that a `ratio` divides by; its own where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_of: Option<Measure>,
    /// The consecutive days that `max_in_days` looks at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<u16>,
    /// The attribute of the customers file that `attribute` and `one_hot` look at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
    /// The category that an `attribute` is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Stands in for an undefined value before transforms; the median of the defined ones where left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impute: Option<f64>,
    /// Applied in this order before a model sees the value; `standardize` where left out.
    #[serde(default = "standardize_only")]
    pub transform: Vec<Transform>,
}

/// The events that count, by their texts. An empty list lets everything pass.
///
/// Items and categories are asked of lines: an event passes where at least one of its lines has
/// both an item and a category that are named, and its amount, quantity and discount are then those
/// of the lines that pass. An event that carries no text does not pass a list of texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub item: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub category: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channel: Vec<String>,
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

fn purchases_only() -> Vec<EventKind> {
    vec![EventKind::Purchase]
}

fn standardize_only() -> Vec<Transform> {
    vec![Transform::Standardize]
}

impl FeatureSpec {
    /// The columns' names.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|feature| feature.name.clone()).collect()
    }
}

impl Feature {
    /// What a configuration with nothing but a name and an aggregate means: of all purchases, of
    /// their number, over the whole history.
    pub fn named(name: &str, aggregate: Aggregate) -> Feature {
        Feature {
            name: name.to_owned(),
            kinds: purchases_only(),
            filter: Filter::default(),
            aggregate,
            of: Measure::default(),
            window: Window::default(),
            over: None,
            over_kinds: Vec::new(),
            over_of: None,
            span: None,
            attribute: None,
            value: None,
            impute: None,
            transform: standardize_only(),
        }
    }

    /// The optional columns of a log without which it says nothing, by their names in
    /// `data.columns`: some of `category`, `channel`, `discount`, `item`, `quantity` and `rating`,
    /// in this order.
    pub fn columns(&self) -> Vec<&'static str> {
        let filtered = self.filter.lists().into_iter().filter(|(_, texts)| !texts.is_empty());
        let mut columns: Vec<&'static str> = self
            .of
            .column()
            .into_iter()
            .chain(self.over_of.and_then(Measure::column))
            .chain(filtered.map(|(column, _)| column))
            .collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }
}

impl Filter {
    /// Whether everything passes.
    pub fn is_empty(&self) -> bool {
        self.lists().iter().all(|(_, texts)| texts.is_empty())
    }

    /// Its lists with the columns that they are asked of.
    pub(super) fn lists(&self) -> [(&'static str, &[String]); 3] {
        [
            ("item", self.item.as_slice()),
            ("category", self.category.as_slice()),
            ("channel", self.channel.as_slice()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Feature {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_name_and_an_aggregate_are_enough() {
        let feature = read(r#"{ "name": "orders", "aggregate": "count" }"#);
        assert_eq!(feature, Feature::named("orders", Aggregate::Count));
    }

    #[test]
    fn what_is_left_out_is_not_written() {
        let json = serde_json::to_string(&Feature::named("orders", Aggregate::Count)).unwrap();
        let old = concat!(
            r#"{"name":"orders","kinds":["purchase"],"aggregate":"count","of":"events","#,
            r#""window":"all","transform":["standardize"]}"#
        );
        assert_eq!(json, old);
    }

    #[test]
    fn all_keys_survive_writing_and_reading() {
        let feature = Feature {
            filter: Filter { category: vec!["books".into()], ..Filter::default() },
            over: Some(Window::All),
            over_kinds: vec![EventKind::Cart],
            over_of: Some(Measure::Quantity),
            span: Some(7),
            impute: Some(0.5),
            window: Window::Days(30),
            ..Feature::named("odd", Aggregate::Ratio)
        };
        let json = serde_json::to_string(&feature).unwrap();
        assert!(json.contains(r#""where":{"category":["books"]}"#), "{json}");
        assert_eq!(read(&json), feature);
    }

    #[test]
    fn unknown_keys_are_refused() {
        for json in [
            r#"{ "name": "a", "aggregate": "count", "filter": {} }"#,
            r#"{ "name": "a", "aggregate": "count", "where": { "shop": ["x"] } }"#,
        ] {
            assert!(serde_json::from_str::<Feature>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_feature_knows_its_columns() {
        let json = r#"{ "name": "a", "aggregate": "ratio", "of": "discount", "over_of": "quantity",
            "where": { "item": ["x"], "channel": ["web"] } }"#;
        assert_eq!(read(json).columns(), ["channel", "discount", "item", "quantity"]);
        let twice = r#"{ "name": "a", "aggregate": "distinct", "of": "item",
            "where": { "item": ["x"] } }"#;
        assert_eq!(read(twice).columns(), ["item"]);
        assert!(Feature::named("orders", Aggregate::Count).columns().is_empty());
    }
}
