//! Everybody whom segments are learned from, gathered part by part, so that histories need not be in
//! memory together.

use super::TrainError;
use super::identity::Old;
use super::stage::Lens;
use crate::domain::{AsOf, History, Lifetime};
use crate::matrix::FeatureMatrix;

/// Customers that are too many to be in memory at once.
pub trait Customers: Sync {
    /// Shows all histories once, part by part and always in the same order, and lets go of them:
    /// what follows needs the memory.
    ///
    /// # Errors
    /// The first that `see` returns, or [`TrainError::Unreadable`].
    fn each(
        self: Box<Self>,
        see: &mut dyn FnMut(&[History]) -> Result<(), TrainError>,
    ) -> Result<(), TrainError>;
}

impl Customers for &[History] {
    fn each(
        self: Box<Self>,
        see: &mut dyn FnMut(&[History]) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        see(&self)
    }
}

/// Those of them whom the version can answer about at the as-of.
pub(super) struct Roll {
    /// Raw features, `(n_customers, n_features)`.
    pub matrix: FeatureMatrix,
    /// `(n_customers,)`.
    pub lifetimes: Vec<Lifetime>,
}

impl Roll {
    /// Looks at everybody, of whom there are at most `n_customers`, and shows `old` the same rows.
    ///
    /// # Errors
    /// [`TrainError`] where histories cannot be read.
    pub fn call(
        customers: Box<dyn Customers + '_>,
        n_customers: u64,
        lens: &Lens<'_>,
        as_of: AsOf,
        old: &mut Option<Old<'_>>,
    ) -> Result<Roll, TrainError> {
        let n = usize::try_from(n_customers).unwrap_or(0);
        let matrix = FeatureMatrix::with_room(lens.plan.names().to_vec(), n);
        let mut roll = Roll { matrix, lifetimes: Vec::with_capacity(n) };
        customers.each(&mut |histories| {
            let table = lens.eligible(histories, as_of);
            let life = |&row: &usize| lens.churn_is.lifetime(&histories[row], as_of, lens.rules);
            roll.lifetimes.extend(table.rows.iter().map(life));
            if let Some(old) = old {
                old.see(histories, &table.rows, as_of);
            }
            roll.matrix.extend(&table.matrix);
            Ok(())
        })?;
        Ok(roll)
    }
}
