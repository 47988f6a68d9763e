//! Answers that follow from those of any model of purchases: what purchases are worth today, and when
//! the next one comes.

use super::family::PurchaseModel;
use super::purchases::Purchases;

/// Gauss-Legendre nodes and weights on [-1, 1], one half of eight.
const EIGHT: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362),
    (0.525_532_409_916_329, 0.313_706_645_877_887_3),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_5),
    (0.960_289_856_497_536_3, 0.101_228_536_290_376_26),
];

/// Horizons are cut into panels that shrink towards the as-of, where purchases are most frequent and
/// worth most.
const PANELS: u32 = 14;
const SHRINK: f64 = 0.7;

/// Multiples of alpha + T: what takes longer is as good as never.
const FAR: f64 = 1e9;

impl PurchaseModel {
    /// Expected purchases in (T, T + t], each worth exp(-`rate` · u) where it comes u after T; `rate`,
    /// at least 0, is the continuously compounded discount rate per unit of time.
    ///
    /// Fader, Hardie & Lee (2005) call it DET, and DERT where t is infinite, as it may be. It is
    /// ∫ e^(-rate u) dE(u), by parts, for E(u) as [`PurchaseModel::expected_purchases`] gives it.
    pub fn discounted_purchases(&self, customer: &Purchases, t: f64, rate: f64) -> f64 {
        // What comes later than that is worth nothing today.
        let t = if rate > 0.0 { t.min(50.0 / rate) } else { t };
        let whole = self.expected_purchases(customer, t);
        if !(rate > 0.0 && t > 0.0) {
            return whole;
        }
        let worth = |u: f64| libm::exp(-rate * u) * self.expected_purchases(customer, u);
        let (mut integral, mut to) = (0.0, t);
        for panel in 0..PANELS {
            let from = if panel + 1 == PANELS { 0.0 } else { SHRINK * to };
            let (middle, half) = (0.5 * (from + to), 0.5 * (to - from));
            for (node, weight) in EIGHT {
                let pair = worth(middle - half * node) + worth(middle + half * node);
                integral += half * weight * pair;
            }
            to = from;
        }
        // Rounding must not make it more than all of them.
        (libm::exp(-rate * t) * whole + rate * integral).clamp(0.0, whole)
    }

    /// The time from T to the next purchase, exceeded as often as not by those who will buy again;
    /// `None` where that is next to nobody. Its mean may be infinite.
    pub fn median_wait(&self, customer: &Purchases) -> Option<f64> {
        let scale = self.alpha() + customer.age;
        let ever = 1.0 - self.p_no_purchase(customer, FAR * scale);
        if !(ever > 1e-12 && scale.is_finite()) {
            return None;
        }
        let half = 1.0 - 0.5 * ever;
        let (mut low, mut high) = (-libm::log(FAR), libm::log(FAR));
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            let is_later = self.p_no_purchase(customer, libm::exp(middle) * scale) > half;
            if is_later { low = middle } else { high = middle }
        }
        Some(libm::exp(0.5 * (low + high)) * scale)
    }

    /// The scale of time of the rate of purchases.
    fn alpha(&self) -> f64 {
        match self {
            PurchaseModel::Nbd(model) => model.alpha,
            PurchaseModel::BetaGeometric(model) => model.alpha,
            PurchaseModel::ParetoNbd(model) => model.alpha,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BetaGeometric, Nbd, Pareto};
    use super::*;

    /// CDNOW's parameters, in weeks.
    fn models() -> [PurchaseModel; 3] {
        [
            PurchaseModel::Nbd(Nbd { r: 0.385, alpha: 12.072 }),
            PurchaseModel::BetaGeometric(BetaGeometric {
                r: 0.525,
                alpha: 6.183,
                a: 0.891,
                b: 1.614,
                k: 1,
                modified: true,
            }),
            PurchaseModel::ParetoNbd(Pareto { r: 0.553, alpha: 10.578, s: 0.606, beta: 11.669 }),
        ]
    }

    const CUSTOMER: Purchases =
        Purchases { frequency: 2, recency: 30.43, age: 38.86, ln_gaps: 5.0 };

    #[test]
    fn a_discount_is_a_sum_of_small_steps() {
        for model in models() {
            let (t, rate, n) = (52.0, 0.003, 20_000);
            let until =
                |step: u32| model.expected_purchases(&CUSTOMER, t * f64::from(step) / f64::from(n));
            let steps: f64 = (0..n)
                .map(|step| {
                    let middle = t * (f64::from(step) + 0.5) / f64::from(n);
                    (until(step + 1) - until(step)) * libm::exp(-rate * middle)
                })
                .sum();
            let discounted = model.discounted_purchases(&CUSTOMER, t, rate);
            assert!((discounted - steps).abs() < 1e-8, "{discounted} {steps}");
            assert_eq!(model.discounted_purchases(&CUSTOMER, t, 0.0), until(n));
            assert!(model.discounted_purchases(&CUSTOMER, t, 1e9) < 1e-6);
            // Ten thousand weeks at 0.3 % are as good as all.
            let all = model.discounted_purchases(&CUSTOMER, f64::INFINITY, rate);
            let long = model.discounted_purchases(&CUSTOMER, 1e4, rate);
            assert!((all / long - 1.0).abs() < 1e-9 && all > discounted, "{all} {long}");
        }
    }

    #[test]
    fn the_next_purchase_comes_by_the_median_as_often_as_not() {
        for model in models() {
            let wait = model.median_wait(&CUSTOMER).unwrap();
            let ever = 1.0 - model.p_no_purchase(&CUSTOMER, 1e12);
            let by_then = 1.0 - model.p_no_purchase(&CUSTOMER, wait);
            assert!((by_then - 0.5 * ever).abs() < 1e-9, "{wait}");
        }
        // Alive: (1 + t / (alpha + T))^-(r + x) = 1/2.
        let nbd = models()[0].median_wait(&CUSTOMER).unwrap();
        let exact = (12.072 + 38.86) * (libm::pow(2.0, 1.0 / 2.385) - 1.0);
        assert!((nbd / exact - 1.0).abs() < 1e-9);
        let gone = Purchases { frequency: 400, recency: 1.0, age: 1e4, ln_gaps: -2400.0 };
        assert_eq!(models()[1].median_wait(&gone), None);
    }
}
