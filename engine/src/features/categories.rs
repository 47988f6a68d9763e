//! From `one_hot` to one column per category.

use super::{Aggregate, Feature, FeatureSpec};
use crate::domain::History;
use std::collections::BTreeMap;

/// Categories that become columns; rarer ones are 0 in all of them.
const MOST_CATEGORIES: usize = 20;

/// How often each category of some attributes came.
#[derive(Debug, Clone, Default)]
pub struct Categories(BTreeMap<String, BTreeMap<String, u64>>);

impl Categories {
    /// The categories that a spec asks for, none of them seen yet.
    pub fn of(spec: &FeatureSpec) -> Categories {
        let one_hot = spec.0.iter().filter(|feature| feature.aggregate == Aggregate::OneHot);
        let names = one_hot.filter_map(|feature| feature.attribute.clone());
        Categories(names.map(|name| (name, BTreeMap::new())).collect())
    }

    /// Whether there is nothing to see.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sees customers, in any order. Those who opted out are not learned from.
    pub fn see(&mut self, histories: &[History]) {
        if self.is_empty() {
            return;
        }
        for history in histories.iter().filter(|history| !history.opted_out()) {
            let Some(attributes) = history.attributes() else { continue };
            for (name, counts) in &mut self.0 {
                if let Some(category) = attributes.category(name) {
                    match counts.get_mut(category) {
                        Some(count) => *count += 1,
                        None => drop(counts.insert(category.to_owned(), 1)),
                    }
                }
            }
        }
    }

    /// The commonest of an attribute, ties by text, in the order of their texts.
    fn commonest(&self, name: &str) -> Vec<&String> {
        let mut counts: Vec<(&String, &u64)> = self.0.get(name).into_iter().flatten().collect();
        counts.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
        counts.truncate(MOST_CATEGORIES);
        let mut texts: Vec<&String> = counts.into_iter().map(|(text, _)| text).collect();
        texts.sort_unstable();
        texts
    }
}

impl FeatureSpec {
    /// The spec with a column per category in the place of each `one_hot`.
    pub fn resolved(&self, categories: &Categories) -> FeatureSpec {
        let columns = |feature: &Feature| -> Vec<Feature> {
            let Some(attribute) = feature.attribute.as_ref() else { return vec![feature.clone()] };
            if feature.aggregate != Aggregate::OneHot {
                return vec![feature.clone()];
            }
            let column = |category: &String| Feature {
                name: format!("{}={category}", feature.name),
                aggregate: Aggregate::Attribute,
                value: Some(category.clone()),
                // A category that is not told is none of these.
                impute: feature.impute.or(Some(0.0)),
                ..feature.clone()
            };
            categories.commonest(attribute).into_iter().map(column).collect()
        };
        FeatureSpec(self.0.iter().flat_map(columns).collect())
    }

    /// These features' names, with those of its columns in the place of a `one_hot`'s.
    pub fn resolved_names(&self, names: &[String], resolved: &FeatureSpec) -> Vec<String> {
        let columns = |name: &String| -> Vec<String> {
            let one_hot = |feature: &&Feature| {
                feature.name == *name && feature.aggregate == Aggregate::OneHot
            };
            if self.0.iter().find(one_hot).is_none() {
                return vec![name.clone()];
            }
            let prefix = format!("{name}=");
            resolved.names().into_iter().filter(|column| column.starts_with(&prefix)).collect()
        };
        names.iter().flat_map(columns).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AttributeValue, Attributes, CustomerId};
    use std::sync::Arc;

    #[test]
    fn each_category_of_the_training_customers_is_a_column() {
        let spec = FeatureSpec(vec![
            Feature::named("n", Aggregate::Count),
            Feature { attribute: Some("plan".into()), ..Feature::named("plan", Aggregate::OneHot) },
        ]);
        let names: Arc<[String]> = vec!["plan".to_owned()].into();
        let customer = |plan: &str| {
            let value = Some(AttributeValue::Category(plan.into()));
            let attributes = Attributes::new(Arc::clone(&names), vec![value]);
            History::new(CustomerId::new("c"), Vec::new()).with_attributes(Some(attributes))
        };
        let mut categories = Categories::of(&spec);
        categories.see(&["pro", "basic", "pro"].map(customer));
        let resolved = spec.resolved(&categories);
        assert_eq!(resolved.names(), ["n", "plan=basic", "plan=pro"]);
        assert_eq!(resolved.check(), Ok(()));
        let asked = ["plan".to_owned(), "n".to_owned()];
        let columns = spec.resolved_names(&asked, &resolved);
        assert_eq!(columns, ["plan=basic", "plan=pro", "n"]);
    }
}
