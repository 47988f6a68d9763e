//! The features that serve a purchase log when the user names none.

use super::{Aggregate, Feature, FeatureSpec, Measure, Transform, Window};

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
