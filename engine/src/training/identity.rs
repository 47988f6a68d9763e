//! Segments that outlive their model: a new version's clusters against the incumbent's segments.

use super::settings::TrainingSettings;
use super::stage::Lens;
use super::train::Predecessor;
use crate::domain::{AsOf, History, SegmentId};
use crate::features::{Plan, SpecError};
use crate::segments::{Descent, Identity, Overlap};
use crate::version::{ChurnIs, Lineage};

/// Where the incumbent puts the customers that the new version can score, at the new as-of.
pub struct Old<'a> {
    predecessor: &'a Predecessor<'a>,
    plan: Plan,
    /// One per customer that the new version can score; `None` for whom the incumbent cannot.
    labels: Vec<Option<u32>>,
    /// Customers whom the incumbent can score at its own as-of and at the new one.
    n_remained: u64,
    /// Those of them whom it puts into another segment now.
    moved_by_customer: u64,
}

impl<'a> Old<'a> {
    /// Nobody yet. `None` where the incumbent's segments are tiers, which are told by a rule and need
    /// no matching.
    ///
    /// # Errors
    /// [`SpecError`] where the incumbent's features cannot be compiled.
    pub fn new(predecessor: &'a Predecessor<'a>) -> Result<Option<Old<'a>>, SpecError> {
        let version = predecessor.version;
        if version.segment.clusters().is_none() {
            return Ok(None);
        }
        let plan = Plan::compile(&version.spec, &version.rules)?;
        let (labels, n_remained, moved_by_customer) = (Vec::new(), 0, 0);
        Ok(Some(Old { predecessor, plan, labels, n_remained, moved_by_customer }))
    }

    /// Asks the incumbent about more customers, of whom the new version can score those at `rows`.
    pub fn see(&mut self, histories: &[History], rows: &[usize], as_of: AsOf) {
        let now = self.assigned(histories, as_of);
        let then = self.assigned(histories, self.predecessor.as_of);
        self.labels.extend(rows.iter().map(|&row| now[row]));
        for (then, now) in then.into_iter().zip(now).filter_map(|(then, now)| then.zip(now)) {
            self.n_remained += 1;
            self.moved_by_customer += u64::from(then != now);
        }
    }

    /// Where the rows of a fit belong already, for a warm start, and in how many segments; `None`
    /// where the incumbent cannot score them all, or leaves one of its segments without a customer.
    pub fn start(&self) -> Option<(usize, Vec<usize>)> {
        let k = self.predecessor.version.segment.catalogue.len();
        let label = |label: &Option<u32>| label.map(|label| label as usize);
        let labels: Vec<usize> = self.labels.iter().map(label).collect::<Option<_>>()?;
        let mut used = vec![false; k];
        labels.iter().for_each(|&label| used[label] = true);
        used.iter().all(|&used| used).then_some((k, labels))
    }

    /// The identities of the new clusters, and how they descend from the incumbent's segments.
    pub fn descend(
        &self,
        new_labels: &[usize],
        n_new: usize,
        origin: &str,
    ) -> (Vec<Identity>, Lineage) {
        let catalogue = &self.predecessor.version.segment.catalogue;
        let both: Vec<(usize, usize)> = self
            .labels
            .iter()
            .zip(new_labels)
            .filter_map(|(old, &new)| old.map(|old| (old as usize, new)))
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
        let lineage = Lineage {
            incumbent: self.predecessor.incumbent.clone(),
            n_common: both.len() as u64,
            moved_by_model: count(&|old, new| descent.continues[new] != Some(old)),
            moved_by_index: count(&|old, new| old != new),
            n_remained: self.n_remained,
            moved_by_customer: self.moved_by_customer,
            records: descent.records(&old_ids, &new_ids),
        };
        (identities, lineage)
    }

    /// The cluster that the incumbent puts each history into at `as_of`; `None` where it has no answer.
    fn assigned(&self, histories: &[History], as_of: AsOf) -> Vec<Option<u32>> {
        let version = self.predecessor.version;
        let rules = &version.rules;
        let (eligibility, churn_is) = (version.eligibility, version.churn_is);
        let lens = Lens { plan: &self.plan, rules, eligibility, churn_is, at_most: usize::MAX };
        let table = lens.eligible(histories, as_of);
        let mut assigned = vec![None; histories.len()];
        for (&row, raw) in table.rows.iter().zip(table.matrix.rows()) {
            let life = churn_is.lifetime(&histories[row], as_of, rules);
            let membership = version.segment.assign(&version.bands, raw, &life);
            assigned[row] = Some(membership.cluster as u32);
        }
        assigned
    }
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
        let by = other_meaning(predecessor.version.churn_is, settings.churn_is);
        return Err(format!("its churn head speaks of something else ({by})"));
    }
    predecessor.version.rules.check_same(&settings.rules).map_err(|conflict| conflict.to_string())
}

/// The settings by which two different meanings of churn differ.
fn other_meaning(old: ChurnIs, new: ChurnIs) -> &'static str {
    match (old, new) {
        (ChurnIs::Inactivity(old), ChurnIs::Inactivity(new)) => {
            match (old.days != new.days, old.activity != new.activity) {
                (true, false) => "model.churn: another model.inactive_days",
                (false, _) => "model.churn: another model.activity",
                (true, true) => "model.churn: another model.inactive_days and model.activity",
            }
        }
        _ => "model.churn",
    }
}
