//! The BG/NBD family: customers buy at gamma distributed rates, and each purchase is the last one
//! with a beta distributed probability.
//!
//! BG/NBD (Fader, Hardie & Lee 2005, "Counting Your Customers the Easy Way", *Marketing Science*
//! 24(2)): drop-out is possible after each repeat purchase. Modified (MBG/NBD; Batislam, Denizel &
//! Filiztekin 2007, *International Journal of Research in Marketing* 24(3)): after the first
//! purchase, too. (M)BG/CNBD-k (Reutterer, Platzer & Schröder 2021, "Leveraging Purchase Regularity
//! for Predicting Customer Behavior the Easy Way", *International Journal of Research in Marketing*
//! 38(1)): each k-th event of a Poisson process is a purchase, so that purchases are more regular.

mod fit;
mod future;
mod likelihood;

use super::nbd::{NOBODY, bounded, rising};
use super::purchases::Purchases;
pub(super) use likelihood::Likelihood;
use serde::{Deserialize, Serialize};

/// A model of the BG/NBD family. Its answers are in the unit of time of `alpha`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BetaGeometric {
    /// Customers' rates of events are gamma(r, alpha) distributed.
    pub r: f64,
    /// In units of time.
    pub alpha: f64,
    /// Customers' probabilities to drop out after a purchase are beta(a, b) distributed.
    pub a: f64,
    pub b: f64,
    /// Events per purchase, 1 to 3.
    pub k: u32,
    /// Whether customers can drop out after their first purchase.
    pub modified: bool,
}

/// What is known about a customer at T. If they are alive and j events have happened since their
/// last purchase, their rate is gamma(n + j, rate) and their drop-out beta(a, stayed) distributed.
struct State {
    n: f64,
    rate: f64,
    stayed: f64,
    /// T - t_x.
    idle: f64,
    /// Σ_j<k (n)_j / j! (idle / rate)^j: the weight of being alive, by events since the last
    /// purchase.
    alive: f64,
    /// Logarithm of the weight of having dropped out at the last purchase; -∞ where nobody can.
    ln_dead: f64,
    p_alive: f64,
}

impl BetaGeometric {
    /// True for finite, positive parameters and a known k, without which no answer is defined.
    pub fn check(&self) -> bool {
        let parameters = [self.r, self.alpha, self.a, self.b];
        parameters.iter().all(|value| value.is_finite() && *value > 0.0)
            && (1..=3).contains(&self.k)
    }

    /// Logarithm of the density of the customer's purchase times.
    pub fn ln_likelihood(&self, c: &Purchases) -> f64 {
        let state = self.state(c);
        let x = f64::from(c.frequency);
        let ln_factorial = if self.k == 3 { std::f64::consts::LN_2 } else { 0.0 };
        let gaps = f64::from(self.k.saturating_sub(1)) * c.ln_gaps - x * ln_factorial;
        let events = u64::from(self.k) * u64::from(c.frequency);
        let ln_rising = |c: f64, n: u64| rising(c, 0, n)[0];
        let purchases = ln_rising(self.r, events)
            - events as f64 * libm::log(self.alpha)
            - state.n * libm::log1p(bounded(c.age) / self.alpha);
        let trials = u64::from(c.frequency) + u64::from(self.modified);
        let stayed = ln_rising(self.b, trials) - ln_rising(self.a + self.b, trials);
        let ln_alive = libm::log(state.alive);
        let odds = state.ln_dead - ln_alive;
        let now = ln_alive + odds.max(0.0) + libm::log1p(libm::exp(-odds.abs()));
        purchases + gaps + stayed + now
    }

    /// P(alive at T).
    pub fn p_alive(&self, c: &Purchases) -> f64 {
        self.state(c).p_alive
    }

    fn state(&self, c: &Purchases) -> State {
        let age = bounded(c.age);
        let recency = bounded(c.recency).min(age);
        let idle = age - recency;
        let x = f64::from(c.frequency);
        let n = self.r + f64::from(self.k) * x;
        let rate = self.alpha + age;
        let stayed = self.b + x + if self.modified { 1.0 } else { 0.0 };
        let may_drop_out = self.a > NOBODY && (self.modified || c.frequency > 0);
        let ln_dead = if may_drop_out {
            let before = if self.modified { self.b + x } else { self.b + (x - 1.0) };
            libm::log(self.a / before) + n * libm::log1p(idle / (self.alpha + recency))
        } else {
            f64::NEG_INFINITY
        };
        let alive = self.stages(n, idle / rate);
        let p_alive = alive / (alive + libm::exp(ln_dead));
        State { n, rate, stayed, idle, alive, ln_dead, p_alive }
    }

    /// Σ_j<k (n)_j / j! q^j.
    fn stages(&self, n: f64, q: f64) -> f64 {
        let one = n * q;
        match self.k {
            1 => 1.0,
            2 => 1.0 + one,
            _ => 1.0 + one + 0.5 * one * (one + q),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Draws, Seed};

    pub(super) const CUSTOMER: Purchases =
        Purchases { frequency: 2, recency: 30.43, age: 38.86, ln_gaps: 0.0 };

    /// The fit to CDNOW, weeks, as rounded by Fader, Hardie & Lee (2005).
    pub(super) const PUBLISHED: BetaGeometric =
        BetaGeometric { r: 0.243, alpha: 4.414, a: 0.793, b: 2.426, k: 1, modified: false };

    /// Every k, with and without drop-out after the first purchase.
    pub(super) fn family() -> impl Iterator<Item = BetaGeometric> {
        (1..=3).flat_map(|k| {
            [false, true].map(|modified| BetaGeometric {
                r: 0.8,
                alpha: 5.0 / f64::from(k),
                a: 0.7,
                b: 2.2,
                k,
                modified,
            })
        })
    }

    /// Plays events and drop-out: the customer up to `age`, and purchases within `t` after that.
    pub(super) fn play(m: &BetaGeometric, age: f64, t: f64, draws: &mut Draws) -> (Purchases, u32) {
        let (rate, p) = (draws.gamma(m.r) / m.alpha, draws.beta(m.a, m.b));
        let mut c = Purchases { frequency: 0, recency: 0.0, age, ln_gaps: 0.0 };
        let (mut now, mut later) = (0.0, 0);
        let mut alive = !(m.modified && draws.chance(p));
        while alive {
            now += (0..m.k).map(|_| draws.exponential()).sum::<f64>() / rate;
            if now <= age {
                c.frequency += 1;
                c.ln_gaps += libm::log(now - c.recency);
                c.recency = now;
            } else if now <= age + t {
                later += 1;
            } else {
                break;
            }
            alive = !draws.chance(p);
        }
        (c, later)
    }

    #[test]
    fn published_probability_of_a_customer() {
        assert!((PUBLISHED.p_alive(&CUSTOMER) - 0.72658).abs() < 1e-5);
        let none = Purchases { frequency: 0, recency: 0.0, ..CUSTOMER };
        assert_eq!(PUBLISHED.p_alive(&none), 1.0);
        assert!(BetaGeometric { modified: true, ..PUBLISHED }.p_alive(&none) < 1.0);
        assert!(PUBLISHED.check() && !BetaGeometric { k: 4, ..PUBLISHED }.check());
    }

    #[test]
    fn densities_of_what_may_be_bought_sum_to_one() {
        // Over the time of one purchase, with none and a second one before T as what else may be:
        // with drop-out certain after it, x is 0 or 1.
        for model in family() {
            let model = BetaGeometric { a: 1e7, b: 1e-7, modified: false, ..model };
            let of = |frequency, recency: f64| {
                let ln_gaps = if frequency > 0 { libm::log(recency) } else { 0.0 };
                libm::exp(model.ln_likelihood(&Purchases { frequency, recency, age: 3.0, ln_gaps }))
            };
            let step = 3.0 / 2000.0;
            let once: f64 = (0..2000).map(|i| step * of(1, step * (f64::from(i) + 0.5))).sum();
            assert!((of(0, 0.0) + once - 1.0).abs() < 1e-6, "{model:?}");
        }
    }

    #[test]
    fn those_who_play_on_were_likely_to() {
        let mut draws = Draws::new(Seed(5));
        for model in family() {
            let (mut expected, mut none) = (0.0, 0.0);
            let (mut bought, mut bought_none, mut drawn) = (0.0, 0.0, 0.0);
            for _ in 0..20_000 {
                let (c, later) = play(&model, 20.0, 15.0, &mut draws);
                expected += model.expected_purchases(&c, 15.0);
                none += model.p_no_purchase(&c, 15.0);
                bought += f64::from(later);
                bought_none += if later == 0 { 1.0 } else { 0.0 };
                drawn += f64::from(model.draw(&c, 15.0, &mut draws));
            }
            assert!((bought / expected - 1.0).abs() < 0.04, "{model:?}: {bought} {expected}");
            assert!((drawn / expected - 1.0).abs() < 0.04, "{model:?}: {drawn} {expected}");
            assert!((bought_none / none - 1.0).abs() < 0.02, "{model:?}: {bought_none} {none}");
        }
    }
}
