//! A version that is ready to answer.

use super::ServingError;
use crate::registry::{Artefact, Manifest};
use crate::store::Shaping;
use habitus_engine::domain::{EventRules, Timestamp};
use habitus_engine::scoring::Scorer;
use habitus_engine::segments::Segment;

/// A version out of the registry, with its parts checked against each other and its plan compiled.
#[derive(Debug, Clone)]
pub struct LoadedModel {
    pub manifest: Manifest,
    pub scorer: Scorer,
    /// The evaluation of its training, as it was written.
    pub metrics: serde_json::Value,
    /// Tells its rules from those of other versions.
    rules_tag: u64,
}

impl LoadedModel {
    /// The model's name.
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// The version's own name.
    pub fn version(&self) -> &str {
        &self.manifest.version
    }

    /// What shapes a history for this version.
    pub fn rules(&self) -> &EventRules {
        &self.scorer.version().rules
    }

    /// What shapes the history of a store for this version, of events from `kept_from` on.
    pub(super) fn shaping(&self, kept_from: Option<Timestamp>) -> Shaping<'_> {
        Shaping { rules: self.rules(), tag: self.rules_tag, kept_from }
    }

    /// Whether it was trained with a customers file. Asked without one it would answer about people
    /// who opted out, and about nobody's attributes.
    pub fn needs_customers(&self) -> bool {
        self.manifest.account.customers.is_some()
    }

    /// The segments, in the order of their clusters.
    pub fn segments(&self) -> &[Segment] {
        &self.scorer.version().segment.catalogue
    }

    /// The segment with this id, and its cluster.
    ///
    /// # Errors
    /// [`ServingError::UnknownSegment`].
    pub fn segment(&self, id: &str) -> Result<(usize, &Segment), ServingError> {
        let mut segments = self.segments().iter().enumerate();
        segments.find(|(_, segment)| segment.id.0 == id).ok_or_else(|| {
            ServingError::UnknownSegment { version: self.version().to_owned(), id: id.to_owned() }
        })
    }
}

impl TryFrom<Artefact> for LoadedModel {
    type Error = ServingError;

    fn try_from(artefact: Artefact) -> Result<LoadedModel, ServingError> {
        let Artefact { manifest, version, metrics } = artefact;
        let rules_tag = Shaping::tag_of(&version.rules);
        match Scorer::new(version) {
            Ok(scorer) => Ok(LoadedModel { manifest, scorer, metrics, rules_tag }),
            Err(source) => Err(ServingError::Unanswerable { version: manifest.version, source }),
        }
    }
}
