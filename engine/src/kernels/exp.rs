//! exp, for many numbers at once.

use super::lanes::Doubles;

/// Below this the result would be subnormal; it is zero.
const LEAST: f64 = -708.0;

/// 1.5 * 2^52, which leaves an integer in the low bits of what it is added to.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// ln 2 in two parts, of which the first has enough zeros at its end for exact products.
const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// 1 / n!, from n = 13 down to 2: enough for |r| <= ln 2 / 2, where the first term left out is
/// 5e-18 of the sum.
const TERMS: [f64; 12] = [
    1.0 / 6_227_020_800.0,
    1.0 / 479_001_600.0,
    1.0 / 39_916_800.0,
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
];

/// exp of numbers up to 700, by x = n ln 2 + r and the series of exp r.
#[inline(always)]
pub(super) unsafe fn exp<S: Doubles>(x: S) -> S {
    // SAFETY: the caller promises the instruction set of `S`.
    unsafe {
        let one = S::splat(1.0);
        let rounder = S::splat(ROUNDER);
        let power = rounder.plus(x, S::splat(std::f64::consts::LOG2_E));
        let n = power.sub(rounder);
        let rest = x.minus(n, S::splat(LN_2_HIGH)).minus(n, S::splat(LN_2_LOW));
        let mut series = S::splat(TERMS[0]);
        for term in &TERMS[1..] {
            series = S::splat(*term).plus(series, rest);
        }
        let value = one.plus(one.plus(series, rest), rest);
        value.scaled(power).unless_below(x, LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::{EIGHT, PlainDoubles};
    use super::*;

    fn plain(x: f64) -> f64 {
        let (from, mut to) = ([x; EIGHT], [0.0; EIGHT]);
        // SAFETY: the plain lanes need no instruction set, and the arrays hold eight.
        unsafe { exp(PlainDoubles::load(from.as_ptr())).store(to.as_mut_ptr()) };
        to[0]
    }

    #[test]
    fn it_is_within_a_unit_in_the_last_place() {
        let mut worst = 0f64;
        for step in 0..200_000 {
            let x = -700.0 + f64::from(step) * 0.003_501;
            let (ours, theirs) = (plain(x), libm::exp(x));
            worst = worst.max(((ours - theirs) / theirs).abs());
        }
        assert!(worst <= 1.5 * f64::EPSILON, "{worst:e}");
    }

    #[test]
    fn its_ends_are_exact() {
        assert_eq!([0.0, -0.0, -709.0, f64::NEG_INFINITY].map(plain), [1.0, 1.0, 0.0, 0.0]);
        assert!(plain(f64::NAN).is_nan());
    }
}
