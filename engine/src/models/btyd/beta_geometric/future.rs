//! What customers will do, given what they did.
//!
//! Events and purchases to come are counted from the last purchase on: of M events, ⌊M / k⌋ are
//! purchases as long as the customer stays, which they do for i purchases with probability
//! E[(1 - p)^i] = Π_l<i (stayed + l) / (a + stayed + l). All sums are of positive terms: no
//! parameters, such as a = 1, need a limit of their own, as they do in forms with hypergeometric
//! functions.

use super::super::family::Prospects;
use super::super::nbd::{NOBODY, NegativeBinomial, bounded, poisson};
use super::super::purchases::Purchases;
use super::{BetaGeometric, State};
use crate::domain::Draws;

/// What is left out of a sum, relative to the sum.
const TOLERANCE: f64 = 1e-13;
/// Events after which a sum over them takes longer than an integral over the drop-out probability.
const MOST_EVENTS: f64 = 4000.0;
/// Horizons that are shorter than this share of the time so far are no time: nothing happens in
/// them, and ratios with them could overflow.
const NO_TIME: f64 = 1e-100;
/// Horizons that are longer than this multiple of it are no longer told apart, as squares of ratios
/// with them could overflow.
const FOR_EVER: f64 = 1e100;
/// Widest step of the integral over the logit of the drop-out probability.
const WIDEST_STEP: f64 = 0.25;
/// Points of the integral on each side, which far fewer need.
const MOST_POINTS: u32 = 4000;

/// What may happen up to T + t to a customer who is alive at T, in order of purchases i = 0, 1, ...
struct Bands {
    counts: NegativeBinomial,
    k: u32,
    /// (T - t_x) / t.
    idle: f64,
    /// Weight of being alive at T, by which probabilities are divided.
    alive: f64,
    /// Events before this band.
    m: f64,
    /// Purchases of this band.
    i: f64,
    a: f64,
    stayed: f64,
    stay: f64,
    expected: f64,
}

/// ⌊M / k⌋ = i.
#[derive(Clone, Copy)]
struct Band {
    /// P(⌊M / k⌋ = i).
    p: f64,
    /// P(the customer stays for i purchases).
    stay: f64,
    /// E[purchases until the customer drops out, at most i].
    expected: f64,
    /// About how much smaller the next band's `p` is, where it is smaller.
    ratio: f64,
}

impl Iterator for Bands {
    type Item = Band;

    #[inline]
    fn next(&mut self) -> Option<Band> {
        let (mut p, mut ratio) = (0.0, 1.0 / self.ways());
        for _ in 0..self.k {
            p += self.counts.next_p() * self.ways();
            ratio *= self.counts.ratio().max(self.counts.w);
            self.m += 1.0;
        }
        // Ways grow most from a band's first events on, and a lot where t is short.
        ratio *= self.ways();
        let band = Band { p: p / self.alive, stay: self.stay, expected: self.expected, ratio };
        self.expected += self.stay;
        self.stay *= (self.stayed + self.i) / (self.a + self.stayed + self.i);
        self.i += 1.0;
        Some(band)
    }
}

impl Bands {
    /// For each number j < k of events by T, the rest of m having come since, a product of two counts;
    /// by how much their sum exceeds the count of all m.
    #[inline]
    fn ways(&self) -> f64 {
        let idle = self.m * self.idle;
        match self.k {
            1 => 1.0,
            2 => 1.0 + idle,
            _ => 1.0 + idle + 0.5 * idle * (idle - self.idle),
        }
    }
}

impl BetaGeometric {
    /// P(alive at T + t), given the data up to T.
    pub fn p_alive_after(&self, c: &Purchases, t: f64) -> f64 {
        let (state, t) = self.asked(c, t);
        if t <= NO_TIME * state.rate {
            return state.p_alive;
        }
        let stay = match self.takes_long(&state, t) {
            false => sum(self.bands(&state, t), |band| band.p * band.stay),
            true => self.over_drop_out(&state, t, |p, missed| 1.0 - p * missed),
        };
        state.p_alive * stay.clamp(0.0, 1.0)
    }

    /// P(alive), P(no purchase) and E[purchases], from one look at the customer.
    pub(in super::super) fn prospects(&self, c: &Purchases, t: f64) -> Prospects {
        let (state, t) = self.asked(c, t);
        Prospects {
            p_alive: state.p_alive,
            p_no_purchase: self.p_none(&state, t),
            expected_purchases: self.expected(&state, t),
        }
    }

    /// P(no purchase in (T, T + t]).
    pub fn p_no_purchase(&self, c: &Purchases, t: f64) -> f64 {
        let (state, t) = self.asked(c, t);
        self.p_none(&state, t)
    }

    /// E[purchases in (T, T + t]].
    pub fn expected_purchases(&self, c: &Purchases, t: f64) -> f64 {
        let (state, t) = self.asked(c, t);
        self.expected(&state, t)
    }

    fn p_none(&self, state: &State, t: f64) -> f64 {
        (1.0 - state.p_alive + state.p_alive * self.p_idle(state, t)).min(1.0)
    }

    fn expected(&self, state: &State, t: f64) -> f64 {
        if t <= NO_TIME * state.rate {
            return 0.0;
        }
        state.p_alive
            * match self.takes_long(state, t) {
                false => sum(self.bands(state, t), |band| band.p * band.expected),
                true => self.over_drop_out(state, t, |_, purchases| purchases),
            }
    }

    /// Writes P(j purchases in (T, T + t]) to `out[j]`; the mass beyond is left out.
    pub fn p_counts(&self, c: &Purchases, t: f64, out: &mut [f64]) {
        out.fill(0.0);
        let (state, t) = self.asked(c, t);
        let [none, some @ ..] = out else { return };
        *none = self.p_no_purchase(c, t);
        if t <= NO_TIME * state.rate {
            return;
        }
        let mut bands = self.bands(&state, t);
        let Some(mut last) = bands.next() else { return };
        let mut beyond = 1.0 - last.p;
        for (p, band) in some.iter_mut().zip(bands) {
            // All i purchases were made and the customer stayed, or the i-th one was the last.
            let dropped = beyond * (last.stay - band.stay);
            *p = state.p_alive * (band.stay * band.p + dropped).clamp(0.0, 1.0);
            beyond = (beyond - band.p).max(0.0);
            last = band;
        }
    }

    /// Purchases in (T, T + t] of a customer whose rate and drop-out are drawn given the data.
    pub fn draw(&self, c: &Purchases, t: f64, draws: &mut Draws) -> u32 {
        let (state, t) = self.asked(c, t);
        self.draw_of(&state, t, draws)
    }

    /// One such number for each place of `out`.
    pub fn draw_all(&self, c: &Purchases, t: f64, draws: &mut Draws, out: &mut [u32]) {
        let (state, t) = self.asked(c, t);
        out.fill_with(|| self.draw_of(&state, t, draws));
    }

    fn draw_of(&self, state: &State, t: f64, draws: &mut Draws) -> u32 {
        if draws.unit() >= state.p_alive {
            return 0;
        }
        // Events since the last purchase: stage j has weight (n)_j / j! q^j.
        let mut left = draws.unit() * state.alive;
        let (mut stage, mut weight) = (0.0, 1.0);
        for _ in 1..self.k {
            if left < weight {
                break;
            }
            left -= weight;
            weight *= (state.n + stage) / (stage + 1.0) * (state.idle / state.rate);
            stage += 1.0;
        }
        let rate = draws.gamma(state.n + stage) / state.rate;
        let purchases = ((stage + poisson(rate * t, draws)) / f64::from(self.k)).floor();
        let p = match draws.beta(self.a, state.stayed) {
            // Both shapes are so small that the gammas it is a share of were 0: p is 0 or 1.
            p if p.is_nan() => f64::from(u8::from(draws.chance(self.a / (self.a + state.stayed)))),
            p => p,
        };
        if p == 0.0 {
            return purchases as u32;
        }
        let last = (libm::log(draws.unit()) / libm::log1p(-p)).floor() + 1.0;
        purchases.min(last) as u32
    }

    /// What is known at T, and a horizon that arithmetic is safe with.
    fn asked(&self, c: &Purchases, t: f64) -> (State, f64) {
        let state = self.state(c);
        let t = bounded(t).min(FOR_EVER * state.rate);
        (state, t)
    }

    /// P(no purchase in (T, T + t] | alive at T).
    fn p_idle(&self, state: &State, t: f64) -> f64 {
        let rate = state.rate + t;
        let stages = self.stages(state.n, (state.idle + t) / rate);
        libm::exp(-state.n * libm::log1p(t / state.rate)) * (stages / state.alive)
    }

    fn bands(&self, state: &State, t: f64) -> Bands {
        Bands {
            counts: NegativeBinomial::new(state.n, t / state.rate),
            k: self.k,
            idle: state.idle / t,
            alive: state.alive,
            m: 0.0,
            i: 0.0,
            a: self.a,
            stayed: state.stayed,
            stay: 1.0,
            expected: 0.0,
        }
    }

    /// Whether a sum over events has too many terms: counts are spread about their mean, and from
    /// there on each is about t / (rate + t) times the one before.
    fn takes_long(&self, state: &State, t: f64) -> bool {
        let tau = t / state.rate;
        let mean = state.n * tau;
        mean + 8.0 * (mean * (1.0 + tau)).sqrt() + 30.0 * (1.0 + tau) > MOST_EVENTS
    }

    /// E[f(p, E[purchases within t | p])] over the probability p to drop out, of a customer who is
    /// alive at T. By the trapezoidal rule in the logit of p, whose error falls exponentially with
    /// the number of points (Trefethen & Weideman 2014, "The Exponentially Convergent Trapezoidal
    /// Rule", *SIAM Review* 56(3)).
    fn over_drop_out(&self, state: &State, t: f64, f: impl Fn(f64, f64) -> f64) -> f64 {
        if self.a <= NOBODY {
            return f(0.0, self.purchases_at(0.0, 1.0, state, t)).min(f64::MAX);
        }
        let (a, b) = (self.a, state.stayed);
        let step = WIDEST_STEP.min((1.0 / a + 1.0 / b).sqrt() / 3.0);
        let middle = libm::log(a / b);
        let ln_density = |u: f64| -a * ln_1p_exp(-u) - b * ln_1p_exp(u);
        let top = ln_density(middle);
        let (mut total, mut weights) = (0.0, 0.0);
        let mut add = |p: f64, q: f64, weight: f64| {
            let term = weight * f(p, self.purchases_at(p, q, state, t));
            total += term;
            weights += weight;
            term <= 1e-18 * total && weight <= 1e-18 * weights
        };
        // Each side ends where nothing but the density's power of p, or 1 - p, changes any more,
        // and the points that follow are a geometric series; or where they no longer count.
        let flat_p = 1e-12 / (a + b + (state.n + 1.0) * (t / state.rate));
        let flat_q = 1e-12 / (a + b);
        for (direction, first, shape) in [(-step, 0, a), (step, 1, b)] {
            for point in first..MOST_POINTS {
                let u = middle + direction * f64::from(point);
                let (p, q) = (1.0 / (1.0 + libm::exp(-u)), 1.0 / (1.0 + libm::exp(u)));
                let weight = libm::exp(ln_density(u) - top);
                let ended = add(p, q, weight);
                let flat = if direction < 0.0 { p < flat_p } else { q < flat_q };
                if flat {
                    add(p, q, weight / libm::expm1(shape * step));
                }
                if flat || ended {
                    break;
                }
            }
        }
        total / weights
    }

    /// E[purchases within t | alive at T, p] for q = 1 - p: (1 - E[q^⌊M / k⌋]) / p.
    fn purchases_at(&self, p: f64, q: f64, state: &State, t: f64) -> f64 {
        let tau = t / state.rate;
        if self.k == 1 {
            let mean = state.n * tau;
            let each = -libm::expm1(-state.n * libm::log1p(p * tau)) / p;
            return if p == 0.0 { mean } else { each };
        }
        // Differences from 1 keep their digits down to this p; below it next to nobody drops out.
        let least = 1e-7 / (1.0 + (state.n + f64::from(self.k)) * tau);
        if p < least {
            return self.purchases_at(least, 1.0 - least, state, t);
        }
        if q < 1e-9 {
            return (1.0 - self.p_idle(state, t)) / p;
        }
        // E[q^⌊M / k⌋] by the k-th roots y of q: p / (k q) Σ G(y) y / (1 - y), where G(y) = E[y^M]
        // = g^-n Σ_j<k (n)_j / j! (idle / rate y / g)^j / alive with g = 1 + tau (1 - y).
        let term = |root: Complex, rest: Complex| {
            let beyond_one = rest.scaled(tau);
            let v = root.times(beyond_one.one_plus_to(-1.0)).scaled(state.idle / state.rate);
            let one = v.scaled(state.n);
            let two = one.times(v).scaled(if self.k > 2 { 0.5 * (state.n + 1.0) } else { 0.0 });
            let stages = Complex { re: 1.0 + one.re + two.re, im: one.im + two.im };
            beyond_one.one_plus_to(-state.n).times(stages).times(root).times(rest.inverse()).re
        };
        // 1 - y keeps the digits that y = 1 - p / k has lost.
        let ln_root = if p < 0.5 { libm::log1p(-p) } else { libm::log(q) } / f64::from(self.k);
        let (root, rest) = (libm::exp(ln_root), -libm::expm1(ln_root));
        let turned = |re: f64, im: f64| {
            let root = Complex { re: re * root, im: im * root };
            term(root, Complex { re: 1.0 - root.re, im: -root.im })
        };
        let others = match self.k {
            2 => turned(-1.0, 0.0),
            _ => 2.0 * turned(-0.5, 0.5 * 3f64.sqrt()),
        };
        let sum = term(Complex { re: root, im: 0.0 }, Complex { re: rest, im: 0.0 }) + others;
        let stays = p / (f64::from(self.k) * q) * sum / state.alive;
        (1.0 - stays.clamp(0.0, 1.0)) / p
    }
}

/// Σ of a positive term of each band, until what is left no longer counts.
fn sum(bands: Bands, term: impl Fn(&Band) -> f64) -> f64 {
    let mut total = 0.0;
    for band in bands.take(2 * MOST_EVENTS as usize) {
        let next = term(&band);
        total += next;
        // What follows is about a geometric series, as soon as the bands get smaller.
        let falls = band.ratio < 1.0 && total > 0.0;
        if falls && next * band.ratio <= TOLERANCE * total * (1.0 - band.ratio) {
            break;
        }
    }
    total
}

/// ln(1 + e^x), without overflow.
fn ln_1p_exp(x: f64) -> f64 {
    x.max(0.0) + libm::log1p(libm::exp(-x.abs()))
}

#[derive(Clone, Copy)]
struct Complex {
    re: f64,
    im: f64,
}

impl Complex {
    fn scaled(self, by: f64) -> Complex {
        Complex { re: by * self.re, im: by * self.im }
    }

    fn times(self, other: Complex) -> Complex {
        let re = self.re * other.re - self.im * other.im;
        Complex { re, im: self.re * other.im + self.im * other.re }
    }

    fn inverse(self) -> Complex {
        let square = self.re * self.re + self.im * self.im;
        Complex { re: self.re / square, im: -self.im / square }
    }

    /// (1 + this)^exponent, the principal value; this has a real part >= 0.
    fn one_plus_to(self, exponent: f64) -> Complex {
        let square = self.re * (2.0 + self.re) + self.im * self.im;
        let size = libm::exp(0.5 * exponent * libm::log1p(square));
        let angle = exponent * libm::atan2(self.im, 1.0 + self.re);
        Complex { re: size * libm::cos(angle), im: size * libm::sin(angle) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CUSTOMER, PUBLISHED, family};
    use super::*;

    #[test]
    fn published_expectation_of_a_customer() {
        assert!((PUBLISHED.expected_purchases(&CUSTOMER, 39.0) - 1.22603).abs() < 1e-5);
    }

    #[test]
    fn sums_over_events_meet_integrals_over_drop_out() {
        for model in family() {
            for (a, b) in [(0.7, 2.2), (1.0, 1.0), (1e-4, 3.0), (50.0, 900.0)] {
                let model = BetaGeometric { a, b, ..model };
                let state = model.state(&CUSTOMER);
                for t in [10.0, 40.0, 900.0] {
                    let integral = model.over_drop_out(&state, t, |_, purchases| purchases);
                    let got = model.expected_purchases(&CUSTOMER, t) / state.p_alive;
                    assert!((got / integral - 1.0).abs() < 1e-6, "{model:?} {t}: {got} {integral}");
                    let integral = model.over_drop_out(&state, t, |p, missed| 1.0 - p * missed);
                    let got = model.p_alive_after(&CUSTOMER, t) / state.p_alive;
                    assert!((got - integral).abs() < 1e-9, "{model:?} {t}: {got} {integral}");
                }
            }
        }
    }

    #[test]
    fn counts_sum_to_one_and_have_the_expectation() {
        for model in family() {
            for t in [1e-3, 5.0, 200.0] {
                let mut out = vec![0.0; 3000];
                model.p_counts(&CUSTOMER, t, &mut out);
                let mean: f64 = out.iter().enumerate().map(|(j, p)| j as f64 * p).sum();
                let expected = model.expected_purchases(&CUSTOMER, t);
                assert_eq!(out[0], model.p_no_purchase(&CUSTOMER, t));
                assert!((out.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{model:?} {t}");
                assert!((mean / expected - 1.0).abs() < 1e-9, "{model:?} {t}: {mean} {expected}");
            }
        }
    }

    #[test]
    fn time_has_no_unit_and_a_moment_has_a_rate() {
        for model in family() {
            let answers = |unit: f64| {
                let model = BetaGeometric { alpha: unit * model.alpha, ..model };
                let c = Purchases { recency: unit * 30.43, age: unit * 38.86, ..CUSTOMER };
                [model.expected_purchases(&c, unit * 39.0), model.p_alive_after(&c, unit * 39.0)]
            };
            for unit in [1e-3, 7.0, 1e3] {
                for (one, other) in answers(1.0).iter().zip(answers(unit)) {
                    assert!((one / other - 1.0).abs() < 1e-11, "{model:?} {unit}");
                }
            }
            let rate = |t: f64| model.expected_purchases(&CUSTOMER, t) / t;
            assert!((rate(1e-9) / rate(1e-30) - 1.0).abs() < 1e-6, "{model:?}");
        }
    }

    #[test]
    fn strange_times_and_customers_get_finite_answers() {
        let times = [0.0, -1.0, 1e-320, 1e-30, 1e5, 1e30, f64::INFINITY, f64::NAN];
        let customers = [(0, 0.0, 0.0), (0, 0.0, 1e9), (1, 1e-9, 1e9), (10_000, 9.0, 10.0)];
        for model in family() {
            for (frequency, recency, age) in customers {
                let c = Purchases { frequency, recency, age, ln_gaps: 0.0 };
                assert!(model.ln_likelihood(&c).is_finite(), "{model:?} {c:?}");
                for t in times {
                    let expected = model.expected_purchases(&c, t);
                    assert!(expected.is_finite() && expected >= 0.0, "{model:?} {c:?} {t}");
                    let mut out = [f64::NAN; 4];
                    model.p_counts(&c, t, &mut out);
                    let rest = [model.p_no_purchase(&c, t), model.p_alive_after(&c, t)];
                    let mut all = out.iter().chain(&rest);
                    assert!(all.all(|p| (0.0..=1.0).contains(p)), "{model:?} {c:?} {t}");
                }
            }
        }
    }
}
