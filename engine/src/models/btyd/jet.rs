//! Numbers that carry their gradient and Hessian along: second-order forward differentiation.
//!
//! A likelihood is written once, as a formula, and its exact derivatives come with it (Griewank &
//! Walther 2008, *Evaluating Derivatives*, chapter 13). With at most four variables the arithmetic
//! fits into a few vector registers.

use std::ops::{Add, AddAssign, Mul, Neg, Sub};

/// A value as a function of `N` variables, with its first and second derivatives by them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Jet<const N: usize> {
    pub value: f64,
    pub gradient: [f64; N],
    /// Symmetric; kept whole, because whole rows are faster than half the entries.
    pub hessian: [[f64; N]; N],
}

impl<const N: usize> Jet<N> {
    pub const ZERO: Jet<N> = Jet::constant(0.0);

    /// A value that depends on no variable.
    pub const fn constant(value: f64) -> Jet<N> {
        Jet { value, gradient: [0.0; N], hessian: [[0.0; N]; N] }
    }

    /// exp of the variable at `index`, whose own value is `log`: a positive parameter as a function
    /// of its logarithm.
    pub fn positive(index: usize, log: f64) -> Jet<N> {
        let mut jet = Jet::constant(libm::exp(log));
        jet.gradient[index] = jet.value;
        jet.hessian[index][index] = jet.value;
        jet
    }

    /// f of this, by the values of f and of its first two derivatives here.
    #[inline]
    pub fn chain(self, [f, f1, f2]: [f64; 3]) -> Jet<N> {
        let mut jet = Jet { value: f, gradient: [0.0; N], hessian: [[0.0; N]; N] };
        for i in 0..N {
            let slope = self.gradient[i];
            jet.gradient[i] = f1 * slope;
            for j in 0..N {
                jet.hessian[i][j] = f2 * slope * self.gradient[j] + f1 * self.hessian[i][j];
            }
        }
        jet
    }

    /// Natural logarithm.
    #[inline]
    pub fn ln(self) -> Jet<N> {
        let inverse = 1.0 / self.value;
        self.chain([libm::log(self.value), inverse, -inverse * inverse])
    }

    #[inline]
    pub fn exp(self) -> Jet<N> {
        let e = libm::exp(self.value);
        self.chain([e, e, e])
    }

    /// 1 / this.
    #[inline]
    pub fn recip(self) -> Jet<N> {
        let inverse = 1.0 / self.value;
        let square = inverse * inverse;
        self.chain([inverse, -square, 2.0 * square * inverse])
    }

    /// This times a number.
    #[inline]
    pub fn scale(self, factor: f64) -> Jet<N> {
        self.chain([factor * self.value, factor, 0.0])
    }

    /// This plus a number.
    #[inline]
    pub fn shift(mut self, by: f64) -> Jet<N> {
        self.value += by;
        self
    }
}

impl<const N: usize> AddAssign for Jet<N> {
    #[inline]
    fn add_assign(&mut self, other: Jet<N>) {
        self.value += other.value;
        for i in 0..N {
            self.gradient[i] += other.gradient[i];
            for j in 0..N {
                self.hessian[i][j] += other.hessian[i][j];
            }
        }
    }
}

impl<const N: usize> Add for Jet<N> {
    type Output = Jet<N>;

    #[inline]
    fn add(mut self, other: Jet<N>) -> Jet<N> {
        self += other;
        self
    }
}

impl<const N: usize> Neg for Jet<N> {
    type Output = Jet<N>;

    #[inline]
    fn neg(self) -> Jet<N> {
        self.scale(-1.0)
    }
}

impl<const N: usize> Sub for Jet<N> {
    type Output = Jet<N>;

    #[inline]
    fn sub(self, other: Jet<N>) -> Jet<N> {
        self + -other
    }
}

impl<const N: usize> Mul for Jet<N> {
    type Output = Jet<N>;

    #[inline]
    fn mul(self, other: Jet<N>) -> Jet<N> {
        let mut jet = Jet::constant(self.value * other.value);
        for i in 0..N {
            jet.gradient[i] = self.value * other.gradient[i] + other.value * self.gradient[i];
            for j in 0..N {
                let curves = self.value * other.hessian[i][j] + other.value * self.hessian[i][j];
                let cross =
                    self.gradient[i] * other.gradient[j] + self.gradient[j] * other.gradient[i];
                jet.hessian[i][j] = curves + cross;
            }
        }
        jet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a function's gradient and Hessian against central differences of its value and
    /// gradient by the three variables.
    fn assert_derivatives(at: [f64; 3], function: impl Fn([Jet<3>; 3]) -> Jet<3>) {
        let jet = |at: [f64; 3]| function(std::array::from_fn(|i| Jet::positive(i, at[i])));
        let got = jet(at);
        let near = |got: f64, expected: f64, scale: f64| {
            assert!((got - expected).abs() <= 2e-8 * (scale + expected.abs()), "{got} {expected}");
        };
        let largest = got.gradient.iter().fold(got.value.abs(), |most, each| most.max(each.abs()));
        for i in 0..3 {
            let step = 1e-5;
            let (mut above, mut below) = (at, at);
            above[i] += step;
            below[i] -= step;
            let (above, below) = (jet(above), jet(below));
            near(got.gradient[i], (above.value - below.value) / (2.0 * step), largest);
            for j in 0..3 {
                let slope = (above.gradient[j] - below.gradient[j]) / (2.0 * step);
                near(got.hessian[i][j], slope, largest);
                near(got.hessian[j][i], slope, largest);
            }
        }
    }

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        for at in [[0.3, -0.7, 1.1], [-2.0, 0.1, 0.0], [1.5, 2.0, -3.0]] {
            assert_derivatives(at, |[a, b, c]| a * b + b * c.scale(2.0) - a.shift(0.5) * a * c);
            assert_derivatives(at, |[a, b, c]| (a + b * c).ln());
            assert_derivatives(at, |[a, b, c]| (a - b * c).scale(0.1).exp());
            assert_derivatives(at, |[a, b, c]| (a * c + b).recip());
            assert_derivatives(at, |[a, b, c]| {
                -(a.chain([a.value * a.value, 2.0 * a.value, 2.0]) * b * c)
            });
        }
        let mut sum = Jet::<3>::ZERO;
        sum += Jet::positive(1, 0.4);
        assert_eq!(sum, Jet::positive(1, 0.4));
    }

    #[test]
    fn values_are_those_of_plain_numbers() {
        let jet = Jet::<3>::positive(2, libm::log(3.0));
        assert!((jet.value - 3.0).abs() < 1e-15);
        assert_eq!(jet.gradient, [0.0, 0.0, jet.value]);
        assert!((jet.ln().value - libm::log(3.0)).abs() < 1e-15);
        assert!((jet.recip().value - 1.0 / 3.0).abs() < 1e-15);
        assert_eq!((jet - jet).value, 0.0);
    }
}
