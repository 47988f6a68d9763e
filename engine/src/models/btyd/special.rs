//! The derivatives of ln Γ.

/// From here on the asymptotic series give every bit.
const FAR: f64 = 10.0;

/// ψ(x), the derivative of ln Γ, for x > 0; −∞ at 0, NaN below. Within 2e-15 of max(1, |ψ|).
///
/// By ψ(x) = ψ(x + 1) − 1 / x until the asymptotic series holds (Abramowitz & Stegun 1964, 6.3.5
/// and 6.3.18).
pub(super) fn digamma(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    let (mut x, mut sum) = (x, 0.0);
    while x < FAR {
        sum += 1.0 / x;
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    // B_2k / 2k.
    let tail = [
        1.0 / 12.0,
        -1.0 / 120.0,
        1.0 / 252.0,
        -1.0 / 240.0,
        1.0 / 132.0,
        -691.0 / 32_760.0,
        1.0 / 12.0,
    ];
    libm::log(x) - 0.5 / x - square * polynomial(&tail, square) - sum
}

/// ψ'(x), the second derivative of ln Γ, for x > 0; ∞ at 0, NaN below. Within 2e-15 of its value.
///
/// By ψ'(x) = ψ'(x + 1) + 1 / x² until the asymptotic series holds (Abramowitz & Stegun 1964,
/// 6.4.6 and 6.4.12).
pub(super) fn trigamma(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    let (mut x, mut sum) = (x, 0.0);
    while x < FAR {
        sum += 1.0 / (x * x);
        x += 1.0;
    }
    let (inverse, square) = (1.0 / x, 1.0 / (x * x));
    // B_2k.
    let tail = [
        1.0 / 6.0,
        -1.0 / 30.0,
        1.0 / 42.0,
        -1.0 / 30.0,
        5.0 / 66.0,
        -691.0 / 2730.0,
        7.0 / 6.0,
        -3617.0 / 510.0,
    ];
    inverse + 0.5 * square + inverse * square * polynomial(&tail, square) + sum
}

/// Σ coefficient_k x^k.
fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(got: f64, expected: f64) {
        assert!((got - expected).abs() <= 4e-15 * expected.abs().max(1.0), "{got} {expected}");
    }

    #[test]
    fn digamma_and_trigamma_have_their_known_values() {
        // −γ; −γ − 2 ln 2; and sums of reciprocals.
        let euler = 0.577_215_664_901_532_9;
        assert_near(digamma(1.0), -euler);
        assert_near(digamma(0.5), -euler - 2.0 * std::f64::consts::LN_2);
        let harmonic = |n: u32, power: fn(f64) -> f64| -> f64 {
            (1..n).map(|i| 1.0 / power(f64::from(i))).sum()
        };
        let basel = std::f64::consts::PI * std::f64::consts::PI / 6.0;
        for n in [2, 9, 10, 11, 200] {
            assert_near(digamma(f64::from(n)), harmonic(n, |i| i) - euler);
            assert_near(trigamma(f64::from(n)), basel - harmonic(n, |i| i * i));
        }
        assert_near(trigamma(0.5), 3.0 * basel);
        assert_near(digamma(1e-300) / 1e300, -1.0);
        assert_near(digamma(1e15), libm::log(1e15));
        assert!(digamma(-1e300).is_nan() && trigamma(f64::NAN).is_nan());
    }
}
