//! What of the settings a model is of, and what churn is in it.

use super::ConfigError;
use super::written::{MOST_DAYS, key_error, refuse};
use habitus_engine::domain::{EventKind, Inactivity, Kinds};
use habitus_engine::features::{FeatureSpec, SpecError, inputs_of_activity};
use habitus_engine::version::ChurnIs;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawModel {
    pub name: String,
    pub seed: u64,
    pub horizon_days: u32,
    pub min_age_days: u32,
    pub lost_after_days: Option<u32>,
    pub max_customers: u64,
    churn: RawChurn,
    inactive_days: Option<u32>,
    activity: Option<Vec<EventKind>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawChurn {
    Silence,
    Label,
    Inactivity,
}

impl RawModel {
    /// What churn is, of settings that agree with each other.
    pub fn churn_is(&self, horizon_days: u32) -> Result<ChurnIs, ConfigError> {
        let (churn, days) = (self.churn, self.inactive_days);
        if churn != RawChurn::Inactivity {
            let named = [
                ("model.inactive_days", days.is_some()),
                ("model.activity", self.activity.is_some()),
            ];
            for (key, is_named) in named {
                refuse(is_named, key, || {
                    "it is looked at where `model.churn` is \"inactivity\" alone".to_owned()
                })?;
            }
            return Ok(if churn == RawChurn::Label { ChurnIs::Label } else { ChurnIs::Silence });
        }
        let days = days.ok_or_else(|| {
            let message = "churn as inactivity needs the number of days without activity";
            key_error("model.inactive_days", message.to_owned())
        })?;
        refuse(!(1..=MOST_DAYS).contains(&days), "model.inactive_days", || {
            format!("{days} days are not possible; 1 to {MOST_DAYS} are")
        })?;
        refuse(days > horizon_days, "model.inactive_days", || {
            format!(
                "{days} days without activity do not fit into a horizon of {horizon_days}: who was active \
                 of late could not churn within it, whatever they do; take a longer `model.horizon_days`"
            )
        })?;
        refuse(self.lost_after_days.is_some(), "model.lost_after_days", || {
            "where churn is inactivity, who was inactive for `model.inactive_days` is lost"
                .to_owned()
        })?;
        let activity = self.activity.clone().map_or(Kinds::OF_CUSTOMERS, Kinds::from);
        refuse(activity.is_empty(), "model.activity", || {
            "without a kind of event that counts as activity nobody is ever active".to_owned()
        })?;
        Ok(ChurnIs::Inactivity(Inactivity { days, activity }))
    }
}

/// The features that the user named, and those that churn needs besides.
pub(super) fn with_inputs_of(
    churn_is: ChurnIs,
    named: &FeatureSpec,
) -> Result<FeatureSpec, ConfigError> {
    let mut spec = named.clone();
    if let ChurnIs::Inactivity(inactivity) = &churn_is {
        spec.0.extend(inputs_of_activity(named, inactivity));
    }
    spec.check().map_err(|error: SpecError| key_error("features", error.to_string()))?;
    Ok(spec)
}
