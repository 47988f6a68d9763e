//! The purchase summary that baselines, profiles and probability models share.

/// One customer's purchases up to an as-of, per calendar day (Fader & Hardie's x, t_x, T, in days).
///
/// Several purchases on one day are one purchase period.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Lifetime {
    /// Days with at least one purchase.
    pub purchase_days: u32,
    /// Repeat purchase periods: `purchase_days - 1`, or 0.
    pub frequency: u32,
    /// Days from the first to the last purchase.
    pub recency_days: u32,
    /// T: days from the first purchase (the first event where there is none) to the as-of.
    pub age_days: u32,
    /// Days from the last purchase to the as-of; T where there is none.
    pub days_since_last_purchase: u32,
    /// Days between the last two purchases; 0 without repeats.
    pub last_gap_days: u32,
    /// Of the purchase days those within the last quarter of T, which is at least a week long here.
    pub in_last_quarter: u32,
    /// The same of the last half.
    pub in_last_half: u32,
    /// Σ ln of the days between consecutive purchase periods; 0 without repeats.
    pub ln_gaps: f64,
    /// Spend over all purchases, in major currency units.
    pub total_spend: f64,
    /// Mean spend of the repeat purchase days, in major currency units; 0 without repeats.
    pub monetary_value: f64,
    /// Days in a row without activity, where churn is inactivity.
    pub inactive_days: Option<u32>,
}

impl Lifetime {
    /// For how many days the customer has been silent, as churn understands it: without activity where
    /// churn is inactivity, and else without a purchase.
    pub fn silent_days(&self) -> u32 {
        self.inactive_days.unwrap_or(self.days_since_last_purchase)
    }

    /// Mean spend of a purchase day, in major currency units; 0 without purchases.
    pub fn mean_spend(&self) -> f64 {
        if self.purchase_days == 0 { 0.0 } else { self.total_spend / f64::from(self.purchase_days) }
    }
}
