//! Bands and tiers by frozen quantiles: what can be said of any customer base, however small.

use crate::domain::{Lifetime, Rfm};
use crate::matrix::quantile;
use serde::{Deserialize, Serialize};

/// A customer's tier by total spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// The top fifth of the training customers spent as much.
    A,
    /// The top half did.
    B,
    C,
}

impl Tier {
    /// All tiers, the best first.
    pub const ALL: [Tier; 3] = [Tier::A, Tier::B, Tier::C];

    /// Its letter.
    pub fn letter(self) -> &'static str {
        match self {
            Tier::A => "A",
            Tier::B => "B",
            Tier::C => "C",
        }
    }
}

/// The thresholds, learned from the training customers at the version's as-of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bands {
    /// Quintiles of the days since the last purchase.
    pub recency_days: [f64; 4],
    /// Quintiles of the days with a purchase.
    pub purchase_days: [f64; 4],
    /// Quintiles of the mean spend of a purchase day, in major currency units.
    pub mean_spend: [f64; 4],
    /// The total spend from which a customer is in tier B and in tier A, in major currency units.
    pub tier_spend: [f64; 2],
}

impl Bands {
    /// Learns the thresholds.
    pub fn of(lifetimes: &[Lifetime]) -> Bands {
        let sorted = |value: fn(&Lifetime) -> f64| {
            let mut values: Vec<f64> = lifetimes.iter().map(value).collect();
            values.sort_unstable_by(f64::total_cmp);
            values
        };
        let quintiles = |value| {
            let sorted = sorted(value);
            [0.2, 0.4, 0.6, 0.8].map(|q| if sorted.is_empty() { 0.0 } else { quantile(&sorted, q) })
        };
        let spend = sorted(|life| life.total_spend);
        Bands {
            recency_days: quintiles(|life| f64::from(life.days_since_last_purchase)),
            purchase_days: quintiles(|life| f64::from(life.purchase_days)),
            mean_spend: quintiles(Lifetime::mean_spend),
            tier_spend: [0.5, 0.8]
                .map(|q| if spend.is_empty() { 0.0 } else { quantile(&spend, q) }),
        }
    }

    /// The bands of a customer. Equal values share a band.
    pub fn rfm(&self, life: &Lifetime) -> Rfm {
        let above = |thresholds: &[f64; 4], value: f64| {
            thresholds.iter().filter(|&&threshold| value > threshold).count() as u8
        };
        let recency = 5 - above(&self.recency_days, f64::from(life.days_since_last_purchase));
        Rfm {
            // Who never bought did not buy of late either.
            recency: if life.purchase_days == 0 { 1 } else { recency },
            frequency: 1 + above(&self.purchase_days, f64::from(life.purchase_days)),
            monetary: 1 + above(&self.mean_spend, life.mean_spend()),
        }
    }

    /// The tier of a customer.
    pub fn tier(&self, life: &Lifetime) -> Tier {
        let [b, a] = self.tier_spend;
        // Who spent nothing is in no upper tier, even where nobody spent anything.
        let spent = |least: f64| life.total_spend >= least && life.total_spend > 0.0;
        if spent(a) {
            Tier::A
        } else if spent(b) {
            Tier::B
        } else {
            Tier::C
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(days_since: u32, purchase_days: u32, spend: f64) -> Lifetime {
        Lifetime {
            ln_gaps: 0.0,
            purchase_days,
            frequency: purchase_days - 1,
            recency_days: 0,
            age_days: days_since,
            days_since_last_purchase: days_since,
            total_spend: spend,
            monetary_value: 0.0,
            ..Lifetime::default()
        }
    }

    #[test]
    fn ten_customers_fill_bands_and_tiers() {
        let lives: Vec<Lifetime> =
            (1..=10).map(|n| life(10 * n, n, f64::from(n * n) * 10.0)).collect();
        let bands = Bands::of(&lives);
        let tiers: String = lives.iter().map(|life| bands.tier(life).letter()).collect();
        assert_eq!(tiers, "CCCCCBBBAA");
        let rfm: Vec<String> = lives.iter().map(|life| bands.rfm(life).to_string()).collect();
        assert_eq!([&rfm[0], &rfm[5], &rfm[9]], ["5-1-1", "3-3-3", "1-5-5"]);
    }

    #[test]
    fn one_customer_and_equal_ones_have_a_place_too() {
        let alone = life(3, 1, 5.0);
        let bands = Bands::of(&[alone]);
        assert_eq!((bands.tier(&alone), bands.rfm(&alone).to_string()), (Tier::A, "5-1-1".into()));
        assert_eq!(Bands::of(&[]).tier(&alone), Tier::A);
        assert_eq!(Bands::of(&[]).tier(&life(3, 1, 0.0)), Tier::C);
    }
}
