//! First names for segments, in words a marketer would use. Users may rename; ids never change.

use super::Profile;

/// A name per profile: loyalty, worth and recency. Names that are equal, or `taken`, get a number.
pub fn names(profiles: &[Profile], everybody: &Profile, taken: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for profile in profiles {
        let base = name(profile, everybody);
        let numbered = (2..).map(|number| format!("{base} ({number})"));
        let mut candidates = std::iter::once(base.clone()).chain(numbered);
        let free = candidates.find(|name| !taken.contains(name) && !names.contains(name));
        names.push(free.unwrap_or(base));
    }
    names
}

fn name(profile: &Profile, everybody: &Profile) -> String {
    if profile.median_purchase_days == 0.0 && profile.share_of_spend == 0.0 {
        return "Without purchases".to_owned();
    }
    let loyalty = grade(
        profile.median_purchase_days,
        &[(2.0, "One-time"), (3.5, "Occasional"), (6.5, "Repeat"), (f64::INFINITY, "Frequent")],
    );
    let worth = grade(
        ratio(profile.share_of_spend, profile.share_of_customers),
        &[
            (0.67, "low value"),
            (1.5, "medium value"),
            (3.0, "high value"),
            (f64::INFINITY, "top value"),
        ],
    );
    let usual = everybody.median_days_since_last_purchase;
    let recency = grade(
        ratio(profile.median_days_since_last_purchase, usual),
        &[(0.2, "active"), (0.67, "recent"), (1.33, "cooling"), (f64::INFINITY, "lapsed")],
    );
    format!("{loyalty}, {worth}, {recency}")
}

/// The word of the first bound that the value stays below.
fn grade(value: f64, words: &[(f64, &'static str)]) -> &'static str {
    words.iter().find(|(bound, _)| value < *bound).or(words.last()).map_or("", |(_, word)| word)
}

/// Against the whole customer base; as usual where the base has none.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 1.0 }
}
