//! Between answers and the messages of `proto/`. Nothing is computed here.

use super::{RpcError, pb, status};
use crate::serving::{LoadedModel, Member, ServingError};
use habitus_engine::domain::{
    Abstention, Answer, ChurnAnswer, Prediction, Reason, SegmentAnswer, Timestamp, ValueAnswer,
};
use habitus_engine::segments::Segment;
use habitus_engine::version::ModelVersion;

/// The seconds that a protobuf Timestamp may hold: the years 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// An instant that a request may name. What is finer than a millisecond is dropped, towards the
/// past: events are exact to the millisecond, so the same ones lie before it.
///
/// # Errors
/// [`RpcError::BadTimestamp`].
pub fn instant(
    field: &'static str,
    instant: Option<prost_types::Timestamp>,
) -> Result<Option<Timestamp>, RpcError> {
    let Some(prost_types::Timestamp { seconds, nanos }) = instant else {
        return Ok(None);
    };
    if !SECONDS.contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        return Err(RpcError::BadTimestamp { field, seconds, nanos });
    }
    Ok(Some(Timestamp(seconds * 1000 + i64::from(nanos / 1_000_000))))
}

pub fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.0.div_euclid(1000),
        nanos: at.0.rem_euclid(1000) as i32 * 1_000_000,
    }
}

/// `sequence` is that of the store which the answer was read from.
pub fn prediction(
    prediction: Prediction,
    model: &LoadedModel,
    sequence: Option<u64>,
) -> pb::Prediction {
    let version = model.scorer.version();
    pb::Prediction {
        customer_id: prediction.customer.into(),
        model: model.name().to_owned(),
        model_version: model.version().to_owned(),
        as_of: Some(timestamp(prediction.as_of)),
        newest_event: prediction.newest_event.map(timestamp),
        segment: Some(segment_head(prediction.segment)),
        value: Some(value_head(&prediction.value, version)),
        churn: Some(churn_head(prediction.churn, version)),
        store_sequence: sequence,
    }
}

/// A batch's row: what became of the id that was asked about.
pub fn batch_row(
    customer_id: String,
    answer: Result<Prediction, ServingError>,
    model: &LoadedModel,
    sequence: Option<u64>,
) -> pb::BatchPredictRow {
    let outcome = match answer {
        Ok(answer) => {
            pb::batch_predict_row::Outcome::Prediction(prediction(answer, model, sequence))
        }
        Err(error) => pb::batch_predict_row::Outcome::Error(status::row_error(&error.into())),
    };
    pb::BatchPredictRow { customer_id, outcome: Some(outcome) }
}

fn segment_head(answer: Answer<SegmentAnswer>) -> pb::SegmentHead {
    let status = head_status(&answer).into();
    match answer {
        Answer::Given(segment) => pb::SegmentHead {
            status,
            segment_id: segment.id.0,
            segment_name: segment.name,
            cluster: Some(segment.cluster as u32),
            probability: segment.probability,
            tier: segment.tier.to_owned(),
            rfm: segment.rfm.to_string(),
            noise: segment.noise,
        },
        Answer::Abstained(_) => pb::SegmentHead { status, ..pb::SegmentHead::default() },
    }
}

fn value_head(answer: &Answer<ValueAnswer>, version: &ModelVersion) -> pb::ValueHead {
    let given = answer.given();
    pb::ValueHead {
        status: head_status(answer).into(),
        horizon_days: version.forecast.bridge.horizon_days,
        ltv: given.map(|value| value.ltv),
        ltv_low: given.map(|value| value.ltv_low),
        ltv_high: given.map(|value| value.ltv_high),
        interval_level: version.forecast.value.interval.level,
        currency_code: version.rules.currency.code.clone(),
        expected_purchases: given.and_then(|value| value.expected_purchases),
        purchases_low: given.and_then(|value| value.purchases_low),
        purchases_high: given.and_then(|value| value.purchases_high),
    }
}

fn churn_head(answer: Answer<ChurnAnswer>, version: &ModelVersion) -> pb::ChurnHead {
    let status = head_status(&answer).into();
    let horizon_days = version.forecast.bridge.horizon_days;
    match answer {
        Answer::Given(churn) => pb::ChurnHead {
            status,
            horizon_days,
            probability: Some(churn.probability),
            percentile: Some(churn.percentile),
            reasons: churn.reasons.into_iter().map(churn_reason).collect(),
            p_alive: churn.p_alive,
        },
        Answer::Abstained(_) => pb::ChurnHead { status, horizon_days, ..pb::ChurnHead::default() },
    }
}

fn churn_reason(reason: Reason) -> pb::ChurnReason {
    let Reason { feature, value, log_odds } = reason;
    pb::ChurnReason { feature, value, log_odds }
}

fn head_status<T>(answer: &Answer<T>) -> pb::HeadStatus {
    match answer {
        Answer::Given(_) => pb::HeadStatus::Ok,
        Answer::Abstained(Abstention::NoHistory) => pb::HeadStatus::NoHistory,
        Answer::Abstained(Abstention::TooNew) => pb::HeadStatus::TooNew,
        Answer::Abstained(Abstention::AlreadyLost) => pb::HeadStatus::AlreadyLost,
        Answer::Abstained(Abstention::OptedOut) => pb::HeadStatus::OptedOut,
    }
}

/// All segments of a version, in the order of their clusters.
pub fn segments(model: &LoadedModel) -> Vec<pb::Segment> {
    let numbered = model.segments().iter().enumerate();
    numbered.map(|(cluster, one)| segment(cluster, one, model.scorer.version())).collect()
}

pub fn segment(cluster: usize, segment: &Segment, version: &ModelVersion) -> pb::Segment {
    let profile = &segment.profile;
    pb::Segment {
        segment_id: segment.id.0.clone(),
        name: segment.name.clone(),
        cluster: cluster as u32,
        profile: Some(pb::SegmentProfile {
            n_customers: profile.n_customers,
            share_of_customers: profile.share_of_customers,
            share_of_spend: profile.share_of_spend,
            median_days_since_last_purchase: profile.median_days_since_last_purchase,
            median_purchase_days: profile.median_purchase_days,
            median_mean_spend: profile.median_mean_spend,
            mean_ltv: profile.mean_ltv,
            mean_churn_probability: profile.mean_churn_probability,
            horizon_days: version.forecast.bridge.horizon_days,
            currency_code: version.rules.currency.code.clone(),
        }),
    }
}

/// A customer in the list of a segment's members.
pub fn member(member: &Member) -> pb::SegmentMember {
    pb::SegmentMember {
        customer_id: member.customer.as_str().to_owned(),
        probability: member.probability,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(seconds: i64, nanos: i32) -> Result<Option<Timestamp>, RpcError> {
        instant("as_of", Some(prost_types::Timestamp { seconds, nanos }))
    }

    #[test]
    fn instants_survive_and_lose_only_what_is_finer_than_a_millisecond() {
        for ms in [0, 1, -1, -1_000, 883_699_199_999, -62_135_596_800_000] {
            let sent = timestamp(Timestamp(ms));
            assert_eq!(instant("as_of", Some(sent)).unwrap(), Some(Timestamp(ms)));
        }
        assert_eq!(asked(1, 1_999_999).unwrap(), Some(Timestamp(1_001)));
        assert_eq!(asked(-1, 999_999_999).unwrap(), Some(Timestamp(-1)));
        assert!(instant("as_of", None).unwrap().is_none());
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, 0)] {
            assert!(matches!(asked(seconds, nanos), Err(RpcError::BadTimestamp { .. })));
        }
    }
}
