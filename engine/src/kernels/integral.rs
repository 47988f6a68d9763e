//! The integral of a product of two powers, on which answers of the Pareto/NBD spend their time.

use super::Level;
use super::exp::{exp, exp_m1, ln_1p};
use super::lanes::{Doubles, EIGHT, PlainDoubles};

/// The longest stretch that [`Powers::mean`] can answer about: beyond, exp(v) may be infinite.
pub const LONGEST: f64 = 600.0;

/// Nodes of a quadrature on (0, 1) with their weights, filled up to whole vectors with nodes that weigh
/// nothing.
#[derive(Debug)]
pub struct Rule {
    nodes: Vec<f64>,
    weights: Vec<f64>,
}

impl Rule {
    /// The rule of these nodes and weights.
    pub fn new(rule: &[(f64, f64)]) -> Rule {
        let (mut nodes, mut weights): (Vec<f64>, Vec<f64>) = rule.iter().copied().unzip();
        nodes.resize(rule.len().next_multiple_of(EIGHT), 0.0);
        weights.resize(nodes.len(), 0.0);
        Rule { nodes, weights }
    }
}

/// exp(v)^−p (1 + (exp(v) − 1) ratio)^−q of v from 0 on.
#[derive(Debug, Clone, Copy)]
pub struct Powers {
    /// Above −1.
    pub p: f64,
    /// Not negative.
    pub q: f64,
    /// From 0 to 1.
    pub ratio: f64,
}

impl Powers {
    /// The mean over v from 0 to `length`, at most [`LONGEST`], by a rule for each of so many panels.
    pub fn mean(&self, level: Level, rule: &Rule, length: f64, n_panels: u32) -> f64 {
        // SAFETY: a level is one that the machine has.
        let sum = match level {
            Level::Plain => unsafe { sum::<PlainDoubles>(self, rule, length, n_panels) },
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2_sum(self, rule, length, n_panels) },
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512_sum(self, rule, length, n_panels) },
        };
        sum / f64::from(n_panels)
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512_sum(of: &Powers, rule: &Rule, length: f64, n_panels: u32) -> f64 {
    // SAFETY: the instruction set is enabled here.
    unsafe { sum::<super::lanes::x86::Avx512Doubles>(of, rule, length, n_panels) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2_sum(of: &Powers, rule: &Rule, length: f64, n_panels: u32) -> f64 {
    // SAFETY: the instruction set is enabled here.
    unsafe { sum::<super::lanes::x86::Avx2Doubles>(of, rule, length, n_panels) }
}

/// The sum over all nodes of weight times value.
#[inline(always)]
unsafe fn sum<S: Doubles>(of: &Powers, rule: &Rule, length: f64, n_panels: u32) -> f64 {
    let width = length / f64::from(n_panels);
    let mut sums = [0.0; EIGHT];
    // SAFETY: the caller promises the instruction set; a rule has as many weights as nodes, in whole
    // vectors.
    unsafe {
        let (p, q, ratio) = (S::splat(of.p), S::splat(of.q), S::splat(of.ratio));
        let mut sum = S::splat(0.0);
        for panel in 0..n_panels {
            let (panel, width) = (S::splat(f64::from(panel)), S::splat(width));
            for first in (0..rule.nodes.len()).step_by(EIGHT) {
                let node = S::load(rule.nodes.as_ptr().add(first));
                let weight = S::load(rule.weights.as_ptr().add(first));
                let v = panel.add(node).mul(width);
                let ln_high = ln_1p(exp_m1(v).mul(ratio));
                let ln_value = S::splat(0.0).minus(p, v).minus(q, ln_high);
                sum = sum.plus(weight, exp(ln_value));
            }
        }
        sum.store(sums.as_mut_ptr());
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_power_alone_has_its_known_integral() {
        // Two nodes of Gauss and Legendre are exact for cubics, and near it for a short stretch.
        let x = 0.5 / libm::sqrt(3.0);
        let rule = Rule::new(&[(0.5 - x, 0.5), (0.5 + x, 0.5)]);
        for (p, q, ratio) in [(3.0, 0.0, 0.5), (0.0, 3.0, 1.0), (1.0, 2.0, 1.0)] {
            let mean = Powers { p, q, ratio }.mean(Level::Plain, &rule, 2.0, 400);
            let expected = (1.0 - libm::exp(-6.0)) / 6.0;
            assert!((mean / expected - 1.0).abs() < 1e-10, "{mean} {expected}");
        }
    }

    proptest! {
        #[test]
        fn every_level_gives_the_same_bits(
            fall_p in -1.0..40.0f64, fall_q in 0.0..40.0f64, ratio in 0.0..=1.0f64,
            ln_length in -20.0..6.3f64, rule in prop::collection::vec((0.0..1.0f64, 0.0..1.0f64), 1..33),
            n_panels in 1u32..5,
        ) {
            // Powers that leave something of the integrand at its end.
            let length = libm::exp(ln_length);
            let p = (fall_p / length).max(-0.999);
            let q = fall_q / libm::log1p(libm::expm1(length) * ratio).max(1e-9);
            let (of, rule) = (Powers { p, q, ratio }, Rule::new(&rule));
            let plain = of.mean(Level::Plain, &rule, length, n_panels);
            prop_assert!(plain > 0.0 && plain.is_finite());
            for level in Level::present() {
                let other = of.mean(*level, &rule, length, n_panels);
                prop_assert_eq!(plain.to_bits(), other.to_bits(), "{:?}", level);
            }
        }
    }
}
