//! What the regressions of a blend see of a customer. Times are in units of the days that are asked
//! about, so that what was learned of a short window holds for a longer one.

use super::experts::Views;
use crate::domain::Lifetime;
use libm::log;

pub const N_INPUTS: usize = 18;

/// The inputs, in their order. Features that are not about purchases follow them.
pub const NAMES: [&str; N_INPUTS] = [
    "days_since_last_purchase",
    "days_since_first_purchase",
    "share_of_life_since_last_purchase",
    "purchase_days",
    "bought_once",
    "gaps_since_last_purchase",
    "last_gaps_since_last_purchase",
    "purchase_days_in_last_quarter_of_life",
    "purchase_days_in_last_half_of_life",
    "mean_spend",
    "total_spend",
    "expected_spend_of_purchase",
    "p_no_purchase_nbd",
    "p_no_purchase_mbg_nbd",
    "p_no_purchase_pareto_nbd",
    "expected_purchases_nbd",
    "expected_purchases_mbg_nbd",
    "expected_purchases_pareto_nbd",
];

/// Probabilities are told apart up to here.
const LEAST_PROBABILITY: f64 = 1e-4;

/// Expected purchases below which nothing is told apart.
const LEAST_PURCHASES: f64 = 1e-3;

/// The inputs of one customer in units that people know: days, ratios, counts, amounts in major
/// currency units, probabilities.
pub fn plain(lifetime: &Lifetime, views: &Views) -> [f64; N_INPUTS] {
    let (recency, age) =
        (f64::from(lifetime.days_since_last_purchase), f64::from(lifetime.age_days));
    let repeats = f64::from(lifetime.frequency);
    let gap = f64::from(lifetime.recency_days) / repeats.max(1.0);
    [
        recency,
        age,
        (recency + 1.0) / (age + 1.0),
        f64::from(lifetime.purchase_days),
        f64::from(u8::from(lifetime.frequency == 0)),
        // Of somebody who came once there is no gap, and nothing is told.
        if lifetime.frequency == 0 { 1.0 } else { (recency + 1.0) / gap.max(1.0) },
        if lifetime.frequency == 0 {
            1.0
        } else {
            (recency + 1.0) / f64::from(lifetime.last_gap_days.max(1))
        },
        f64::from(lifetime.in_last_quarter),
        f64::from(lifetime.in_last_half),
        lifetime.mean_spend(),
        lifetime.total_spend,
        views.spend,
        views.nbd.p_no_purchase,
        views.mbg_nbd.p_no_purchase,
        views.pareto_nbd.p_no_purchase,
        views.nbd.expected_purchases,
        views.mbg_nbd.expected_purchases,
        views.pareto_nbd.expected_purchases,
    ]
}

/// The same on scales that are straight: logarithms, and log-odds of probabilities. `least_spend` is
/// what stands for smaller amounts, whose logarithms would be far from all others.
pub fn inputs(lifetime: &Lifetime, views: &Views, days: u32, least_spend: f64) -> [f64; N_INPUTS] {
    straight(plain(lifetime, views), days, least_spend)
}

/// What [`inputs`] makes of plain ones.
pub fn straight(mut all: [f64; N_INPUTS], days: u32, least_spend: f64) -> [f64; N_INPUTS] {
    let window = f64::from(days.max(1));
    for (place, value) in all.iter_mut().enumerate() {
        *value = match place {
            // What was bought on the as-of itself is not infinitely recent.
            0 | 1 => log((*value + 1.0) / window),
            3 => log(value.max(1.0)),
            5 | 6 => log(*value),
            7 | 8 => log(*value + 0.5),
            9..=11 => log(value.max(least_spend)),
            12..=14 => log_odds(*value),
            15..=17 => log(*value + LEAST_PURCHASES),
            _ => *value,
        };
        if !value.is_finite() {
            *value = 0.0;
        }
    }
    all
}

/// The log-odds of a probability, kept from those that nobody knows so well.
pub fn log_odds(probability: f64) -> f64 {
    let p = probability.clamp(LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY);
    log(p / (1.0 - p))
}
