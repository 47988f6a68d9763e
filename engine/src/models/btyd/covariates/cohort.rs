//! Customers by their covariates.

use super::super::BtydError;
use super::super::purchases::{Cohort, Purchases};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Distinct vectors of covariates in a cohort, each of which is a likelihood of its own.
const MAX_GROUPS: usize = 1000;
/// Largest covariate, so that sums over customers stay finite.
const LARGEST: f64 = 1e15;

/// Customers by their covariates. Neither their order nor that of equal customers matters.
#[derive(Debug, Clone, PartialEq)]
pub struct CovariateCohort {
    pub(super) names: Vec<String>,
    /// `(n_covariates,)`, the mean over customers.
    pub(super) centre: Vec<f64>,
    /// All customers, in the unit of time that the groups share.
    pub(super) whole: Cohort,
    pub(super) groups: Vec<Group>,
}

/// Customers with the same covariates.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    /// `(n_covariates,)`, less the centre.
    pub covariates: Vec<f64>,
    pub cohort: Cohort,
}

impl CovariateCohort {
    /// Gathers customers and their covariates `(n_covariates,)`, in the order of `names`: categories as
    /// zeros and ones, and few-valued numbers, best on the scale of those, since one penalty is for all.
    ///
    /// # Errors
    /// What [`Cohort::new`] refuses; [`BtydError::Covariates`] with the first customer who has too few,
    /// too many or some that are not finite; [`BtydError::TooManyGroups`].
    pub fn new(
        names: Vec<String>,
        customers: &[(Purchases, Vec<f64>)],
    ) -> Result<CovariateCohort, BtydError> {
        let n_covariates = names.len();
        let sound =
            |z: &[f64]| z.len() == n_covariates && z.iter().all(|each| each.abs() <= LARGEST);
        if let Some(customer) = customers.iter().position(|(_, z)| !sound(z)) {
            return Err(BtydError::Covariates { customer, n_covariates });
        }
        let all: Vec<Purchases> = customers.iter().map(|(purchases, _)| *purchases).collect();
        let whole = Cohort::new(&all)?;
        let mut by_covariates: BTreeMap<Vec<u64>, Vec<Purchases>> = BTreeMap::new();
        let mut bits = Vec::with_capacity(n_covariates);
        for (purchases, z) in customers {
            bits.clear();
            // Adding zero makes both zeros one.
            bits.extend(z.iter().map(|each| (each + 0.0).to_bits()));
            if let Some(group) = by_covariates.get_mut(&bits) {
                group.push(*purchases);
            } else if by_covariates.len() < MAX_GROUPS {
                by_covariates.insert(bits.clone(), vec![*purchases]);
            } else {
                return Err(BtydError::TooManyGroups { most: MAX_GROUPS });
            }
        }
        let group = |(bits, customers): (Vec<u64>, Vec<Purchases>)| {
            let covariates = bits.into_iter().map(f64::from_bits).collect();
            Ok(Group { covariates, cohort: Cohort::with_unit(&customers, whole.unit)? })
        };
        let mut groups: Vec<Group> =
            by_covariates.into_par_iter().map(group).collect::<Result<_, BtydError>>()?;
        let mut centre = vec![0.0; n_covariates];
        for (j, centre) in centre.iter_mut().enumerate() {
            let first = groups[0].covariates[j];
            let share = |group: &Group| group.cohort.n_customers / whole.n_customers;
            // Differences, so that a covariate in which nobody differs is its centre exactly.
            let ahead = groups.iter().map(|group| share(group) * (group.covariates[j] - first));
            *centre = first + ahead.sum::<f64>();
            groups.iter_mut().for_each(|group| group.covariates[j] -= *centre);
        }
        Ok(CovariateCohort { names, centre, whole, groups })
    }

    /// Number of distinct vectors of covariates.
    pub fn n_groups(&self) -> usize {
        self.groups.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_share_a_unit_and_are_centred() {
        let some = |age: f64| Purchases { frequency: 0, recency: 0.0, age, ln_gaps: 0.0 };
        let customers = [
            (some(2.0), vec![1.0, 7.1]),
            (some(4.0), vec![0.0, 7.1]),
            (some(4.0), vec![-0.0, 7.1]),
            (some(6.0), vec![0.0, 7.1]),
        ];
        let names = || vec!["web".to_owned(), "all".to_owned()];
        let cohort = CovariateCohort::new(names(), &customers).unwrap();
        assert_eq!((cohort.n_groups(), &cohort.centre), (2, &vec![0.25, 7.1]));
        let of = |i: usize| (&cohort.groups[i].covariates[..], cohort.groups[i].cohort.n_customers);
        assert_eq!((of(0), of(1)), ((&[-0.25, 0.0][..], 3.0), (&[0.75, 0.0][..], 1.0)));
        assert!(cohort.groups.iter().all(|group| group.cohort.unit == 4.0));
        let again: Vec<_> = customers.iter().rev().cloned().collect();
        assert_eq!(CovariateCohort::new(names(), &again).unwrap(), cohort);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let new = Purchases { frequency: 0, recency: 0.0, age: 5.0, ln_gaps: 0.0 };
        let of = |z: &[Vec<f64>]| {
            let customers: Vec<_> = z.iter().map(|z| (new, z.clone())).collect();
            CovariateCohort::new(vec!["z".to_owned()], &customers).err()
        };
        let wrong = Some(BtydError::Covariates { customer: 1, n_covariates: 1 });
        assert_eq!(of(&[vec![1.0], vec![]]), wrong);
        assert_eq!(of(&[vec![1.0], vec![f64::NAN]]), wrong);
        let many: Vec<Vec<f64>> = (0..=MAX_GROUPS).map(|i| vec![i as f64]).collect();
        assert_eq!(of(&many), Some(BtydError::TooManyGroups { most: MAX_GROUPS }));
        assert_eq!((of(&many[1..]), of(&[])), (None, Some(BtydError::NoCustomers)));
    }
}
