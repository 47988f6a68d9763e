//! How many purchases a shop's customers make on average, and the rate that leads to a number.

use super::pace::MEAN_YEAR_DAYS;
use super::population::FASTEST;
use super::{Shop, ShopError};

/// The lowest mean rate that the search looks at: about nobody buys twice.
const SLOWEST: f64 = 1e-9;
/// Points of the sum over dropout probabilities, which is smooth in their log-odds.
const DROPOUTS: u32 = 512;
/// Points of the sum over days of the first purchase.
const ARRIVALS: u32 = 8;
/// Halvings of the search: far finer than what the sums can tell.
const HALVINGS: u32 = 50;

impl Shop {
    /// About how many purchases a customer makes on average, the first one included. Seasons count
    /// as their mean, and campaigns as the mean share of time in which one is at work.
    pub fn expected_orders(&self) -> f64 {
        self.orders_at(self.r / self.alpha_in_force())
    }

    /// The mean purchase rate per day at which customers make so many purchases on average.
    ///
    /// # Errors
    /// [`ShopError::OutOfReach`] where dropout ends most customers' purchases before.
    pub(super) fn rate_for(&self, orders: f64) -> Result<f64, ShopError> {
        let most = self.orders_at(FASTEST);
        if orders > most {
            return Err(ShopError::OutOfReach { asked: orders, most });
        }
        let (mut low, mut high) = (libm::log(SLOWEST), libm::log(FASTEST));
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            if self.orders_at(libm::exp(middle)) < orders {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(libm::exp(low).min(FASTEST))
    }

    /// E[purchases] at a mean rate, over customers' dropout probabilities and first purchases.
    fn orders_at(&self, rate: f64) -> f64 {
        let spans = self.effective_spans();
        let mean_repeats = |p: f64| {
            let repeats = spans.iter().map(|&span| self.repeats(rate, p, span));
            repeats.sum::<f64>() / f64::from(ARRIVALS)
        };
        if self.a == 0.0 {
            return 1.0 + mean_repeats(0.0);
        }
        // In the log-odds z of p, the beta density is p^a (1 - p)^b without poles at the ends.
        let (a, b) = (self.a, self.b);
        let middle = libm::log(a / b);
        let spread = 8.0 * (1.0 / a + 1.0 / b).sqrt();
        let (low, high) = (middle - spread - 40.0 / a, middle + spread + 40.0 / b);
        let step = (high - low) / f64::from(DROPOUTS);
        let (mut total, mut weights) = (0.0, 0.0);
        for point in 0..DROPOUTS {
            let z = low + (f64::from(point) + 0.5) * step;
            let (log_p, log_q) = (-softplus(-z), -softplus(z));
            let weight = libm::exp(a * log_p + b * log_q);
            total += weight * mean_repeats(libm::exp(log_p));
            weights += weight;
        }
        1.0 + total / weights
    }

    /// E[repeat purchases | p] within so many days: the mean over gamma rates of what Fader, Hardie
    /// & Lee (2005) give for one rate, (1 - exp(-lambda p t)) / p.
    fn repeats(&self, rate: f64, p: f64, span: f64) -> f64 {
        if p < 1e-12 {
            return rate * span;
        }
        let alpha = self.r / rate;
        -libm::expm1(-self.r * libm::log1p(p * span / alpha)) / p
    }

    /// Days from first purchases to the end, longer by what campaigns add to the rate.
    fn effective_spans(&self) -> [f64; ARRIVALS as usize] {
        let contacts_at_work = self.contacts_per_year * self.campaign_days / MEAN_YEAR_DAYS;
        let uplift = 1.0 - self.campaign_uplift * libm::expm1(-contacts_at_work);
        let mut spans = [0.0; ARRIVALS as usize];
        for (point, span) in spans.iter_mut().enumerate() {
            let arrival = (point as f64 + 0.5) / f64::from(ARRIVALS) * self.acquisition_days();
            *span = uplift * (f64::from(self.days) - arrival);
        }
        spans
    }
}

/// ln(1 + e^x).
fn softplus(x: f64) -> f64 {
    x.max(0.0) + libm::log1p(libm::exp(-x.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_dropout_it_is_rate_times_time() {
        let shop = Shop { a: 0.0, campaign_uplift: 0.0, acquired_within: 0.0, ..Shop::default() };
        let expected = 1.0 + shop.r / shop.alpha * (f64::from(shop.days) - 0.5);
        assert!((shop.expected_orders() - expected).abs() < 1e-9);
    }

    #[test]
    fn a_settled_shop_expects_what_was_asked() {
        let asked = Shop { mean_orders: Some(10.0), ..Shop::default() };
        let settled = asked.clone().settle().unwrap();
        assert_eq!(settled.mean_orders, None);
        assert!((settled.expected_orders() - 10.0).abs() < 1e-6);
        assert!((asked.expected_orders() - 10.0).abs() < 1e-6);
        assert_eq!(settled.clone().settle(), Ok(settled));
    }

    #[test]
    fn what_dropout_forbids_is_out_of_reach() {
        let shop = Shop { mean_orders: Some(1_000.0), ..Shop::default() };
        assert!(matches!(shop.check(), Err(ShopError::OutOfReach { asked: 1_000.0, .. })));
    }
}
