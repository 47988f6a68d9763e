//! The integral over the time of drop-out: the one part of the Pareto/NBD without a closed form.
//!
//! With f(t) = (alpha + t)^−n (beta + t)^−s, the likelihood needs
//!   J = s ∫ f(u) / (beta + u) du / f(from), over from <= u <= to.
//! In v = ln(u + the smaller of alpha and beta) the integrand is log-concave and analytic within π of
//! the real axis, so Gauss–Legendre converges fast; and where the integrand has fallen by e^−30 the
//! rest is left out. One rule of at most 32 nodes gives 2e-12 for r and s in 0.01..50, alpha and beta in
//! 1e-4..1e4 of T and x up to 10,000, where hypergeometric functions overflow or cancel.

use crate::kernels::Level;
use crate::kernels::integral::{LONGEST, Powers, Rule};
use std::sync::LazyLock;

/// Integrands are left out where their logarithm has fallen by this.
const NEGLIGIBLE: f64 = 30.0;

/// The longest stretch of v for one rule.
const PANEL: f64 = 9.0;

/// A node of a quadrature on (0, 1) and its weight; the weights sum to 1.
pub(super) type Node = (f64, f64);

/// Numbers of nodes, each with the largest fall of the integrand's logarithm and the longest stretch
/// of v for which it gives 2e-12 of J (5e-10 in the second derivatives), by trial.
const REACH: [(usize, f64, f64); 11] = [
    (2, 0.004, 0.002),
    (3, 0.07, 0.035),
    (4, 0.4, 0.2),
    (6, 1.6, 0.4),
    (8, 4.0, 0.9),
    (10, 8.0, 1.5),
    (12, 12.0, 2.0),
    (16, 24.0, 3.0),
    (20, 40.0, 4.0),
    (24, 50.0, 5.0),
    (32, f64::INFINITY, f64::INFINITY),
];

/// A rule node by node, and as the kernel takes it.
static RULES: LazyLock<[(Vec<Node>, Rule); 11]> = LazyLock::new(|| {
    REACH.map(|(n, ..)| {
        let nodes = gauss_legendre(n);
        let rule = Rule::new(&nodes);
        (nodes, rule)
    })
});

/// The rule of 16 nodes.
pub(super) fn sixteen() -> &'static [Node] {
    &RULES[7].0
}

/// Gauss–Legendre with n nodes on (0, 1), by Newton's method from Tricomi's guess.
fn gauss_legendre(n: usize) -> Vec<Node> {
    let degree = n as f64;
    let node = |k: usize| {
        let mut x = libm::cos(std::f64::consts::PI * (k as f64 + 0.75) / (degree + 0.5));
        let mut slope = 1.0;
        for _ in 0..6 {
            let (mut before, mut now) = (1.0, x);
            for j in 2..=n {
                let j = j as f64;
                (before, now) = (now, ((2.0 * j - 1.0) * x * now - (j - 1.0) * before) / j);
            }
            slope = degree * (x * now - before) / (x * x - 1.0);
            x -= now / slope;
        }
        (0.5 * (1.0 - x), 1.0 / ((1.0 - x * x) * slope * slope))
    };
    (0..n).map(node).collect()
}

/// f(t) = (alpha + t)^−n (beta + t)^−s: the chance of no purchase and no drop-out up to t, but for a
/// factor. n = r + x.
#[derive(Debug, Clone, Copy)]
pub(super) struct Survival {
    pub n: f64,
    pub alpha: f64,
    pub s: f64,
    pub beta: f64,
}

/// A node in time: the integrand, and how far it is from where the integral begins.
pub(super) struct Visit {
    /// The integrand times the weight.
    pub weight: f64,
    /// u − from.
    pub elapsed: f64,
    /// ln((alpha + u) / (alpha + from)).
    pub ln_alpha: f64,
    /// ln((beta + u) / (beta + from)).
    pub ln_beta: f64,
}

/// How the integral is taken. In v, the integrand is
/// scale · ((low + u) / (low + from))^−p ((high + u) / (high + from))^−q.
struct Stretch {
    low: f64,
    high: f64,
    p: f64,
    q: f64,
    scale: f64,
    /// Of v.
    length: f64,
    n_panels: u32,
    /// The place of the rule for each panel.
    rule: usize,
    /// ln(f(to) / f(from)).
    ln_ratio: f64,
}

impl Survival {
    /// J and f(to) / f(from).
    pub fn parts(&self, from: f64, to: f64) -> (f64, f64) {
        let stretch = self.stretch(from, to);
        let Stretch { low, high, p, q, scale, length, n_panels, rule, ln_ratio } = stretch;
        let integral = if length <= LONGEST {
            let powers = Powers { p, q, ratio: low / high };
            scale * length * powers.mean(Level::best(), &RULES[rule].1, length, n_panels)
        } else {
            let mut integral = 0.0;
            self.visit(from, to, |node| integral += node.weight);
            integral
        };
        (integral, libm::exp(ln_ratio))
    }

    /// Calls `see` with nodes whose weights sum to J.
    #[inline]
    pub fn visit(&self, from: f64, to: f64, mut see: impl FnMut(Visit)) {
        let stretch = self.stretch(from, to);
        let Stretch { low, high, p, q, scale, length, n_panels, rule, .. } = stretch;
        let width = length / f64::from(n_panels);
        let factor = scale * width;
        for panel in 0..n_panels {
            for &(x, weight) in &RULES[rule].0 {
                let ln_low = width * (f64::from(panel) + x);
                let elapsed = libm::expm1(ln_low) * low;
                let ln_high = libm::log1p(elapsed / high);
                let weight = factor * weight * libm::exp(-p * ln_low - q * ln_high);
                let (ln_alpha, ln_beta) =
                    if self.alpha_first() { (ln_low, ln_high) } else { (ln_high, ln_low) };
                see(Visit { weight, elapsed, ln_alpha, ln_beta });
            }
        }
    }

    fn alpha_first(&self) -> bool {
        self.alpha <= self.beta
    }

    #[inline]
    fn stretch(&self, from: f64, to: f64) -> Stretch {
        let elapsed = (to - from).max(0.0);
        let alpha_first = self.alpha_first();
        let (low, high, p, q) = if alpha_first {
            (self.alpha + from, self.beta + from, self.n - 1.0, self.s + 1.0)
        } else {
            (self.beta + from, self.alpha + from, self.s, self.n)
        };
        let scale = if alpha_first { self.s * low / high } else { self.s };
        let (mut length, ln_high) = (libm::log1p(elapsed / low), libm::log1p(elapsed / high));
        let ln_ratio = if alpha_first {
            -self.n * length - self.s * ln_high
        } else {
            -self.n * ln_high - self.s * length
        };
        let mut fall = p * length + q * ln_high;
        if fall > NEGLIGIBLE {
            // Either factor alone falls enough before the end; the first may also rise.
            let rise = (-p).max(0.0) * length;
            let by_high = libm::expm1(((NEGLIGIBLE + rise) / q).min(700.0)) * high / low;
            let by_low = if p > 0.0 { NEGLIGIBLE / p } else { f64::INFINITY };
            length = length.min(libm::log1p(by_high)).min(by_low);
            fall = p * length + q * libm::log1p(libm::expm1(length) * low / high);
        }
        let suits = |(_, fall_reach, reach): &(usize, f64, f64)| {
            fall.abs() <= *fall_reach && length <= *reach
        };
        let rule = REACH.iter().position(suits).unwrap_or(REACH.len() - 1);
        let n_panels = (length / PANEL).ceil().max(1.0) as u32;
        Stretch { low, high, p, q, scale, length, n_panels, rule, ln_ratio }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integrals_are_those_of_forty_digits() {
        // (n, alpha, s, beta), from, to and what mpmath finds.
        let known = [
            ([2.5, 10.0, 0.6, 12.0], 30.0, 39.0, 0.086_635_327_980_694_6),
            ([0.3, 1e-4, 50.0, 1e-2], 0.0, 1.0, 0.767_794_503_928_145_8),
            ([0.02, 1e-4, 30.0, 3.0], 0.0, 1.0, 0.880_792_908_295_558_1),
            ([10_000.5, 5.0, 0.01, 1e-4], 0.3, 1.0, 1.763_026_559_119_410_6e-5),
            ([1.5, 1e4, 0.02, 1e-4], 0.0, 1.0, 0.168_235_348_862_059_5),
            ([40.0, 2.0, 40.0, 2.0], 0.0, 1.0, 0.499_999_999_999_995_9),
            ([3.0, 0.5, 1.0, 0.5], 0.2, 0.200_01, 1.428_520_409_618_418_6e-5),
        ];
        for ([n, alpha, s, beta], from, to, expected) in known {
            let survival = Survival { n, alpha, s, beta };
            let (integral, ratio) = survival.parts(from, to);
            assert!((integral / expected - 1.0).abs() < 1e-11, "{survival:?}: {integral}");
            assert!(integral + ratio <= 1.0 + 1e-12);
        }
    }

    #[test]
    fn a_stretch_is_the_sum_of_its_parts() {
        for (n, alpha, s, beta) in [
            (0.2, 0.01, 0.3, 7.0),
            (30.0, 4.0, 0.9, 1e-6),
            (1e6, 1e5, 1e6, 1e7),
            (0.1, 1e-9, 2.0, 5.0),
        ] {
            let survival = Survival { n, alpha, s, beta };
            let (whole, _) = survival.parts(0.0, 1.0);
            let (mut sum, mut reached, mut from) = (0.0, 1.0, 0.0);
            for to in [1e-7, 1e-5, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.101, 0.3, 0.6, 1.0] {
                let (part, ratio) = survival.parts(from, to);
                sum += reached * part;
                (reached, from) = (reached * ratio, to);
            }
            assert!((sum / whole - 1.0).abs() < 1e-10, "{survival:?}: {sum} {whole}");
        }
    }
}
