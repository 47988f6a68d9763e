//! What a customer of the Pareto/NBD may do next: the distribution of the purchases to come, and draws
//! from it.

use super::super::nbd::{NegativeBinomial, bounded, poisson};
use super::super::purchases::Purchases;
use super::dropout::sixteen;
use super::{Pareto, probability, sound};
use crate::domain::Draws;

/// A panel of θ is twice this many standard deviations of a count's weight wide: sixteen nodes then
/// give probabilities within 1e-11.
const STEP: f64 = 3.0;

/// In one panel the density of drop-out times falls by at most e^−this.
const FALL: f64 = 10.0;

/// In one panel neither alpha + T nor beta + T grows by more than this share.
const GROWTH: f64 = 1.7;

/// From this angle on its tangent is no guide.
const RIGHT_ANGLE: f64 = std::f64::consts::FRAC_PI_2 - 1e-4;

/// Horizons beyond this multiple of alpha + T are cut, as their angles would have no digits left.
const FARTHEST: f64 = 1e10;

/// What is left out of a probability.
const NEGLIGIBLE: f64 = 1e-17;

impl Pareto {
    /// `out[j]` becomes the chance of j purchases in (T, T + t]; what is beyond its end is left out.
    ///
    /// Given the time τ of drop-out, counts are negative binomial; they are integrated over τ.
    /// A count's weight is (sin θ)^2j (cos θ)^2n in θ with τ = (alpha + T) tan² θ, as wide for each
    /// count, so that panels of θ suit them all.
    pub fn p_counts(&self, customer: &Purchases, t: f64, out: &mut [f64]) {
        out.fill(0.0);
        if out.is_empty() {
            return;
        }
        let (x, _, age) = sound(customer);
        let n = self.r + f64::from(x);
        let (alpha, beta) = (self.alpha + age, self.beta + age);
        let t = bounded(t).min(FARTHEST * alpha);
        let p_alive = self.p_alive(customer);
        let step = STEP / (n + out.len() as f64).sqrt();
        let growth = libm::expm1(FALL / (self.s + 1.0)).min(GROWTH);
        let mut from = 0.0;
        let mut survival = 1.0;
        while from < t && survival > NEGLIGIBLE {
            let theta = libm::atan((from / alpha).sqrt());
            let tan = libm::tan(theta + step);
            let by_count =
                if theta + step < RIGHT_ANGLE { alpha * tan * tan } else { f64::INFINITY };
            let to = by_count
                .min(from + growth * (beta + from))
                .min(from + GROWTH * (alpha + from))
                .min(t);
            // Rounding must not stop the march.
            let to = if to > from { to } else { t };
            let width = libm::atan((to / alpha).sqrt()) - theta;
            let mut within = 0.0;
            for &(at, weight) in sixteen() {
                let tan = libm::tan(theta + width * at);
                let tau = alpha * tan * tan;
                let density = self.s / (beta + tau) * survival_at(self.s, beta, tau);
                let jacobian = 2.0 * alpha * tan * (1.0 + tan * tan) * width;
                let weight = p_alive * density * jacobian * weight;
                within = add_counts(n, tau / alpha, weight, out);
            }
            (from, survival) = (to, survival_at(self.s, beta, to));
            // Later drop-outs leave still fewer such counts.
            if within < NEGLIGIBLE {
                break;
            }
        }
        let survival = survival_at(self.s, beta, t);
        add_counts(n, t / alpha, p_alive * survival, out);
        out[0] = self.p_no_purchase(customer, t);
        out.iter_mut().for_each(|p| *p = probability(*p));
    }

    /// Purchases in (T, T + t] of one draw of the customer's rates and of being alive, given the data.
    pub fn draw(&self, customer: &Purchases, t: f64, draws: &mut Draws) -> u32 {
        self.draw_if(self.p_alive(customer), customer, t, draws)
    }

    /// One such number for each place of `out`.
    pub fn draw_all(&self, customer: &Purchases, t: f64, draws: &mut Draws, out: &mut [u32]) {
        let p_alive = self.p_alive(customer);
        out.fill_with(|| self.draw_if(p_alive, customer, t, draws));
    }

    fn draw_if(&self, p_alive: f64, customer: &Purchases, t: f64, draws: &mut Draws) -> u32 {
        if draws.unit() >= p_alive {
            return 0;
        }
        let (x, _, age) = sound(customer);
        let rate = draws.gamma(self.r + f64::from(x)) / (self.alpha + age);
        let drop_out = draws.gamma(self.s) / (self.beta + age);
        let alive = (draws.exponential() / drop_out).min(bounded(t));
        // A float turns into the nearest number that an integer can hold.
        poisson(rate * alive, draws) as u32
    }
}

/// (beta / (beta + t))^s.
fn survival_at(s: f64, beta: f64, t: f64) -> f64 {
    libm::exp(-s * libm::log1p(t / beta))
}

/// Adds weight · the chances of 0, 1, 2, … purchases in a time of `odds` times alpha, with a rate of
/// shape n. Returns the sum of these chances.
fn add_counts(n: f64, odds: f64, weight: f64, out: &mut [f64]) -> f64 {
    let mut counts = NegativeBinomial::new(n, odds);
    let mut sum = 0.0;
    for p in out {
        let count = counts.next_p();
        *p += weight * count;
        sum += count;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Seed;

    fn cases() -> [(Pareto, Purchases, f64, usize); 5] {
        let customer =
            |frequency, recency, age| Purchases { frequency, recency, age, ln_gaps: 0.0 };
        [
            (
                Pareto { r: 0.55, alpha: 10.6, s: 0.6, beta: 11.7 },
                customer(2, 30.0, 38.0),
                39.0,
                200,
            ),
            (Pareto { r: 2.0, alpha: 1.0, s: 3.0, beta: 20.0 }, customer(0, 0.0, 1.0), 30.0, 4000),
            (Pareto { r: 0.4, alpha: 1e-3, s: 12.0, beta: 0.05 }, customer(1, 0.9, 1.0), 0.5, 200),
            (Pareto { r: 5.0, alpha: 80.0, s: 1.0, beta: 1e-3 }, customer(3, 1.0, 1.0), 100.0, 500),
            (Pareto { r: 0.5, alpha: 1.0, s: 0.1, beta: 9.0 }, customer(9999, 9.9, 9.9), 1.0, 2500),
        ]
    }

    #[test]
    fn counts_are_a_distribution_with_the_expected_mean() {
        for (model, customer, t, most) in cases() {
            let mut p = vec![0.0; most];
            model.p_counts(&customer, t, &mut p);
            assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{model:?}");
            let mean: f64 = p.iter().zip(0..).map(|(p, j)| p * f64::from(j)).sum();
            let expected = model.expected_purchases(&customer, t);
            assert!((mean / expected - 1.0).abs() < 1e-8, "{model:?}: {mean} {expected}");
            // A short answer is the beginning of a long one.
            let mut few = [0.0; 3];
            model.p_counts(&customer, t, &mut few);
            assert!(few.iter().zip(&p).all(|(few, p)| (few - p).abs() < 1e-9));
        }
    }

    #[test]
    fn draws_have_the_expected_mean() {
        let n = 20_000;
        for (model, customer, t, _) in &cases()[..4] {
            let mut draws = Draws::new(Seed(3));
            let counts: Vec<f64> =
                (0..n).map(|_| f64::from(model.draw(customer, *t, &mut draws))).collect();
            let mean = counts.iter().sum::<f64>() / f64::from(n);
            let squares: f64 = counts.iter().map(|count| (count - mean) * (count - mean)).sum();
            let error = squares.sqrt() / f64::from(n);
            let expected = model.expected_purchases(customer, *t);
            assert!((mean - expected).abs() < 4.0 * error, "{mean} ± {error}, {expected}");
            let idle = counts.iter().filter(|&&count| count == 0.0).count() as f64 / f64::from(n);
            assert!((idle - model.p_no_purchase(customer, *t)).abs() < 0.015, "{model:?}: {idle}");
        }
    }
}
