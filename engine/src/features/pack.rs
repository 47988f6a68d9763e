//! The features that serve a purchase log when the user names none.

use super::{Aggregate, Feature, FeatureSpec, Measure, Transform, Window};
use crate::domain::{EventKind, Inactivity};

/// Eleven features of recency, frequency, money, rhythm and trend. Money and counts are skewed, so
/// they pass through a logarithm; outliers are clamped so that no single customer sets the scale.
pub fn purchases() -> FeatureSpec {
    use Aggregate::{
        Count, DaysSinceFirst, DaysSinceLast, GapMean, GapVariation, Max, Mean, Ratio, Std, Sum,
    };
    use Measure::{Amount, Days, Events};
    let year = Some(Window::Days(365));
    let quarter = Window::Days(90);
    FeatureSpec(vec![
        feature("days_since_last", DaysSinceLast, Events, Window::All, None, false),
        feature("days_since_first", DaysSinceFirst, Events, Window::All, None, false),
        feature("purchase_days", Count, Days, Window::All, None, true),
        feature("spend_total", Sum, Amount, Window::All, None, true),
        feature("spend_mean", Mean, Amount, Window::All, None, true),
        feature("spend_max", Max, Amount, Window::All, None, true),
        feature("spend_std", Std, Amount, Window::All, None, true),
        feature("gap_mean", GapMean, Events, Window::All, None, true),
        feature("gap_variation", GapVariation, Events, Window::All, None, false),
        feature("purchase_days_90d", Count, Days, quarter, None, true),
        // Nothing bought within the year is nothing recent; the usual share would call it active.
        Feature { impute: Some(0.0), ..feature("recent_share", Ratio, Days, quarter, year, false) },
    ])
}

/// What a regression needs to tell inactivity, but for those features that `spec` computes already: the
/// days since the last activity, on how many of as many days as churn takes there was any, and the
/// usual gap between them.
pub fn inputs_of_activity(spec: &FeatureSpec, inactivity: &Inactivity) -> Vec<Feature> {
    use Aggregate::{Count, DaysSinceLast, GapMean};
    use Measure::{Days, Events};
    let kinds = Vec::<EventKind>::from(inactivity.activity);
    // Longer windows than a window can be long are the whole history.
    let lately = u16::try_from(inactivity.days).map_or(Window::All, Window::Days);
    let inputs = [
        feature("days_since_activity", DaysSinceLast, Events, Window::All, None, true),
        feature("active_days_lately", Count, Days, lately, None, true),
        feature("activity_gap_mean", GapMean, Events, Window::All, None, true),
    ];
    let of_activity = inputs.map(|feature| Feature { kinds: kinds.clone(), ..feature });
    let is_computed = |feature: &Feature| {
        spec.0.iter().any(|known| {
            let same_kinds = kinds.iter().all(|kind| known.kinds.contains(kind))
                && known.kinds.iter().all(|kind| kinds.contains(kind));
            let known = (known.aggregate, known.of, known.window, known.filter.is_empty());
            same_kinds && known == (feature.aggregate, feature.of, feature.window, true)
        })
    };
    of_activity.into_iter().filter(|feature| !is_computed(feature)).collect()
}

fn feature(
    name: &str,
    aggregate: Aggregate,
    of: Measure,
    window: Window,
    over: Option<Window>,
    skewed: bool,
) -> Feature {
    let mut transform = vec![Transform::Winsorize, Transform::Standardize];
    if skewed {
        transform.insert(0, Transform::Log1p);
    }
    Feature { of, window, over, transform, ..Feature::named(name, aggregate) }
}
