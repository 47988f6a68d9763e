//! Two versions side by side.

use super::table::{Table, number, percent};
use super::version::churn_meaning;
use crate::registry::Artefact;
use habitus_engine::training::Evaluation;
use serde::Serialize;
use std::fmt;

/// What changed from version `a` to version `b`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionDiff {
    pub versions: [String; 2],
    pub as_ofs: [String; 2],
    pub customers: [u64; 2],
    /// What churn is in each, as a phrase; metrics of churn can be compared where it is the same.
    pub churn_is: [String; 2],
    /// Of the served models, measured at each version's own last cut-off.
    pub metrics: Vec<MetricChange>,
    pub segments: Vec<SegmentChange>,
    /// Features that both have, the one that moved most first.
    pub features: Vec<FeatureChange>,
}

/// One metric of both versions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricChange {
    pub head: &'static str,
    pub metric: &'static str,
    pub a: Option<f64>,
    pub b: Option<f64>,
}

/// One segment of either version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentChange {
    pub id: String,
    pub name: String,
    /// Share of the customers, in `[0, 1]`; absent where the version lacks the segment.
    pub a: Option<f64>,
    pub b: Option<f64>,
}

/// How far a feature moved between the two training windows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeatureChange {
    pub name: String,
    pub median_a: Option<f64>,
    pub median_b: Option<f64>,
    /// The largest difference of the cumulative shares, in `[0, 1]`.
    pub distance: f64,
}

impl VersionDiff {
    /// Compares two versions. What stands in a metrics file that was lost is absent.
    pub fn of(a: &Artefact, b: &Artefact) -> VersionDiff {
        let both = [a, b];
        let evaluations = both
            .map(|artefact| serde_json::from_value::<Evaluation>(artefact.metrics.clone()).ok());
        VersionDiff {
            versions: both.map(|each| format!("{}@{}", each.manifest.name, each.manifest.version)),
            as_ofs: both.map(|each| each.manifest.sealed.as_of.day.to_string()),
            customers: both.map(|each| each.manifest.sealed.population.n_customers),
            churn_is: both.map(|each| churn_meaning(each.version.churn_is)),
            metrics: metrics(&evaluations),
            segments: segments(both),
            features: features(&evaluations),
        }
    }
}

fn metrics(evaluations: &[Option<Evaluation>; 2]) -> Vec<MetricChange> {
    type Read = fn(&Evaluation) -> Option<f64>;
    let read: [(&'static str, &'static str, Read); 7] = [
        ("churn", "AUC", |e| churn(e)?.auc),
        ("churn", "Brier", |e| Some(churn(e)?.brier)),
        ("churn", "log loss", |e| Some(churn(e)?.log_loss)),
        ("churn", "ECE", |e| Some(churn(e)?.ece)),
        ("value", "normalised Gini", |e| value(e)?.normalised_gini),
        ("value", "MAE", |e| Some(value(e)?.mae)),
        ("value", "total ratio", |e| value(e)?.total_ratio),
    ];
    let change = |(head, metric, read): (&'static str, &'static str, Read)| {
        let [a, b] = evaluations.each_ref().map(|evaluation| read(evaluation.as_ref()?));
        MetricChange { head, metric, a, b }
    };
    read.into_iter().map(change).collect()
}

fn churn(evaluation: &Evaluation) -> Option<&habitus_engine::training::ChurnMetrics> {
    evaluation.churn.iter().find(|trial| trial.chosen)?.holdout.as_ref()
}

fn value(evaluation: &Evaluation) -> Option<&habitus_engine::training::ValueMetrics> {
    evaluation.value.iter().find(|trial| trial.chosen)?.holdout.as_ref()
}

fn segments([a, b]: [&Artefact; 2]) -> Vec<SegmentChange> {
    let share_in = |artefact: &Artefact, id: &str| {
        let segment = artefact.version.segment.catalogue.iter().find(|s| s.id.0 == id);
        segment.map(|segment| segment.profile.share_of_customers)
    };
    let newer = b.version.segment.catalogue.iter();
    let gone = a.version.segment.catalogue.iter().filter(|s| share_in(b, &s.id.0).is_none());
    let change = |segment: &habitus_engine::segments::Segment| SegmentChange {
        id: segment.id.to_string(),
        name: segment.name.clone(),
        a: share_in(a, &segment.id.0),
        b: share_in(b, &segment.id.0),
    };
    newer.chain(gone).map(change).collect()
}

fn features(evaluations: &[Option<Evaluation>; 2]) -> Vec<FeatureChange> {
    let [Some(a), Some(b)] = evaluations else { return Vec::new() };
    let median = |quantiles: &[f64]| quantiles.get(quantiles.len() / 2).copied();
    let mut changes: Vec<FeatureChange> = b
        .features
        .iter()
        .filter_map(|new| {
            let old = a.features.iter().find(|old| old.name == new.name)?;
            Some(FeatureChange {
                name: new.name.clone(),
                median_a: median(&old.quantiles),
                median_b: median(&new.quantiles),
                distance: old.distance(new),
            })
        })
        .collect();
    changes.sort_by(|x, y| y.distance.total_cmp(&x.distance).then_with(|| x.name.cmp(&y.name)));
    changes
}

impl fmt::Display for VersionDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["", "A", "B"]);
        let [a, b] = &self.versions;
        table.row(vec!["version".to_owned(), a.clone(), b.clone()]);
        let [a, b] = &self.as_ofs;
        table.row(vec!["as of".to_owned(), a.clone(), b.clone()]);
        let [a, b] = self.customers.map(|customers| customers.to_string());
        table.row(vec!["customers".to_owned(), a, b]);
        let [a, b] = &self.churn_is;
        table.row(vec!["churn is".to_owned(), a.clone(), b.clone()]);
        writeln!(f, "{table}")?;
        let difference = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| b - a);
        let mut table = Table::new(&["head", "metric", "A", "B", "B - A"]);
        for MetricChange { head, metric, a, b } in &self.metrics {
            // Of two meanings of churn the difference would say nothing.
            let [of_a, of_b] = &self.churn_is;
            let is_told = *head != "churn" || of_a == of_b;
            let change = number(difference(*a, *b).filter(|_| is_told), 4);
            let cells = [(*head).to_owned(), (*metric).to_owned(), number(*a, 4), number(*b, 4)];
            table.row(cells.into_iter().chain([change]).collect());
        }
        writeln!(f, "{table}")?;
        let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), percent);
        let mut table = Table::new(&["segment", "name", "A", "B"]);
        for SegmentChange { id, name, a, b } in &self.segments {
            table.row(vec![id.clone(), name.clone(), share(*a), share(*b)]);
        }
        writeln!(f, "{table}")?;
        let mut table = Table::new(&["feature", "median A", "median B", "distance"]);
        for change in &self.features {
            table.row(vec![
                change.name.clone(),
                number(change.median_a, 3),
                number(change.median_b, 3),
                number(Some(change.distance), 3),
            ]);
        }
        write!(f, "{table}")
    }
}
