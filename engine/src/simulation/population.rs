//! The parameters of a shop and its customers, and what they may be.

use crate::domain::Day;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The highest mean rate of purchases of a shop, per customer and day.
pub(super) const FASTEST: f64 = 5.0;

/// Smaller shapes make draws that no float can tell from zero.
const LEAST_SHAPE: f64 = 0.05;
const MOST_SHAPE: f64 = 100.0;

/// A shop and the people who buy there. Rates are per day, probabilities and shares from 0 to 1,
/// days are days of UTC. The defaults are those of no particular shop, but of a plausible one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shop {
    /// The first day of the log.
    pub start: Day,
    /// How many days the log spans.
    pub days: u32,
    /// The share of the span, from its start, in which customers make their first purchase, at
    /// instants spread evenly. With 0, all do on the first day.
    pub acquired_within: f64,
    /// BG/NBD: the shape of the gamma distribution of purchase rates (Fader, Hardie & Lee 2005).
    pub r: f64,
    /// BG/NBD: its rate parameter, in days. The mean customer buys `r / alpha` times a day.
    pub alpha: f64,
    /// BG/NBD: the first shape of the beta distribution of the probability of staying away for good
    /// after a repeat purchase. With 0, nobody ever does.
    pub a: f64,
    /// BG/NBD: its second shape.
    pub b: f64,
    /// The mean number of purchases per customer, the first one included. Where it is given, the
    /// purchase rates are scaled so that about so many result, and `alpha` does not count.
    pub mean_orders: Option<f64>,
    /// How far the purchase rate swings around its mean within a year, as a share of it.
    pub season_amplitude: f64,
    /// The day of the year, from 1, on which the rate is highest.
    pub season_peak_day: u16,
    /// The mean list price of an order over all customers, in major currency units.
    pub spend_mean: f64,
    /// How alike customers' mean list prices are: the shape of their inverse gamma distribution, as
    /// in the Gamma-Gamma model (Fader & Hardie 2013). Larger is more alike.
    pub spend_shape: f64,
    /// How much one customer's orders differ: the standard deviation of ln(list price).
    pub spend_sigma: f64,
    /// Mean number of units of an order beyond the first.
    pub extra_units: f64,
    /// The probability that an order has a discount.
    pub discount_probability: f64,
    /// The mean share of the list price that a discount takes off.
    pub discount_depth: f64,
    /// Visits that end without a purchase, per purchase.
    pub visits_per_purchase: f64,
    /// The share of these visits in which something is put into the cart.
    pub cart_share: f64,
    /// The probability that an order is refunded, in full or in part.
    pub refund_probability: f64,
    /// The probability that an order is rated.
    pub rating_probability: f64,
    /// Campaign contacts of a customer per year, also of those who stay away for good.
    pub contacts_per_year: f64,
    /// For how many days a contact raises the purchase rate.
    pub campaign_days: f64,
    /// By what share of it a contact raises the purchase rate.
    pub campaign_uplift: f64,
    /// How many items are sold.
    pub items: u32,
    /// How many categories these items fall into.
    pub categories: u32,
    /// How many channels there are.
    pub channels: u8,
    /// How often a customer keeps to the favourite category or channel without a second thought.
    pub loyalty: f64,
}

impl Default for Shop {
    fn default() -> Shop {
        Shop {
            // 2020-01-01.
            start: Day(18_262),
            days: 730,
            acquired_within: 0.5,
            r: 0.8,
            alpha: 50.0,
            a: 1.2,
            b: 8.8,
            mean_orders: None,
            season_amplitude: 0.35,
            // The middle of December.
            season_peak_day: 349,
            spend_mean: 48.0,
            spend_shape: 3.5,
            spend_sigma: 0.5,
            extra_units: 0.4,
            discount_probability: 0.2,
            discount_depth: 0.15,
            visits_per_purchase: 4.0,
            cart_share: 0.3,
            refund_probability: 0.05,
            rating_probability: 0.08,
            contacts_per_year: 12.0,
            campaign_days: 5.0,
            campaign_uplift: 0.3,
            items: 600,
            categories: 12,
            channels: 3,
            loyalty: 0.6,
        }
    }
}

/// Why no customers can be drawn for a shop.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ShopError {
    #[error("`{field}` is {value}; it must lie between {least} and {most}")]
    OutOfRange { field: &'static str, value: f64, least: f64, most: f64 },
    #[error(
        "`mean_orders` is {asked}, but customers of this span and dropout make {most:.1} at most"
    )]
    OutOfReach { asked: f64, most: f64 },
}

impl Shop {
    /// Refuses parameters by which nobody could be drawn, or would buy without end.
    ///
    /// # Errors
    /// The first [`ShopError`], which names its field.
    pub fn check(&self) -> Result<(), ShopError> {
        let least_a = if self.a == 0.0 { 0.0 } else { LEAST_SHAPE };
        let ranges = [
            // From 1900 to 2199: every instant can be spelled and compared.
            ("start", f64::from(self.start.0), -25_567.0, 84_005.0),
            ("days", f64::from(self.days), 1.0, 36_525.0),
            ("acquired_within", self.acquired_within, 0.0, 1.0),
            ("r", self.r, LEAST_SHAPE, MOST_SHAPE),
            ("alpha", self.alpha, self.r / FASTEST, 1e12),
            ("a", self.a, least_a, MOST_SHAPE),
            ("b", self.b, LEAST_SHAPE, MOST_SHAPE),
            ("mean_orders", self.mean_orders.unwrap_or(1.0), 1.0, 10_000.0),
            ("season_amplitude", self.season_amplitude, 0.0, 1.0),
            ("season_peak_day", f64::from(self.season_peak_day), 1.0, 366.0),
            ("spend_mean", self.spend_mean, 0.01, 1e6),
            ("spend_shape", self.spend_shape, 1.1, 1e6),
            ("spend_sigma", self.spend_sigma, 0.0, 3.0),
            ("extra_units", self.extra_units, 0.0, 100.0),
            ("discount_probability", self.discount_probability, 0.0, 1.0),
            // A single discount is at most half as deep again, which must leave a price.
            ("discount_depth", self.discount_depth, 0.0, 0.6),
            ("visits_per_purchase", self.visits_per_purchase, 0.0, 100.0),
            ("cart_share", self.cart_share, 0.0, 1.0),
            ("refund_probability", self.refund_probability, 0.0, 1.0),
            ("rating_probability", self.rating_probability, 0.0, 1.0),
            ("contacts_per_year", self.contacts_per_year, 0.0, 1_000.0),
            ("campaign_days", self.campaign_days, 0.0, 366.0),
            ("campaign_uplift", self.campaign_uplift, 0.0, 10.0),
            ("categories", f64::from(self.categories), 1.0, 1e6),
            ("items", f64::from(self.items), f64::from(self.categories), 1e9),
            ("channels", f64::from(self.channels), 1.0, 255.0),
            ("loyalty", self.loyalty, 0.0, 1.0),
        ];
        // What is not a number lies in no range.
        let bad =
            ranges.into_iter().find(|(_, value, least, most)| !(*least..=*most).contains(value));
        if let Some((field, value, least, most)) = bad {
            return Err(ShopError::OutOfRange { field, value, least, most });
        }
        match self.mean_orders {
            Some(orders) => self.rate_for(orders).map(|_| ()),
            None => Ok(()),
        }
    }

    /// The same shop with `mean_orders` turned into the `alpha` that leads to it. That takes a
    /// search, so it is done once for many customers.
    ///
    /// # Errors
    /// As [`Shop::check`].
    pub fn settle(self) -> Result<Shop, ShopError> {
        self.check()?;
        Ok(Shop { alpha: self.alpha_in_force(), mean_orders: None, ..self })
    }

    /// The same shop without visits, carts, refunds and ratings. Customers make the same purchases,
    /// because nothing of these is drawn before the last of them; campaigns stay, since they move
    /// purchases.
    pub fn only_purchases(self) -> Shop {
        Shop { visits_per_purchase: 0.0, refund_probability: 0.0, rating_probability: 0.0, ..self }
    }

    /// The `alpha` by which customers are drawn.
    pub(super) fn alpha_in_force(&self) -> f64 {
        match self.mean_orders {
            Some(orders) => self.r / self.rate_for(orders).unwrap_or(FASTEST),
            None => self.alpha,
        }
    }

    /// Within how many days of the start first purchases are made: the first day at least.
    pub(super) fn acquisition_days(&self) -> f64 {
        (self.acquired_within * f64::from(self.days)).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_sound_and_what_is_not_is_named() {
        assert_eq!(Shop::default().check(), Ok(()));
        for (shop, field) in [
            (Shop { r: f64::NAN, ..Shop::default() }, "r"),
            (Shop { alpha: 0.0, ..Shop::default() }, "alpha"),
            (Shop { a: -1.0, ..Shop::default() }, "a"),
            (Shop { days: 0, ..Shop::default() }, "days"),
            (Shop { mean_orders: Some(0.5), ..Shop::default() }, "mean_orders"),
            (Shop { items: 3, categories: 4, ..Shop::default() }, "items"),
            (Shop { start: Day(i32::MAX), ..Shop::default() }, "start"),
        ] {
            let error = shop.check().unwrap_err();
            assert!(matches!(error, ShopError::OutOfRange { field: bad, .. } if bad == field));
            assert!(error.to_string().contains(field), "{error}");
        }
    }

    #[test]
    fn parameters_left_out_are_the_default() {
        let shop: Shop = serde_json::from_str(r#"{"days": 90, "r": 1.5}"#).unwrap();
        assert_eq!(shop, Shop { days: 90, r: 1.5, ..Shop::default() });
        assert!(serde_json::from_str::<Shop>(r#"{"day": 90}"#).is_err());
    }
}
