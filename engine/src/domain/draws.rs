//! Draws from the distributions that simulated customers and posterior draws need.
//!
//! Logarithms and the like come from `libm`, so that every machine draws the same bits.

use super::Seed;
use rand::RngCore;
use rand_xoshiro::Xoshiro256Plus;

/// A source of chance.
#[derive(Debug, Clone)]
pub struct Draws(Xoshiro256Plus);

impl Draws {
    /// The source that starts from this seed.
    pub fn new(seed: Seed) -> Draws {
        Draws(seed.rng())
    }

    /// Uniform on the open interval (0, 1), so that its logarithm is finite and not zero.
    pub fn unit(&mut self) -> f64 {
        // The generator's lowest bits are its weakest; half a step keeps both ends away.
        ((self.0.next_u64() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of 0..n, all equally likely; 0 where there is none.
    pub fn below(&mut self, n: u32) -> u32 {
        ((self.unit() * f64::from(n)) as u32).min(n.saturating_sub(1))
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -libm::log(self.unit())
    }

    /// Standard normal, by the polar method of Marsaglia & Bray (1964), "A Convenient Method for
    /// Generating Normal Variables", *SIAM Review* 6(3).
    pub fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return x * (-2.0 * libm::log(square) / square).sqrt();
            }
        }
    }

    /// Log-normal with this mean; `sigma` is the standard deviation of its logarithm.
    pub fn lognormal(&mut self, mean: f64, sigma: f64) -> f64 {
        mean * libm::exp(sigma * self.normal() - 0.5 * sigma * sigma)
    }

    /// Gamma with this shape (above 0) and scale 1, after Marsaglia & Tsang (2000), "A Simple
    /// Method for Generating Gamma Variables", *ACM TOMS* 26(3).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            // Their remark for small shapes: one more, and a power of a uniform draw.
            return self.gamma(shape + 1.0) * libm::pow(self.unit(), 1.0 / shape);
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let root = 1.0 + c * x;
            if root <= 0.0 {
                continue;
            }
            let v = root * root * root;
            if libm::log(self.unit()) < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return d * v;
            }
        }
    }

    /// Beta with these shapes, as a share of two gammas.
    pub fn beta(&mut self, a: f64, b: f64) -> f64 {
        let (x, y) = (self.gamma(a), self.gamma(b));
        x / (x + y)
    }

    /// Poisson, by counting arrivals: the work grows with the mean, which is small here.
    pub fn poisson(&mut self, mean: f64) -> u32 {
        let mut count = 0;
        let mut elapsed = self.exponential();
        while elapsed < mean {
            count += 1;
            elapsed += self.exponential();
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: usize = 20_000;

    /// Mean and variance of many draws.
    fn moments(mut draw: impl FnMut(&mut Draws) -> f64) -> (f64, f64) {
        let mut draws = Draws::new(Seed(7));
        let values: Vec<f64> = (0..N).map(|_| draw(&mut draws)).collect();
        let mean = values.iter().sum::<f64>() / N as f64;
        let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        (mean, squares / N as f64)
    }

    fn assert_near(got: (f64, f64), mean: f64, variance: f64) {
        assert!((got.0 - mean).abs() < 0.05 * (mean.abs() + variance.sqrt()), "mean {got:?}");
        assert!((got.1 - variance).abs() < 0.15 * variance, "variance {got:?}");
    }

    #[test]
    fn draws_have_the_moments_of_their_distributions() {
        assert_near(moments(Draws::unit), 0.5, 1.0 / 12.0);
        assert_near(moments(Draws::exponential), 1.0, 1.0);
        assert_near(moments(Draws::normal), 0.0, 1.0);
        for shape in [0.3, 1.0, 4.0] {
            assert_near(moments(|draws| draws.gamma(shape)), shape, shape);
        }
        let (a, b) = (1.2, 8.8);
        let variance = a * b / ((a + b) * (a + b) * (a + b + 1.0));
        assert_near(moments(|draws| draws.beta(a, b)), a / (a + b), variance);
        assert_near(moments(|draws| f64::from(draws.poisson(2.5))), 2.5, 2.5);
        let variance = 100.0 * (libm::exp(0.25) - 1.0);
        assert_near(moments(|draws| draws.lognormal(10.0, 0.5)), 10.0, variance);
    }

    #[test]
    fn whole_numbers_and_chances_keep_to_their_bounds() {
        let mut draws = Draws::new(Seed(1));
        let mut seen = [false; 3];
        for _ in 0..100 {
            seen[draws.below(3) as usize] = true;
            assert!(!draws.chance(0.0));
            assert!(draws.chance(1.0));
        }
        assert_eq!(seen, [true; 3]);
        assert_eq!((draws.below(1), draws.below(0), draws.poisson(0.0)), (0, 0, 0));
    }
}
