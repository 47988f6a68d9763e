//! How a customer's rate rises and falls: with the season, and after campaigns.
//!
//! Instants are found by thinning (Lewis & Shedler 1979, "Simulation of Nonhomogeneous Poisson
//! Processes by Thinning", *Naval Research Logistics Quarterly* 26(3)): candidates come at the
//! highest rate, and each is kept with the share that its own rate has of it.

use super::Shop;
use crate::domain::Draws;
use std::f64::consts::TAU;

/// Days of a year, leap years averaged in. The season's peak wanders by a day or two around its
/// calendar day.
pub(super) const MEAN_YEAR_DAYS: f64 = 365.2425;

/// What moves a customer's rates. Instants are in days since the start of the span.
pub(super) struct Pace<'a> {
    shop: &'a Shop,
    /// When campaigns reached the customer, in order.
    contacts: &'a [f64],
}

impl<'a> Pace<'a> {
    pub(super) fn new(shop: &'a Shop, contacts: &'a [f64]) -> Pace<'a> {
        Pace { shop, contacts }
    }

    /// The next instant after `after` and before `end` of a process with this mean rate per day.
    pub(super) fn next(&self, draws: &mut Draws, rate: f64, after: f64, end: f64) -> Option<f64> {
        let highest = (1.0 + self.shop.season_amplitude) * (1.0 + self.shop.campaign_uplift);
        let mut at = after;
        loop {
            // A rate of zero makes the wait infinite.
            at += draws.exponential() / (rate * highest);
            if at >= end {
                return None;
            }
            if draws.chance(self.season(at) * self.uplift(at) / highest) {
                return Some(at);
            }
        }
    }

    /// The season's factor: a cosine wave with mean 1 over a year.
    fn season(&self, at: f64) -> f64 {
        // The first of January 1970 is day 0 here and day 1 of its year; the peak is at noon.
        let peak = f64::from(self.shop.season_peak_day) - 0.5;
        let phase = (f64::from(self.shop.start.0) + at - peak) / MEAN_YEAR_DAYS;
        1.0 + self.shop.season_amplitude * libm::cos(TAU * phase)
    }

    /// The campaigns' factor: above 1 for some days after a contact.
    fn uplift(&self, at: f64) -> f64 {
        let reached = self.contacts.partition_point(|&contact| contact <= at);
        match self.contacts[..reached].last() {
            Some(contact) if at - contact < self.shop.campaign_days => {
                1.0 + self.shop.campaign_uplift
            }
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Day, Seed};

    #[test]
    fn the_season_peaks_in_december_and_is_one_on_average() {
        let shop = Shop { start: Day(18_262), season_amplitude: 0.5, ..Shop::default() };
        let pace = Pace::new(&shop, &[]);
        let days: Vec<f64> = (0..366).map(|day| pace.season(f64::from(day) + 0.5)).collect();
        let highest = (0..366).max_by(|&a, &b| days[a].total_cmp(&days[b])).unwrap();
        assert!((347..=351).contains(&highest), "{highest}");
        assert!((days.iter().sum::<f64>() / 366.0 - 1.0).abs() < 0.01);
    }

    #[test]
    fn a_contact_raises_the_rate_for_its_days_only() {
        let shop = Shop { campaign_days: 5.0, campaign_uplift: 1.0, ..Shop::default() };
        let pace = Pace::new(&shop, &[10.0, 12.0]);
        let factors = [9.9, 10.0, 14.9, 16.9, 17.1].map(|at| pace.uplift(at));
        assert_eq!(factors, [1.0, 2.0, 2.0, 2.0, 1.0]);
    }

    #[test]
    fn instants_come_at_their_rate_and_stop_at_the_end() {
        let shop = Shop { season_amplitude: 0.0, campaign_uplift: 0.0, ..Shop::default() };
        let pace = Pace::new(&shop, &[]);
        let mut draws = Draws::new(Seed(3));
        assert_eq!(pace.next(&mut draws, 0.0, 0.0, 1e9), None);
        let (mut at, mut count) = (0.0, 0);
        while let Some(next) = pace.next(&mut draws, 2.0, at, 5_000.0) {
            assert!(next > at && next < 5_000.0);
            (at, count) = (next, count + 1);
        }
        assert!((9_500..10_500).contains(&count), "{count}");
    }
}
