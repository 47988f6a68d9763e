//! exp, exp(x) − 1 and ln(1 + x), for many numbers at once.

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

/// 1 / (2 n + 1), from n = 10 down to 1: enough for |s| <= 0.172, where the first term left out is
/// 6e-19 of the sum.
const ODD: [f64; 10] = [
    1.0 / 21.0,
    1.0 / 19.0,
    1.0 / 17.0,
    1.0 / 15.0,
    1.0 / 13.0,
    1.0 / 11.0,
    1.0 / 9.0,
    1.0 / 7.0,
    1.0 / 5.0,
    1.0 / 3.0,
];

/// exp of numbers up to 700, by x = n ln 2 + r and the series of exp r.
#[inline(always)]
pub(super) unsafe fn exp<S: Doubles>(x: S) -> S {
    // SAFETY: the caller promises the instruction set of `S`.
    unsafe {
        let one = S::splat(1.0);
        let (power, rest, series) = reduced(x);
        let value = one.plus(one.plus(series, rest), rest);
        value.scaled(power).unless_below(x, LEAST)
    }
}

/// exp(x) - 1 of numbers from -700 to 700.
#[inline(always)]
pub(super) unsafe fn exp_m1<S: Doubles>(x: S) -> S {
    // SAFETY: as in `exp`.
    unsafe {
        let one = S::splat(1.0);
        let (power, rest, series) = reduced(x);
        let above_one = one.plus(series, rest).mul(rest);
        // 2^n - 1 is exact or far above what it lacks.
        let two_to_n = one.scaled(power);
        two_to_n.sub(one).plus(above_one, two_to_n)
    }
}

/// n in the lowest bits of the first, r of x = n ln 2 + r, and (exp r - 1 - r) / r².
#[inline(always)]
unsafe fn reduced<S: Doubles>(x: S) -> (S, S, S) {
    // SAFETY: as in `exp`.
    unsafe {
        let rounder = S::splat(ROUNDER);
        let power = rounder.plus(x, S::splat(std::f64::consts::LOG2_E));
        let n = power.sub(rounder);
        let rest = x.minus(n, S::splat(LN_2_HIGH)).minus(n, S::splat(LN_2_LOW));
        let mut series = S::splat(TERMS[0]);
        for term in &TERMS[1..] {
            series = S::splat(*term).plus(series, rest);
        }
        (power, rest, series)
    }
}

/// ln(1 + x) of numbers from 0 to 1e300, by 1 + x = 2^n m and the series of ln m in
/// s = (m - 1) / (m + 1).
#[inline(always)]
pub(super) unsafe fn ln_1p<S: Doubles>(x: S) -> S {
    // SAFETY: as in `exp`.
    unsafe {
        let one = S::splat(1.0);
        let sum = one.add(x);
        let lost = x.sub(sum.sub(one));
        let (n, m) = sum.split();
        let above_one = m.sub(one);
        let s = above_one.div(above_one.add(S::splat(2.0)));
        let square = s.mul(s);
        let mut series = S::splat(ODD[0]);
        for term in &ODD[1..] {
            series = S::splat(*term).plus(series, square);
        }
        let twice = s.add(s);
        let ln_m = twice.plus(twice.mul(square), series);
        let small = lost.div(sum).plus(n, S::splat(LN_2_LOW));
        ln_m.add(small).plus(n, S::splat(LN_2_HIGH))
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::{EIGHT, PlainDoubles};
    use super::*;

    /// The plain twin of a function, of one number.
    macro_rules! plain {
        ($function:ident, $x:expr) => {{
            let (from, mut to) = ([$x; EIGHT], [0.0; EIGHT]);
            // SAFETY: the plain lanes need no instruction set, and the arrays hold eight.
            unsafe { $function(PlainDoubles::load(from.as_ptr())).store(to.as_mut_ptr()) };
            to[0]
        }};
    }

    fn plain(x: f64) -> f64 {
        plain!(exp, x)
    }

    #[test]
    fn its_relatives_keep_small_numbers() {
        let (mut of_m1, mut of_ln) = (0f64, 0f64);
        for step in 0..200_000 {
            // From 1e-20 to 1e2, and to 1e300.
            let x = libm::exp10(-20.0 + f64::from(step) * 1.1e-4);
            for x in [x, -x] {
                of_m1 = of_m1.max((plain!(exp_m1, x) / libm::expm1(x) - 1.0).abs());
            }
            let x = libm::exp10(-20.0 + f64::from(step) * 1.6e-3);
            of_ln = of_ln.max((plain!(ln_1p, x) / libm::log1p(x) - 1.0).abs());
        }
        assert!(of_m1 <= 3.0 * f64::EPSILON, "{of_m1:e}");
        assert!(of_ln <= 3.0 * f64::EPSILON, "{of_ln:e}");
        assert_eq!((plain!(exp_m1, 0.0), plain!(ln_1p, 0.0)), (0.0, 0.0));
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
