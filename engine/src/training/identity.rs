//! Segments that outlive their model: a new version's clusters against the incumbent's segments.

use super::stage::Lens;
use super::train::{Predecessor, TrainingSettings};
use crate::domain::{AsOf, History, SegmentId};
use crate::features::{FeatureTable, Plan, SpecError, lifetime_or_none};
use crate::models::selection::Start;
use crate::segments::{Descent, Identity, Overlap};
use crate::version::Lineage;

/// Where the incumbent puts the customers that the new version can score, at the new as-of.
pub struct Old<'a> {
    predecessor: &'a Predecessor<'a>,
    /// One per row of the new version's table; `None` for customers that the incumbent cannot score.
    labels: Vec<Option<usize>>,
    /// The same, where it can score them all.
    all: Option<Vec<usize>>,
}

impl<'a> Old<'a> {
    /// Asks the incumbent about the customers of `table`. `None` where its segments are tiers, which
    /// are told by a rule and need no matching.
    ///
    /// # Errors
    /// [`SpecError`] where the incumbent's features cannot be compiled.
    pub fn ask(
        predecessor: &'a Predecessor<'a>,
        histories: &[History],
        table: &FeatureTable,
        as_of: AsOf,
    ) -> Result<Option<Old<'a>>, SpecError> {
        if predecessor.version.segment.clusters().is_none() {
            return Ok(None);
        }
        let assigned = assigned(predecessor, histories, as_of)?;
        let labels: Vec<Option<usize>> = table.rows.iter().map(|&row| assigned[row]).collect();
        let all = labels.iter().copied().collect();
        Ok(Some(Old { predecessor, labels, all }))
    }

    /// Where the rows of a fit belong already, for a warm start; `None` where the incumbent cannot
    /// score them all, or leaves one of its segments without a customer.
    pub fn start(&self) -> Option<Start<'_>> {
        let k = self.predecessor.version.segment.catalogue.len();
        let labels = self.all.as_deref()?;
        (0..k).all(|cluster| labels.contains(&cluster)).then_some(Start { k, labels })
    }

    /// The identities of the new clusters, and how they descend from the incumbent's segments.
    ///
    /// # Errors
    /// [`SpecError`] where the incumbent's features cannot be compiled.
    pub fn descend(
        &self,
        histories: &[History],
        new_labels: &[usize],
        n_new: usize,
        as_of: AsOf,
        origin: &str,
    ) -> Result<(Vec<Identity>, Lineage), SpecError> {
        let catalogue = &self.predecessor.version.segment.catalogue;
        let both: Vec<(usize, usize)> = self
            .labels
            .iter()
            .zip(new_labels)
            .filter_map(|(old, &new)| old.map(|old| (old, new)))
            .collect();
        let descent = Descent::of(Overlap::of(catalogue.len(), n_new, both.iter().copied()));
        let mut identities = Identity::mint(n_new, origin);
        for (identity, old) in identities.iter_mut().zip(&descent.continues) {
            if let Some(old) = old {
                let segment = &catalogue[*old];
                *identity = Identity { id: segment.id.clone(), name: Some(segment.name.clone()) };
            }
        }
        let old_ids: Vec<SegmentId> = catalogue.iter().map(|segment| segment.id.clone()).collect();
        let new_ids: Vec<SegmentId> =
            identities.iter().map(|identity| identity.id.clone()).collect();
        let count = |moved: &dyn Fn(usize, usize) -> bool| {
            both.iter().filter(|&&(old, new)| moved(old, new)).count() as u64
        };
        let (n_remained, moved_by_customer) = self.moved_by_customer(histories, as_of)?;
        let lineage = Lineage {
            incumbent: self.predecessor.incumbent.clone(),
            n_common: both.len() as u64,
            moved_by_model: count(&|old, new| descent.continues[new] != Some(old)),
            moved_by_index: count(&|old, new| old != new),
            n_remained,
            moved_by_customer,
            records: descent.records(&old_ids, &new_ids),
        };
        Ok((identities, lineage))
    }

    /// Of the customers that the incumbent can score at its own as-of and now: how many there are,
    /// and how many of them it puts into another segment now.
    fn moved_by_customer(
        &self,
        histories: &[History],
        as_of: AsOf,
    ) -> Result<(u64, u64), SpecError> {
        let then = assigned(self.predecessor, histories, self.predecessor.as_of)?;
        let now = assigned(self.predecessor, histories, as_of)?;
        let remained = then.into_iter().zip(now).filter_map(|(then, now)| then.zip(now));
        Ok(remained.fold((0, 0), |(n, moved), (then, now)| (n + 1, moved + u64::from(then != now))))
    }
}

/// The cluster that the incumbent puts each history into at `as_of`; `None` where it has no answer.
fn assigned(
    predecessor: &Predecessor<'_>,
    histories: &[History],
    as_of: AsOf,
) -> Result<Vec<Option<usize>>, SpecError> {
    let version = predecessor.version;
    let currency = &version.rules.currency;
    let plan = Plan::compile(&version.spec, &version.rules)?;
    let (eligibility, churn_is) = (version.eligibility, version.churn_is);
    let lens = Lens { plan: &plan, currency, eligibility, churn_is };
    let table = lens.eligible(histories, as_of);
    let mut assigned = vec![None; histories.len()];
    for (&row, raw) in table.rows.iter().zip(table.matrix.rows()) {
        let life = lifetime_or_none(&histories[row], as_of, currency);
        assigned[row] = Some(version.segment.assign(&version.bands, raw, &life).cluster);
    }
    Ok(assigned)
}

/// Whether a version with these settings can be compared with an incumbent at all, or why not.
///
/// # Errors
/// A phrase that says what stands in the way.
pub fn check(
    predecessor: &Predecessor<'_>,
    settings: &TrainingSettings,
    as_of: AsOf,
) -> Result<(), String> {
    if predecessor.as_of.at > as_of.at {
        return Err(format!("its as-of {} is later than {}", predecessor.as_of.day, as_of.day));
    }
    if predecessor.version.churn_is != settings.churn_is {
        return Err("its churn head speaks of something else (model.churn)".to_owned());
    }
    predecessor.version.rules.check_same(&settings.rules).map_err(|conflict| conflict.to_string())
}
