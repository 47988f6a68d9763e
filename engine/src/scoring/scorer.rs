//! A model version made ready to answer.

use crate::domain::{
    Abstention, Answer, AsOf, ChurnAnswer, History, Lifetime, Prediction, Reason, SegmentAnswer,
    ValueAnswer,
};
use crate::features::{Encoder, Plan, SpecError};
use crate::models::blend::{Look, NAMES};
use crate::models::churn::ChurnModel;
use crate::models::value::ValueModel;
use crate::models::{SegmentModel, Segmenter};
use crate::segments::Tier;
use crate::version::{BlendHead, Expected, FORMAT, Facts, ModelVersion, PurchaseHead};
use thiserror::Error;

/// Reasons told with a churn probability.
const N_REASONS: usize = 3;

/// A version with its feature plan compiled and its parts checked against each other.
#[derive(Debug, Clone)]
pub struct Scorer {
    version: ModelVersion,
    plan: Plan,
}

/// Why a version cannot answer. A version that habitus wrote and nobody touched never meets these.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScorerError {
    #[error("the version has format {found}, this program reads format {FORMAT}")]
    Format { found: u32 },
    #[error("the version's feature spec cannot be compiled")]
    Spec(#[from] SpecError),
    #[error("the version's {part} does not fit its {with}")]
    Mismatch { part: &'static str, with: &'static str },
}

impl Scorer {
    /// Checks that the version's parts fit together and compiles its plan.
    ///
    /// # Errors
    /// [`ScorerError`].
    pub fn new(version: ModelVersion) -> Result<Scorer, ScorerError> {
        if version.format != FORMAT {
            return Err(ScorerError::Format { found: version.format });
        }
        let plan = Plan::compile(&version.spec, &version.rules)?;
        check_parts(&version)?;
        Ok(Scorer { version, plan })
    }

    /// The version that answers.
    pub fn version(&self) -> &ModelVersion {
        &self.version
    }

    /// Answers about the customer of `history` at `as_of`. Events after the as-of change nothing; a
    /// history without an event by then, such as an unknown customer's, gives NO_HISTORY.
    pub fn predict(&self, history: &History, as_of: AsOf) -> Prediction {
        let events = history.until(as_of);
        let answer = |segment, value, churn| Prediction {
            customer: history.customer().clone(),
            as_of: as_of.at,
            newest_event: events.last().map(|event| event.at),
            segment,
            value,
            churn,
        };
        if history.opted_out() {
            let out = Abstention::OptedOut;
            return answer(Answer::Abstained(out), Answer::Abstained(out), Answer::Abstained(out));
        }
        let version = &self.version;
        let is_silent = events.is_empty();
        if is_silent && !(version.churn_is.knows_silent() && history.is_known_at(as_of)) {
            let none = Abstention::NoHistory;
            return answer(
                Answer::Abstained(none),
                Answer::Abstained(none),
                Answer::Abstained(none),
            );
        }
        if events.first().is_some_and(|first| version.eligibility.is_too_new(first.day, as_of.day))
        {
            let new = Abstention::TooNew;
            return answer(Answer::Abstained(new), Answer::Abstained(new), Answer::Abstained(new));
        }
        let life = version.churn_is.lifetime(history, as_of, &self.version.rules);
        let mut raw = vec![0.0; self.plan.names().len()];
        self.plan.evaluate(history, as_of, &mut raw);
        let forecast = &version.forecast;
        let mut encoded = vec![0.0; forecast.encoder.width()];
        forecast.encoder.encode(&raw, &mut encoded);
        let days = forecast.bridge.horizon_days;
        let facts = Facts { raw: &raw, encoded: &encoded, lifetime: &life, as_of: as_of.day };
        let look = forecast.look(&facts, days);
        let expected = forecast.seen(&facts, look.as_ref(), version.churn_is, days);
        answer(
            Answer::Given(self.segment(&raw, &life)),
            // Of somebody who never did anything there is no spend to go by.
            if is_silent {
                Answer::Abstained(Abstention::NoHistory)
            } else {
                Answer::Given(self.value(&expected))
            },
            if version.churn_is.has_ended(history, as_of) {
                Answer::Abstained(Abstention::AlreadyLost)
            } else {
                self.churn(&facts, look.as_ref(), &expected)
            },
        )
    }

    fn segment(&self, raw: &[f64], life: &Lifetime) -> SegmentAnswer {
        let (head, bands) = (&self.version.segment, &self.version.bands);
        let membership = head.assign(bands, raw, life);
        let segment = &head.catalogue[membership.cluster];
        SegmentAnswer {
            id: segment.id.clone(),
            name: segment.name.clone(),
            cluster: membership.cluster,
            probability: membership.probability,
            noise: head.is_noise(&membership),
            tier: bands.tier(life).letter(),
            rfm: bands.rfm(life),
        }
    }

    fn value(&self, expected: &Expected) -> ValueAnswer {
        ValueAnswer {
            horizon_days: self.version.forecast.bridge.horizon_days,
            ltv: expected.spend,
            ltv_low: expected.spend_low,
            ltv_high: expected.spend_high,
            expected_purchases: expected.outlook.map(|outlook| outlook.expected_purchases),
            purchases_low: expected.purchases_interval.map(|(low, _)| low),
            purchases_high: expected.purchases_interval.map(|(_, high)| high),
        }
    }

    fn churn(
        &self,
        facts: &Facts<'_>,
        look: Option<&Look>,
        expected: &Expected,
    ) -> Answer<ChurnAnswer> {
        if self.version.eligibility.is_lost(self.version.churn_is, facts.lifetime) {
            return Answer::Abstained(Abstention::AlreadyLost);
        }
        let forecast = &self.version.forecast;
        Answer::Given(ChurnAnswer {
            horizon_days: forecast.bridge.horizon_days,
            probability: expected.churn,
            percentile: forecast.churn.percentile(expected.churn),
            p_alive: expected.outlook.map(|outlook| outlook.p_alive),
            reasons: self.reasons(facts, look),
        })
    }

    /// The largest contributions to the log-odds, standardized features being 0 for the average
    /// training customer.
    fn reasons(&self, facts: &Facts<'_>, look: Option<&Look>) -> Vec<Reason> {
        let Facts { raw, encoded, lifetime: life, .. } = *facts;
        let forecast = &self.version.forecast;
        let slope = forecast.churn.calibration.slope;
        match &forecast.churn.model {
            ChurnModel::Blend => self.blend_reasons(raw, look),
            ChurnModel::Logistic(model) => {
                let columns = &forecast.encoder.columns;
                let parts = model.coefficients.iter().zip(encoded);
                let parts = parts.map(|(weight, value)| slope * weight * value);
                let mut parts: Vec<(usize, f64)> = parts.enumerate().collect();
                parts.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
                let reason = |(place, log_odds): (usize, f64)| Reason {
                    feature: columns[place].name.clone(),
                    value: Some(raw[columns[place].feature]).filter(|value| !value.is_nan()),
                    log_odds,
                };
                parts.into_iter().take(N_REASONS).map(reason).collect()
            }
            ChurnModel::Recency(model) => vec![Reason {
                feature: silence(life).to_owned(),
                value: Some(f64::from(life.silent_days())),
                log_odds: slope * model.contribution(life),
            }],
            // Recency, frequency and age act together there; no sum of parts says how.
            ChurnModel::Purchases | ChurnModel::BaseRate(_) => Vec::new(),
        }
    }

    /// Of the blend: its own inputs by their names, further ones by their features'.
    fn blend_reasons(&self, raw: &[f64], look: Option<&Look>) -> Vec<Reason> {
        let forecast = &self.version.forecast;
        let Some((BlendHead { model, .. }, look)) = forecast.blend.as_ref().zip(look) else {
            return Vec::new();
        };
        let contributions = model.contributions(look).into_iter().take(N_REASONS);
        contributions
            .map(|(place, value, log_odds)| match NAMES.get(place) {
                Some(name) => Reason { feature: (*name).to_owned(), value, log_odds },
                None => {
                    let column = &forecast.encoder.columns[model.extras[place - NAMES.len()]];
                    let value = Some(raw[column.feature]).filter(|value| !value.is_nan());
                    Reason { feature: column.name.clone(), value, log_odds }
                }
            })
            .collect()
    }
}

/// What the silence of a lifetime is called among reasons.
fn silence(life: &Lifetime) -> &'static str {
    if life.inactive_days.is_some() { "days_since_activity" } else { "days_since_last_purchase" }
}

/// Refuses parts of different shapes before an answer could index out of bounds.
fn check_parts(version: &ModelVersion) -> Result<(), ScorerError> {
    let fits = |holds: bool, part, with| {
        if holds { Ok(()) } else { Err(ScorerError::Mismatch { part, with }) }
    };
    let reads_spec = |encoder: &Encoder| {
        encoder.width() > 0
            && encoder.columns.iter().all(|column| {
                version
                    .spec
                    .0
                    .get(column.feature)
                    .is_some_and(|feature| feature.name == column.name)
            })
    };
    let (segment, forecast) = (&version.segment, &version.forecast);
    fits(reads_spec(&forecast.encoder), "forecast encoder", "feature spec")?;
    let n_segments = match segment.clusters() {
        None => Tier::ALL.len(),
        Some(clusters) => {
            fits(reads_spec(&clusters.encoder), "segment encoder", "feature spec")?;
            let width = clusters.encoder.width();
            let shaped = match &clusters.model {
                SegmentModel::KMeans(model) => {
                    model.centroids().iter().all(|row| row.len() == width)
                }
                SegmentModel::GaussianMixture(model) => {
                    model.parameters().means.iter().all(|row| row.len() == width)
                }
            };
            fits(shaped, "segment model", "encoder")?;
            clusters.model.n_clusters()
        }
    };
    fits(n_segments == segment.catalogue.len(), "segment catalogue", "model")?;
    fits(n_segments > 0, "segment catalogue", "model")?;
    let width = forecast.encoder.width();
    let shaped = match &forecast.value.model {
        ValueModel::Hurdle(model) => {
            model.buys.coefficients.len() == width && model.log_spend.coefficients.len() == width
        }
        ValueModel::Blend => forecast.blend.is_some(),
        ValueModel::Purchases => forecast.purchases.is_some(),
        ValueModel::NaiveRate(_) => true,
    };
    fits(shaped, "value model", "encoder")?;
    let shaped = match &forecast.churn.model {
        ChurnModel::Logistic(model) => model.coefficients.len() == width,
        ChurnModel::Recency(model) => model.logistic.coefficients.len() == 1,
        ChurnModel::Blend => forecast.blend.is_some(),
        ChurnModel::Purchases => forecast.purchases.is_some(),
        ChurnModel::BaseRate(_) => true,
    };
    fits(shaped, "churn model", "encoder")?;
    let blended = forecast.blend.as_ref().is_none_or(|head| head.model.check(width));
    fits(blended, "blend", "definition")?;
    let in_spec = |head: &PurchaseHead| {
        let mut columns = head.covariates.iter().flat_map(|covariates| &covariates.columns);
        columns.all(|column| column.feature < version.spec.0.len())
    };
    fits(forecast.purchases.as_ref().is_none_or(in_spec), "covariates", "feature spec")?;
    let defined = forecast
        .purchases
        .as_ref()
        .is_none_or(|head| head.model.check() && head.season.is_none_or(|season| season.check()));
    let based = |head: &PurchaseHead| {
        head.covariates.as_ref().is_none_or(|covariates| covariates.model.base.check())
    };
    let defined = defined && forecast.purchases.as_ref().is_none_or(based);
    fits(defined, "model of purchases", "definition")?;
    fits(forecast.bridge.window_days > 0, "bridge", "label window")
}
