//! Pareto/NBD (Schmittlein, Morrison & Colombo 1987, "Counting Your Customers: Who Are They and What
//! Will They Do Next?", *Management Science* 33(1)): while alive a customer buys as a Poisson process,
//! and drops out after an exponential time; both rates are gamma-distributed over customers.

mod dropout;
mod future;
mod likelihood;

use super::family::Prospects;
use super::nbd::{bounded, rising};
use super::purchases::Purchases;
use dropout::Survival;
pub(super) use likelihood::Layout;
use serde::{Deserialize, Serialize};

/// Pareto/NBD. The rate of purchases has shape r and rate alpha (a time), the rate of drop-out shape s
/// and rate beta (a time); all are positive and finite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pareto {
    pub r: f64,
    pub alpha: f64,
    pub s: f64,
    pub beta: f64,
}

impl Pareto {
    /// True for finite, positive parameters, without which no answer is defined.
    pub fn check(&self) -> bool {
        let all = [self.r, self.alpha, self.s, self.beta];
        all.iter().all(|value| value.is_finite() && *value > 0.0)
    }

    /// ln of the likelihood of the purchases: of their times, not of their number alone.
    pub fn ln_likelihood(&self, customer: &Purchases) -> f64 {
        let (x, recency, age) = sound(customer);
        let (integral, ratio) = self.survival(x).parts(recency, age);
        let [ln_purchases, ..] = rising(self.r, 0, u64::from(x));
        // (r)_x / (alpha + t_x)^x, (alpha / (alpha + t_x))^r and (beta / (beta + t_x))^s.
        ln_purchases
            - f64::from(x) * libm::log(self.alpha + recency)
            - self.r * libm::log1p(recency / self.alpha)
            - self.s * libm::log1p(recency / self.beta)
            + libm::log(integral + ratio)
    }

    /// The chance that the customer has not dropped out at T.
    pub fn p_alive(&self, customer: &Purchases) -> f64 {
        let (x, recency, age) = sound(customer);
        let (integral, ratio) = self.survival(x).parts(recency, age);
        probability(ratio / (integral + ratio))
    }

    /// The chance that the customer has not dropped out at T + t, knowing purchases up to T alone.
    pub fn p_alive_after(&self, customer: &Purchases, t: f64) -> f64 {
        let beta = self.beta + sound(customer).2;
        probability(self.p_alive(customer) * libm::exp(-self.s * libm::log1p(bounded(t) / beta)))
    }

    /// The chance of no purchase in (T, T + t].
    pub fn p_no_purchase(&self, customer: &Purchases, t: f64) -> f64 {
        self.p_no_purchase_if(self.p_alive(customer), customer, t)
    }

    /// All three at once: P(alive) is the costly part of each.
    pub(super) fn prospects(&self, customer: &Purchases, t: f64) -> Prospects {
        let p_alive = self.p_alive(customer);
        Prospects {
            p_alive,
            p_no_purchase: self.p_no_purchase_if(p_alive, customer, t),
            expected_purchases: self.expected_if(p_alive, customer, t),
        }
    }

    fn p_no_purchase_if(&self, p_alive: f64, customer: &Purchases, t: f64) -> f64 {
        let (x, _, age) = sound(customer);
        let (dropped, stayed) = self.survival(x).parts(age, age + bounded(t));
        probability((1.0 - p_alive) + p_alive * (dropped + stayed))
    }

    /// The expected number of purchases in (T, T + t].
    pub fn expected_purchases(&self, customer: &Purchases, t: f64) -> f64 {
        self.expected_if(self.p_alive(customer), customer, t)
    }

    fn expected_if(&self, p_alive: f64, customer: &Purchases, t: f64) -> f64 {
        let (x, _, age) = sound(customer);
        let (alpha, beta) = (self.alpha + age, self.beta + age);
        // The expected time alive within t is beta (1 − e^−z) / (s − 1), with z as below; the
        // quotient of 1 − e^−z by z is exact also at s = 1, where that formula is 0 / 0.
        let ln_growth = libm::log1p(bounded(t) / beta);
        let z = (self.s - 1.0) * ln_growth;
        let share = if z == 0.0 { 1.0 } else { -libm::expm1(-z) / z };
        let n = self.r + f64::from(x);
        let count = p_alive * n * (beta / alpha) * ln_growth * share;
        // Written so that what is no number becomes 0.
        if count > 0.0 { count.min(f64::MAX) } else { 0.0 }
    }

    /// f for a customer with x purchases.
    fn survival(&self, x: u32) -> Survival {
        Survival { n: self.r + f64::from(x), alpha: self.alpha, s: self.s, beta: self.beta }
    }
}

/// x, t_x and T, with times that make sense whatever the customer's are.
fn sound(customer: &Purchases) -> (u32, f64, f64) {
    let age = bounded(customer.age);
    (customer.frequency, bounded(customer.recency).min(age), age)
}

/// What rounding left of a probability, within [0, 1].
fn probability(p: f64) -> f64 {
    if p > 0.0 { p.min(1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CDNOW in weeks, as published to three decimals.
    const CDNOW: Pareto = Pareto { r: 0.553, alpha: 10.578, s: 0.606, beta: 11.669 };

    fn customer(frequency: u32, recency: f64, age: f64) -> Purchases {
        Purchases { frequency, recency, age, ln_gaps: 0.0 }
    }

    #[test]
    fn published_answers_are_found() {
        let frequent = customer(26, 30.86, 31.0);
        assert!((CDNOW.expected_purchases(&frequent, 52.0) - 25.4585).abs() < 5e-5);
        assert!((CDNOW.p_alive(&frequent) - 0.997_92).abs() < 5e-6);
        // By integration with forty digits.
        let rounded = Pareto { r: 0.55328, alpha: 10.57761, s: 0.60621, beta: 11.66791 };
        for (customer, expected) in [
            (customer(2, 30.43, 38.86), -9.554_324_652_560_318),
            (customer(0, 0.0, 38.86), -0.521_206_947_672_307),
        ] {
            assert!((rounded.ln_likelihood(&customer) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn answers_agree_with_each_other() {
        let (early, t) = (customer(3, 12.0, 30.0), 17.0);
        let later = customer(3, 12.0, 30.0 + t);
        let ratio = libm::exp(CDNOW.ln_likelihood(&later) - CDNOW.ln_likelihood(&early));
        assert!((CDNOW.p_no_purchase(&early, t) - ratio).abs() < 1e-12);
        // Who has just bought is alive, and a time of nothing brings nothing.
        assert_eq!(CDNOW.p_alive(&customer(3, 30.0, 30.0)), 1.0);
        assert_eq!(CDNOW.p_no_purchase(&early, 0.0), 1.0);
        assert_eq!(CDNOW.expected_purchases(&early, 0.0), 0.0);
        assert_eq!(CDNOW.p_alive_after(&early, 0.0), CDNOW.p_alive(&early));
        // Expectations pass smoothly through s = 1.
        let at = |s: f64| Pareto { s, ..CDNOW }.expected_purchases(&customer(3, 30.0, 30.0), t);
        assert!((at(1.0) - 0.5 * (at(1.0 - 1e-6) + at(1.0 + 1e-6))).abs() < 1e-10);
    }

    #[test]
    fn without_drop_out_it_is_the_nbd() {
        let lasting = Pareto { r: 0.6, alpha: 9.0, s: 1e-9, beta: 1e9 };
        let nbd = super::super::nbd::Nbd { r: 0.6, alpha: 9.0 };
        let customer = customer(4, 20.0, 33.0);
        assert!((lasting.ln_likelihood(&customer) - nbd.ln_likelihood(&customer)).abs() < 1e-8);
        let expected = nbd.expected_purchases(&customer, 50.0);
        assert!((lasting.expected_purchases(&customer, 50.0) - expected).abs() < 1e-6);
    }

    #[test]
    fn nothing_breaks_an_answer() {
        let sizes = [1e-6, 0.5, 1.0, 1e6];
        let times = [0.0, 5e-324, 1e-3, 1.0, 1e3, f64::MAX, f64::INFINITY, f64::NAN, -1.0];
        let mut p = [0.0; 3];
        for i in 0..256 {
            let [r, alpha, s, beta] = [0, 2, 4, 6].map(|shift| sizes[i >> shift & 3]);
            let model = Pareto { r, alpha, s, beta };
            for (k, &age) in times.iter().enumerate() {
                for (frequency, recency) in [(0, 0.0), (1, 0.5 * age), (10_000, age)] {
                    let t = times[(i + k) % times.len()];
                    let customer = customer(frequency, recency, age);
                    model.p_counts(&customer, t, &mut p);
                    let others = [
                        model.p_alive(&customer),
                        model.p_alive_after(&customer, t),
                        model.p_no_purchase(&customer, t),
                    ];
                    let chances = || p.iter().chain(&others);
                    assert!(chances().all(|p| (0.0..=1.0).contains(p)), "{model:?} {customer:?}");
                    let expected = model.expected_purchases(&customer, t);
                    assert!(expected >= 0.0 && expected.is_finite(), "{model:?} {customer:?} {t}");
                    assert!(model.ln_likelihood(&customer).is_finite(), "{model:?} {customer:?}");
                }
            }
        }
    }
}
