//! How much more, or less, is bought in some months than in others.

use super::purchases::Purchases;
use crate::domain::{Day, Lifetime};
use serde::{Deserialize, Serialize};

/// Purchases that each month is taken to have had besides, as many as were expected: what little is
/// known of a month draws its factor towards 1.
const PRIOR: f64 = 20.0;

/// The rate of purchases in each calendar month as a multiple of what a model without seasons
/// expects. Over the days that the model was fitted to the multiples are 1 on average, which is the
/// level of the model.
///
/// Time runs faster in a month in which more is bought: days are worth so many average days, those
/// that a customer has lived as well as those to come. So P(no purchase) and counts move together,
/// and stay what the model says of some horizon.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Season {
    /// From January, `(12,)`, all positive.
    pub by_month: [f64; 12],
}

impl Season {
    /// The factors by which purchases in each month exceed those that were expected in it. Both are
    /// sums over at least one full year.
    pub fn of(actual: &[f64; 12], expected: &[f64; 12]) -> Season {
        let total: f64 = expected.iter().sum();
        let all = actual.iter().sum::<f64>() / total;
        let factor = |month: usize| {
            // The level is the model's own affair.
            let expected = all * expected[month];
            (actual[month] + PRIOR) / (expected + PRIOR)
        };
        Season { by_month: std::array::from_fn(factor) }
    }

    /// True for factors by which time can run.
    pub fn check(&self) -> bool {
        self.by_month.iter().all(|factor| factor.is_finite() && *factor > 0.0)
    }

    /// A customer's purchases up to `as_of`, in average days. The gaps stay as they are: no answer and
    /// no parameter depends on them.
    pub fn lived(&self, lifetime: &Lifetime, as_of: Day) -> Purchases {
        let days = |days: u32| i32::try_from(days).unwrap_or(i32::MAX);
        let first = as_of.plus(-days(lifetime.age_days));
        let recency = self.worth(first, lifetime.recency_days);
        let rest = lifetime.age_days.saturating_sub(lifetime.recency_days);
        let last = first.plus(days(lifetime.recency_days));
        // A sum of both keeps t_x within T, whatever rounding does.
        let age = recency + self.worth(last, rest);
        Purchases { recency, age, ..Purchases::from(lifetime) }
    }

    /// What the `days` days after `after` are worth, in average days.
    pub fn worth(&self, after: Day, days: u32) -> f64 {
        let last = after.plus(days.min(i32::MAX as u32) as i32);
        let (mut day, mut worth) = (after.plus(1), 0.0);
        let mut month = day.month();
        let mut end = Day::first_of(month + 1);
        while day <= last {
            let next = end.min(last.plus(1));
            // Months are counted from March.
            let factor = self.by_month[(month + 2).rem_euclid(12) as usize];
            worth += factor * f64::from(next.since(day));
            // At the end of all days there is no next one.
            if next <= day {
                break;
            }
            (day, month) = (next, month + 1);
            end = next.plus(Day::days_of(month));
        }
        worth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_is_worth_about_itself_and_a_month_its_factor() {
        let mut actual = [100.0; 12];
        actual[11] = 300.0;
        let season = Season::of(&actual, &[50.0; 12]);
        assert!((season.by_month.iter().sum::<f64>() - 12.0).abs() < 0.5, "{season:?}");
        assert!(season.by_month[11] > 2.0 && season.by_month[0] < 1.0 && season.check());
        // 1970 ends with a December of 31 days.
        let december = season.worth(Day(333), 31);
        assert!((december - 31.0 * season.by_month[11]).abs() < 1e-9, "{december}");
        let by_day: f64 =
            (1..=400).map(|day| season.by_month[Day(100 + day).month_of_year()]).sum();
        assert!((season.worth(Day(100), 400) - by_day).abs() < 1e-9);
        assert_eq!(season.worth(Day(0), 0), 0.0);
    }

    #[test]
    fn a_life_is_worth_what_its_days_are() {
        let season =
            Season::of(&std::array::from_fn(|month| 40.0 + 20.0 * month as f64), &[99.0; 12]);
        let life = |purchase_days, recency_days, age_days| Lifetime {
            purchase_days,
            frequency: purchase_days - 1,
            recency_days,
            age_days,
            days_since_last_purchase: age_days - recency_days,
            ln_gaps: 0.0,
            total_spend: 1.0,
            monetary_value: 0.0,
            ..Lifetime::default()
        };
        for (n, recency, age) in [(1, 0, 0), (1, 0, 700), (4, 1, 1), (4, 300, 301), (9, 800, 900)] {
            let lived = season.lived(&life(n, recency, age), Day(1_000));
            assert!(lived.check(), "{lived:?}");
            let whole = season.worth(Day(1_000 - age as i32), age);
            assert!((lived.age - whole).abs() < 1e-9, "{lived:?} {whole}");
        }
    }

    #[test]
    fn equal_months_have_no_season() {
        let season = Season::of(&[7.0; 12], &[3.5; 12]);
        assert!(season.by_month.iter().all(|factor| (factor - 1.0).abs() < 1e-12));
        assert!((season.worth(Day(5), 77) - 77.0).abs() < 1e-9);
    }
}
