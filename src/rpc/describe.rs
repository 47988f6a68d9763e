//! Model versions as messages: what they hold, how their segments came to be, and what the gate
//! says of them. Nothing is computed here.

use super::convert::timestamp;
use super::pb;
use crate::registry::{GateRecord, Manifest};
use crate::serving::{Described, Listed, LoadedModel};
use habitus_engine::segments::{LineageRecord, Share};
use habitus_engine::training::{Comparison, Outcome};
use habitus_engine::version::{ChurnIs, Lineage, ModelVersion, Replaced};
use prost_types::value::Kind;
use prost_types::{ListValue, NullValue, Struct, Value};

/// A version in a list, without heads and metrics.
pub fn listed(listed: Listed, served: &LoadedModel) -> pb::ModelVersion {
    model_version(&listed.manifest, listed.aliases, served)
}

/// A version in full, as the answer to the call with this id.
pub fn described(
    described: Described,
    served: &LoadedModel,
    request_id: String,
) -> pb::GetModelVersionResponse {
    let Described { model, aliases, gate } = described;
    let version = model.scorer.version();
    pb::GetModelVersionResponse {
        version: Some(pb::ModelVersion {
            heads: Some(heads(version)),
            metrics: structure(&model.metrics),
            ..model_version(&model.manifest, aliases, served)
        }),
        request_id,
        lineage: version.segment.lineage.as_ref().map(lineage),
        gate: gate.as_ref().map(gate_record),
    }
}

fn model_version(
    manifest: &Manifest,
    aliases: Vec<String>,
    served: &LoadedModel,
) -> pb::ModelVersion {
    let sealed = &manifest.sealed;
    let (churn_meaning, inactive_days) = match sealed.settings.churn_is {
        ChurnIs::Silence => (pb::ChurnMeaning::Silence, None),
        ChurnIs::Label => (pb::ChurnMeaning::Label, None),
        ChurnIs::Inactivity(inactivity) => (pb::ChurnMeaning::Inactivity, Some(inactivity.days)),
    };
    pb::ModelVersion {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        digest: manifest.digest.clone(),
        aliases,
        serving: manifest.name == served.name() && manifest.version == served.version(),
        as_of: Some(timestamp(sealed.as_of.at)),
        created_at: Some(timestamp(manifest.created_at)),
        horizon_days: sealed.clock.horizon_days,
        window_days: sealed.clock.window_days,
        bridged: sealed.clock.bridged(),
        n_customers: sealed.n_customers,
        heads: None,
        metrics: None,
        population: Some(pb::Population {
            n_customers: sealed.population.n_customers,
            n_sampled: sealed.population.n_sampled,
        }),
        incumbent_version: sealed.incumbent.as_ref().map(|incumbent| incumbent.version.clone()),
        churn_meaning: churn_meaning.into(),
        inactive_days,
    }
}

fn heads(version: &ModelVersion) -> pb::ModelHeads {
    let (value, churn) = (&version.forecast.value, &version.forecast.churn);
    pb::ModelHeads {
        segment: Some(head_model(version.segment.family(), None)),
        n_segments: version.segment.catalogue.len() as u32,
        value: Some(head_model(value.model.family(), value.replaced.as_ref())),
        churn: Some(head_model(churn.model.family(), churn.replaced.as_ref())),
        purchases: version
            .forecast
            .purchases
            .as_ref()
            .map(|head| head_model(&head.family(), head.replaced.as_ref())),
    }
}

fn head_model(family: &str, replaced: Option<&Replaced>) -> pb::HeadModel {
    pb::HeadModel {
        family: family.to_owned(),
        replaced: replaced.map(|replaced| pb::ReplacedModel {
            family: replaced.family.clone(),
            reason: replaced.reason.clone(),
        }),
    }
}

fn lineage(lineage: &Lineage) -> pb::Lineage {
    pb::Lineage {
        incumbent_version: lineage.incumbent.version.clone(),
        n_common: lineage.n_common,
        moved_by_model: lineage.moved_by_model,
        moved_by_index: lineage.moved_by_index,
        n_remained: lineage.n_remained,
        moved_by_customer: lineage.moved_by_customer,
        records: lineage.records.iter().map(lineage_record).collect(),
    }
}

fn lineage_record(record: &LineageRecord) -> pb::LineageRecord {
    let told = |event: pb::LineageEvent, segment_id: String, shares: &[Share]| pb::LineageRecord {
        event: event.into(),
        segment_id,
        shares: shares.iter().map(segment_share).collect(),
        ..Default::default()
    };
    match record {
        LineageRecord::Continued { segment, n_old, n_new, n_both } => pb::LineageRecord {
            n_old: Some(*n_old),
            n_new: Some(*n_new),
            n_both: Some(*n_both),
            ..told(pb::LineageEvent::Continued, segment.to_string(), &[])
        },
        LineageRecord::Split { segment, into } => {
            told(pb::LineageEvent::Split, segment.to_string(), into)
        }
        LineageRecord::Merge { into, from } => {
            told(pb::LineageEvent::Merge, into.to_string(), from)
        }
        LineageRecord::Birth { segment, from } => {
            told(pb::LineageEvent::Birth, segment.to_string(), from)
        }
        LineageRecord::Death { segment, into } => {
            told(pb::LineageEvent::Death, segment.to_string(), into)
        }
    }
}

fn segment_share(share: &Share) -> pb::SegmentShare {
    pb::SegmentShare {
        segment_id: share.segment.to_string(),
        n_customers: share.n_customers,
        share: share.share,
    }
}

fn gate_record(record: &GateRecord) -> pb::GateRecord {
    let verdict = &record.verdict;
    let outcome = match verdict.outcome {
        Outcome::Passed => pb::GateOutcome::Passed,
        Outcome::Refused => pb::GateOutcome::Refused,
        Outcome::Undecided => pb::GateOutcome::Undecided,
    };
    pb::GateRecord {
        judged_at: Some(timestamp(record.at)),
        incumbent_version: record.incumbent.clone(),
        outcome: outcome.into(),
        reasons: verdict.reasons.clone(),
        window_days: verdict.window_days,
        n_customers: verdict.n_customers,
        comparisons: verdict.comparisons.iter().map(comparison).collect(),
        relabelled: verdict.relabelled,
    }
}

fn comparison(comparison: &Comparison) -> pb::GateComparison {
    pb::GateComparison {
        head: comparison.head.clone(),
        metric: comparison.metric.clone(),
        n_customers: comparison.n_customers,
        incumbent: comparison.incumbent,
        candidate: comparison.candidate,
        loss: comparison.loss.map(|loss| pb::LossInterval {
            estimate: loss.estimate,
            low: loss.low,
            high: loss.high,
            level: loss.level,
        }),
        refuses: comparison.refuses,
    }
}

/// A JSON object as a protobuf Struct; nothing else fits into one.
fn structure(json: &serde_json::Value) -> Option<Struct> {
    let fields = json.as_object()?;
    Some(Struct { fields: fields.iter().map(|(name, json)| (name.clone(), value(json))).collect() })
}

fn value(json: &serde_json::Value) -> Value {
    let null = Kind::NullValue(NullValue::NullValue.into());
    let kind = match json {
        serde_json::Value::Null => null,
        serde_json::Value::Bool(truth) => Kind::BoolValue(*truth),
        serde_json::Value::Number(number) => number.as_f64().map_or(null, Kind::NumberValue),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(items) => {
            Kind::ListValue(ListValue { values: items.iter().map(value).collect() })
        }
        serde_json::Value::Object(_) => structure(json).map_or(null, Kind::StructValue),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use habitus_engine::domain::{SegmentId, Timestamp};
    use habitus_engine::training::{Interval, Verdict};

    fn id(name: &str) -> SegmentId {
        SegmentId(name.to_owned())
    }

    #[test]
    fn json_keeps_its_shape() {
        let json = serde_json::json!({"a": [1, null, {"b": true}], "c": "x"});
        let fields = structure(&json).unwrap().fields;
        assert_eq!(fields["c"].kind, Some(Kind::StringValue("x".into())));
        let Some(Kind::ListValue(list)) = &fields["a"].kind else { panic!("not a list") };
        assert_eq!(list.values[0].kind, Some(Kind::NumberValue(1.0)));
        assert_eq!(list.values[1].kind, Some(Kind::NullValue(0)));
        assert!(matches!(list.values[2].kind, Some(Kind::StructValue(_))));
        assert!(structure(&serde_json::json!([])).is_none());
    }

    #[test]
    fn a_lineage_record_names_both_ends() {
        let stayed = LineageRecord::Continued { segment: id("a"), n_old: 5, n_new: 4, n_both: 3 };
        let sent = lineage_record(&stayed);
        assert_eq!((sent.event(), sent.segment_id.as_str()), (pb::LineageEvent::Continued, "a"));
        assert_eq!((sent.n_old, sent.n_new, sent.n_both), (Some(5), Some(4), Some(3)));
        assert!(sent.shares.is_empty());

        let share = Share { segment: id("b"), n_customers: 2, share: 0.5 };
        let merged = LineageRecord::Merge { into: id("n"), from: vec![share] };
        let sent = lineage_record(&merged);
        assert_eq!((sent.event(), sent.segment_id.as_str()), (pb::LineageEvent::Merge, "n"));
        assert_eq!((sent.n_old, sent.n_new, sent.n_both), (None, None, None));
        let expected = pb::SegmentShare { segment_id: "b".to_owned(), n_customers: 2, share: 0.5 };
        assert_eq!(sent.shares, [expected]);
    }

    #[test]
    fn a_verdict_keeps_its_reasons_and_numbers() {
        let record = GateRecord {
            at: Timestamp(1_000),
            incumbent: "v".to_owned(),
            verdict: Verdict {
                outcome: Outcome::Refused,
                reasons: vec!["worse".to_owned()],
                window_days: 30,
                n_customers: 500,
                comparisons: vec![Comparison {
                    head: "churn".to_owned(),
                    metric: "brier".to_owned(),
                    n_customers: 400,
                    incumbent: Some(0.1),
                    candidate: None,
                    loss: Some(Interval { estimate: 0.3, low: 0.2, high: 0.4, level: 0.95 }),
                    refuses: true,
                }],
                relabelled: None,
            },
        };
        let sent = gate_record(&record);
        assert_eq!(sent.outcome(), pb::GateOutcome::Refused);
        assert_eq!((sent.incumbent_version.as_str(), sent.reasons.len()), ("v", 1));
        assert_eq!((sent.window_days, sent.n_customers, sent.relabelled), (30, 500, None));
        let metric = &sent.comparisons[0];
        assert_eq!((metric.incumbent, metric.candidate, metric.refuses), (Some(0.1), None, true));
        let expected = pb::LossInterval { estimate: 0.3, low: 0.2, high: 0.4, level: 0.95 };
        assert_eq!(metric.loss, Some(expected));
    }
}
