//! What a model of purchases sees of customers: how often, how lately and for how long each bought.

use super::BtydError;
use crate::domain::Lifetime;
use rayon::prelude::*;

/// No gap between two purchases that is a positive number has a logarithm further than this from 0.
const LARGEST_LN_GAP: f64 = 746.0;

/// Fixed-point steps per 1 in which sums of logarithms are taken, so that they do not depend on the
/// order of the customers.
const STEPS: f64 = (1u64 << 52) as f64;

/// One customer's purchases up to an as-of, as in Fader, Hardie & Lee (2005), "Counting Your
/// Customers the Easy Way", *Marketing Science* 24(2). Times are in one unit, any unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Purchases {
    /// x, the purchases after the first.
    pub frequency: u32,
    /// t_x, from the first purchase to the last; 0 where there was one only.
    pub recency: f64,
    /// T, from the first purchase to the as-of.
    pub age: f64,
    /// Σ ln of the x gaps between purchases; 0 where x = 0.
    pub ln_gaps: f64,
}

impl Purchases {
    /// Whether these numbers can be a customer's: 0 <= t_x <= T, all finite, t_x = 0 where x = 0
    /// and only there, and a sum of logarithms that x positive gaps can have.
    pub fn check(&self) -> bool {
        let ordered = 0.0 <= self.recency && self.recency <= self.age && self.age.is_finite();
        let repeats = (self.frequency > 0) == (self.recency > 0.0);
        ordered && repeats && self.ln_gaps.abs() <= LARGEST_LN_GAP * f64::from(self.frequency)
    }
}

impl From<&Lifetime> for Purchases {
    /// In days. A customer who never bought counts as one who did once, at the first event.
    fn from(lifetime: &Lifetime) -> Purchases {
        Purchases {
            frequency: lifetime.frequency,
            recency: f64::from(lifetime.recency_days),
            age: f64::from(lifetime.age_days),
            ln_gaps: lifetime.ln_gaps,
        }
    }
}

/// The customers that a fit learns from, as unique rows with weights: purchases at the resolution
/// of days repeat themselves, and a likelihood is the same for all customers of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Cohort {
    /// What the times here were divided by: the mean age of the customers, or 1 where that is 0,
    /// unless it was given. A fit in this unit does not depend on the customers' own.
    pub(super) unit: f64,
    /// `(n_rows,)`, ascending by frequency, then recency, then age.
    pub(super) rows: Vec<Row>,
    /// Unique T in units, ascending. Neighbours that differ in their last bits only may have become
    /// the same number.
    pub(super) ages: Vec<f64>,
    /// Unique t_x in units, ascending; likewise.
    pub(super) recencies: Vec<f64>,
    pub(super) n_customers: f64,
    pub(super) max_frequency: u32,
    /// Σ ln of all gaps of all customers, in units. It enters every likelihood as a term of its
    /// own, so rows need not tell their part of it.
    pub(super) ln_gaps: f64,
}

/// Customers who are alike in x, t_x and T.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    pub frequency: u32,
    /// Index into the cohort's `recencies`.
    pub recency: u32,
    /// Index into the cohort's `ages`.
    pub age: u32,
    /// The number of customers.
    pub weight: f64,
}

impl Cohort {
    /// Gathers customers. Their order does not matter; times that differ at all are different.
    ///
    /// # Errors
    /// [`BtydError::NoCustomers`]; [`BtydError::Invalid`] with the first customer who fails
    /// [`Purchases::check`].
    pub fn new(customers: &[Purchases]) -> Result<Cohort, BtydError> {
        Cohort::gather(customers, None)
    }

    /// Gathers customers in a unit of time that is another cohort's.
    pub(super) fn with_unit(customers: &[Purchases], unit: f64) -> Result<Cohort, BtydError> {
        Cohort::gather(customers, Some(unit))
    }

    fn gather(customers: &[Purchases], unit: Option<f64>) -> Result<Cohort, BtydError> {
        if customers.is_empty() {
            return Err(BtydError::NoCustomers);
        }
        let sums = customers
            .par_iter()
            .map(|each| {
                let steps = || ((each.ln_gaps * STEPS) as i128, u64::from(each.frequency));
                each.check().then(steps)
            })
            .try_reduce(|| (0, 0), |one, other| Some((one.0 + other.0, one.1 + other.1)));
        let Some((ln_gaps, n_gaps)) = sums else {
            let customer = customers.iter().position(|each| !each.check()).unwrap_or_default();
            return Err(BtydError::Invalid { customer });
        };
        let (recencies, ages) = rayon::join(
            || Ranked::new(customers, |each| each.recency),
            || Ranked::new(customers, |each| each.age),
        );
        let rows = unique_rows(customers, &recencies.ranks, &ages.ranks);
        let n_customers = customers.len() as f64;
        let unit = unit.unwrap_or_else(|| mean_age(&rows, &ages.values, n_customers));
        let in_units = |times: Vec<f64>| times.into_iter().map(|time| time / unit).collect();
        Ok(Cohort {
            unit,
            max_frequency: rows.last().map_or(0, |row| row.frequency),
            rows,
            ages: in_units(ages.values),
            recencies: in_units(recencies.values),
            n_customers,
            ln_gaps: ln_gaps as f64 / STEPS - n_gaps as f64 * libm::log(unit),
        })
    }

    /// Number of unique rows.
    pub fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// Number of customers.
    pub fn n_customers(&self) -> f64 {
        self.n_customers
    }
}

/// One time of every customer, by its place among the unique ones.
struct Ranked {
    /// Unique, ascending.
    values: Vec<f64>,
    /// `(n_customers,)`, indices into `values`.
    ranks: Vec<u32>,
}

impl Ranked {
    fn new(customers: &[Purchases], time: impl Fn(&Purchases) -> f64) -> Ranked {
        // Times are not negative, so their bits are in their order; a negative zero becomes a zero.
        let bits = |each| (time(each) + 0.0).to_bits();
        let mut times: Vec<(u64, usize)> = customers.iter().map(bits).zip(0..).collect();
        // Equal times stay in any order, for a rank does not depend on it.
        times.sort_unstable_by_key(|&(bits, _)| bits);
        let mut values = Vec::new();
        let mut ranks = vec![0; times.len()];
        for equals in times.chunk_by(|one, other| one.0 == other.0) {
            for &(_, customer) in equals {
                ranks[customer] = values.len() as u32;
            }
            values.push(f64::from_bits(equals[0].0));
        }
        Ranked { values, ranks }
    }
}

/// The unique rows in order, with their numbers of customers.
fn unique_rows(customers: &[Purchases], recencies: &[u32], ages: &[u32]) -> Vec<Row> {
    // One number that is in the order of all three.
    let mut keys: Vec<u128> = customers
        .par_iter()
        .zip(recencies)
        .zip(ages)
        .map(|((each, &recency), &age)| {
            u128::from(each.frequency) << 64 | u128::from(recency) << 32 | u128::from(age)
        })
        .collect();
    keys.par_sort_unstable();
    keys.chunk_by(|one, other| one == other)
        .map(|equals| Row {
            frequency: (equals[0] >> 64) as u32,
            recency: (equals[0] >> 32) as u32,
            age: equals[0] as u32,
            weight: equals.len() as f64,
        })
        .collect()
}

/// The mean age, or 1 where it is none to divide by.
fn mean_age(rows: &[Row], ages: &[f64], n_customers: f64) -> f64 {
    let oldest = ages.last().copied().unwrap_or_default();
    if !oldest.is_normal() {
        return 1.0;
    }
    // Shares of the oldest, since the sum of huge ages would overflow.
    let shares: f64 = rows.iter().map(|row| row.weight * (ages[row.age as usize] / oldest)).sum();
    let mean = oldest * (shares / n_customers);
    if mean.is_normal() { mean } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purchases(frequency: u32, recency: f64, age: f64, ln_gaps: f64) -> Purchases {
        Purchases { frequency, recency, age, ln_gaps }
    }

    #[test]
    fn customers_who_are_alike_share_a_row() {
        let customers = [
            purchases(2, 3.0, 9.0, 0.7),
            purchases(0, 0.0, 6.0, 0.0),
            purchases(1, 3.0, 9.0, 1.1),
            purchases(2, 3.0, 9.0, 0.3),
            purchases(0, -0.0, 6.0, 0.0),
            purchases(0, 0.0, 9.0, 0.0),
        ];
        let cohort = Cohort::new(&customers).unwrap();
        assert_eq!((cohort.unit, cohort.n_customers(), cohort.n_rows()), (8.0, 6.0, 4));
        assert_eq!((&cohort.ages, &cohort.recencies), (&vec![0.75, 1.125], &vec![0.0, 0.375]));
        let row = |frequency, recency, age, weight| Row { frequency, recency, age, weight };
        let expected = [row(0, 0, 0, 2.0), row(0, 0, 1, 1.0), row(1, 1, 1, 1.0), row(2, 1, 1, 2.0)];
        assert_eq!(cohort.rows, expected);
        assert_eq!(cohort.max_frequency, 2);
        assert!((cohort.ln_gaps - (2.1 - 5.0 * libm::log(8.0))).abs() < 1e-14);
    }

    #[test]
    fn the_order_of_customers_does_not_matter() {
        let mut state = 1u64;
        let mut chance = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f64 / (1u64 << 24) as f64
        };
        let mut customers: Vec<Purchases> = (0..3000)
            .map(|_| {
                let (age, frequency) = (1.0 + 20.0 * chance(), (4.0 * chance()) as u32);
                let (age, recency) = if chance() < 0.5 { (age, 0.5) } else { (age.ceil(), 1.0) };
                let repeats = f64::from(frequency);
                let recency = if frequency > 0 { recency } else { 0.0 };
                purchases(frequency, recency, age, repeats * (chance() - 0.5))
            })
            .collect();
        let cohort = Cohort::new(&customers).unwrap();
        assert!(cohort.n_rows() > 1000 && cohort.n_rows() < 2000);
        for turn in [1, 700, 2999] {
            customers.reverse();
            customers.rotate_left(turn);
            assert_eq!(Cohort::new(&customers).unwrap(), cohort);
        }
    }

    #[test]
    fn times_that_differ_at_all_are_different() {
        let close = f64::from_bits(9.0f64.to_bits() + 1);
        let customers = [purchases(1, 3.0, 9.0, 1.0), purchases(1, 3.0, close, 1.0)];
        let cohort = Cohort::new(&customers).unwrap();
        assert_eq!((cohort.n_rows(), cohort.ages.len(), cohort.recencies.len()), (2, 2, 1));
    }

    #[test]
    fn customers_who_cannot_be_are_named() {
        let sound = purchases(1, 3.0, 9.0, 1.0);
        for refused in [
            purchases(0, 3.0, 9.0, 0.0),
            purchases(1, 0.0, 9.0, 0.0),
            purchases(1, 9.5, 9.0, 0.0),
            purchases(1, -1.0, 9.0, 0.0),
            purchases(1, 3.0, f64::INFINITY, 0.0),
            purchases(1, 3.0, f64::NAN, 0.0),
            purchases(1, f64::NAN, 9.0, 0.0),
            purchases(1, 3.0, 9.0, f64::NEG_INFINITY),
            purchases(0, 0.0, 9.0, 1.0),
        ] {
            let result = Cohort::new(&[sound, refused, refused]);
            assert!(matches!(result, Err(BtydError::Invalid { customer: 1 })), "{refused:?}");
        }
        assert!(matches!(Cohort::new(&[]), Err(BtydError::NoCustomers)));
    }

    #[test]
    fn times_at_the_ends_of_their_range_stay_finite() {
        for age in [0.0, 5e-324, 1e-300, 1.0, f64::MAX] {
            let new = purchases(0, 0.0, age, 0.0);
            let cohort = Cohort::new(&[new, new, purchases(0, 0.0, 0.0, 0.0)]).unwrap();
            assert!(cohort.unit > 0.0 && cohort.unit.is_finite());
            assert!(cohort.ages.iter().all(|age| (0.0..2.0).contains(age)), "{cohort:?}");
            assert!(cohort.ln_gaps.is_finite());
        }
    }
}
