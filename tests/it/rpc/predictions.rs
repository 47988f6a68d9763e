//! `PredictionService`: the scorer's own numbers, and a name for every mistake.

use super::running::{Running, ask, ask_all, assert_refused, instant, loaded, scorer};
use crate::support::trained;
use habitus::rpc::pb;
use habitus::rpc::pb::batch_predict_row::Outcome;
use habitus::serving::{MAX_BATCH, PARALLEL_FROM};
use habitus_engine::domain::{Prediction, Timestamp};
use tonic::{Code, Request};

/// Seconds at the end of the year 9999.
const FAR_FUTURE_S: i64 = 253_402_300_799;

const NOBODY: &str = "nobody-in-any-log";

fn bits(number: Option<f64>) -> Option<u64> {
    number.map(f64::to_bits)
}

/// Every field, and every number to the bit.
fn assert_same(sent: &pb::Prediction, expected: &Prediction) {
    let model = loaded();
    let version = model.scorer.version();
    assert_eq!(sent.customer_id, expected.customer.as_str());
    assert_eq!((sent.model.as_str(), sent.model_version.as_str()), (model.name(), model.version()));
    assert_eq!(sent.as_of, Some(instant(expected.as_of)));
    assert_eq!(sent.newest_event, expected.newest_event.map(instant));

    let (segment, given) = (sent.segment.as_ref().unwrap(), expected.segment.given());
    assert_eq!(segment.status().as_str_name(), status_name(expected.segment.status()));
    assert_eq!(segment.segment_id, given.map_or("", |segment| segment.id.0.as_str()));
    assert_eq!(segment.segment_name, given.map_or("", |segment| segment.name.as_str()));
    assert_eq!(segment.cluster, given.map(|segment| segment.cluster as u32));
    assert_eq!(bits(segment.probability), bits(given.and_then(|segment| segment.probability)));
    assert_eq!(segment.noise, given.and_then(|segment| segment.noise));
    assert_eq!(segment.tier, given.map_or("", |segment| segment.tier));
    assert_eq!(segment.rfm, given.map(|segment| segment.rfm.to_string()).unwrap_or_default());

    let (value, given) = (sent.value.as_ref().unwrap(), expected.value.given());
    assert_eq!(value.status().as_str_name(), status_name(expected.value.status()));
    assert_eq!(value.horizon_days, version.forecast.bridge.horizon_days);
    assert_eq!(bits(value.ltv), bits(given.map(|value| value.ltv)));
    assert_eq!(bits(value.ltv_low), bits(given.map(|value| value.ltv_low)));
    assert_eq!(bits(value.ltv_high), bits(given.map(|value| value.ltv_high)));
    assert_eq!(value.interval_level.to_bits(), version.forecast.value.interval.level.to_bits());
    assert_eq!(value.currency_code, version.rules.currency.code);
    let purchases = given.and_then(|value| value.expected_purchases);
    assert_eq!(bits(value.expected_purchases), bits(purchases));
    assert_eq!(purchases.is_some(), given.is_some());

    let (churn, given) = (sent.churn.as_ref().unwrap(), expected.churn.given());
    assert_eq!(churn.status().as_str_name(), status_name(expected.churn.status()));
    assert_eq!(churn.horizon_days, version.forecast.bridge.horizon_days);
    assert_eq!(bits(churn.probability), bits(given.map(|churn| churn.probability)));
    assert_eq!(bits(churn.percentile), bits(given.map(|churn| churn.percentile)));
    let p_alive = given.and_then(|churn| churn.p_alive);
    assert_eq!(bits(churn.p_alive), bits(p_alive));
    assert_eq!(p_alive.is_some(), given.is_some());
    let reasons = given.map(|churn| churn.reasons.clone()).unwrap_or_default();
    assert_eq!(churn.reasons.len(), reasons.len());
    for (sent, expected) in churn.reasons.iter().zip(&reasons) {
        assert_eq!(sent.feature, expected.feature);
        assert_eq!(bits(sent.value), bits(expected.value));
        assert_eq!(sent.log_odds.to_bits(), expected.log_odds.to_bits());
    }
}

fn status_name(status: &str) -> String {
    format!("HEAD_STATUS_{status}")
}

fn statuses(prediction: &pb::Prediction) -> [pb::HeadStatus; 3] {
    [
        prediction.segment.as_ref().unwrap().status(),
        prediction.value.as_ref().unwrap().status(),
        prediction.churn.as_ref().unwrap().status(),
    ]
}

#[tokio::test]
async fn a_customer_gets_what_the_scorer_says() {
    let server = Running::start().await;
    let scorer = scorer();
    for history in trained().histories.iter().take(50) {
        let answer = server.predictions().get_prediction(ask(history.customer().as_str())).await;
        let sent = answer.unwrap().into_inner().prediction.unwrap();
        assert_same(&sent, &scorer.predict(history, trained().as_of));
    }
}

#[tokio::test]
async fn a_stranger_is_an_answer() {
    let server = Running::start().await;
    let answer = server.predictions().get_prediction(ask(NOBODY)).await.unwrap();
    let sent = answer.into_inner().prediction.unwrap();
    assert_eq!(statuses(&sent), [pb::HeadStatus::NoHistory; 3]);
    assert_eq!((sent.customer_id.as_str(), sent.newest_event), (NOBODY, None));
    let (segment, value, churn) = (sent.segment.unwrap(), sent.value.unwrap(), sent.churn.unwrap());
    assert_eq!((segment.segment_id.as_str(), segment.cluster), ("", None));
    assert_eq!((segment.tier.as_str(), segment.rfm.as_str()), ("", ""));
    assert_eq!((value.ltv, churn.probability), (None, None));
}

#[tokio::test]
async fn an_earlier_as_of_sees_no_later_event() {
    let server = Running::start().await;
    let scorer = scorer();
    let history = trained()
        .histories
        .iter()
        .find(|history| {
            let events = history.events();
            events.first().map(|event| event.at) != events.last().map(|event| event.at)
        })
        .unwrap();
    let customer = history.customer().as_str();
    let first = history.events()[0].at;
    for at in [first, Timestamp(first.0 - 1)] {
        let mut request = ask(customer);
        // What is finer than a millisecond changes nothing.
        let mut as_of = instant(at);
        as_of.nanos += 999_999;
        request.as_of = Some(as_of);
        let answer = server.predictions().get_prediction(request).await.unwrap();
        let sent = answer.into_inner().prediction.unwrap();
        assert_same(&sent, &scorer.predict(history, scorer.version().rules.zone.as_of(at)));
        assert_eq!(sent.newest_event, (at == first).then(|| instant(first)));
    }
}

#[tokio::test]
async fn the_as_of_of_an_answer_can_be_asked_for() {
    let server = Running::start().await;
    let customer = trained().histories[0].customer().as_str();
    let first = server.predictions().get_prediction(ask(customer)).await.unwrap().into_inner();
    let mut request = ask(customer);
    request.as_of = first.prediction.as_ref().unwrap().as_of;
    let second = server.predictions().get_prediction(request).await.unwrap().into_inner();
    assert_eq!(first.prediction, second.prediction);
}

#[tokio::test]
async fn bad_fields_are_named() {
    let server = Running::start().await;
    let customer = trained().histories[0].customer().as_str();
    for (seconds, nanos, reason) in [
        (FAR_FUTURE_S, 0, "AS_OF_IN_FUTURE"),
        (FAR_FUTURE_S + 1, 0, "BAD_TIMESTAMP"),
        (0, -1, "BAD_TIMESTAMP"),
        (0, 1_000_000_000, "BAD_TIMESTAMP"),
    ] {
        let as_of = Some(prost_types::Timestamp { seconds, nanos });
        let mut one = ask(customer);
        one.as_of = as_of;
        let refused = server.predictions().get_prediction(one).await.unwrap_err();
        assert_refused(&refused, Code::InvalidArgument, reason, Some("as_of"));
        let mut many = ask_all(vec![customer.to_owned()]);
        many.as_of = as_of;
        let refused = server.predictions().batch_predict(many).await.unwrap_err();
        assert_refused(&refused, Code::InvalidArgument, reason, Some("as_of"));
    }
    for empty in ["", " "] {
        let refused = server.predictions().get_prediction(ask(empty)).await.unwrap_err();
        let reason = "EMPTY_CUSTOMER_ID";
        assert_refused(&refused, Code::InvalidArgument, reason, Some("customer_id"));
    }
}

#[tokio::test]
async fn a_version_goes_by_its_name_and_an_unknown_one_is_not_found() {
    let server = Running::start().await;
    let customer = trained().histories[0].customer().as_str();
    let unnamed = server.predictions().get_prediction(ask(customer)).await.unwrap().into_inner();
    for name in [trained().version.as_str(), ""] {
        let mut request = ask(customer);
        request.version = Some(name.to_owned());
        let named = server.predictions().get_prediction(request).await.unwrap().into_inner();
        assert_eq!(named.prediction, unnamed.prediction);
    }
    for unknown in ["1970-01-01-000000000000", "../../etc", "."] {
        let mut request = ask(customer);
        request.version = Some(unknown.to_owned());
        let refused = server.predictions().get_prediction(request).await.unwrap_err();
        assert_refused(&refused, Code::NotFound, "UNKNOWN_VERSION", None);
    }
}

#[tokio::test]
async fn a_call_keeps_its_id() {
    let server = Running::start().await;
    let mut request = Request::new(ask(NOBODY));
    request.metadata_mut().insert("x-request-id", "order 7/3".parse().unwrap());
    let answer = server.predictions().get_prediction(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "order 7/3");
    assert_eq!(answer.into_inner().request_id, "order 7/3");

    let answer = server.predictions().get_prediction(ask(NOBODY)).await.unwrap();
    let made_up = answer.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned();
    assert!(!made_up.is_empty());
    assert_eq!(answer.into_inner().request_id, made_up);

    let mut request = Request::new(ask(""));
    request.metadata_mut().insert("x-request-id", "mine".parse().unwrap());
    let refused = server.predictions().get_prediction(request).await.unwrap_err();
    assert_eq!(refused.metadata().get("x-request-id").unwrap(), "mine");
}

#[tokio::test]
async fn a_batch_answers_row_by_row() {
    let server = Running::start().await;
    let scorer = scorer();
    let known = &trained().histories[0];
    let id = known.customer().as_str();
    let asked = [id, NOBODY, "", id].map(str::to_owned).to_vec();
    let answer = server.predictions().batch_predict(ask_all(asked.clone())).await.unwrap();
    let answer = answer.into_inner();
    assert_eq!(answer.model_version, trained().version);
    assert_eq!(answer.as_of, Some(instant(trained().as_of.at)));
    let ids: Vec<String> = answer.rows.iter().map(|row| row.customer_id.clone()).collect();
    assert_eq!(ids, asked);
    let outcomes: Vec<Outcome> = answer.rows.into_iter().map(|row| row.outcome.unwrap()).collect();
    let [
        Outcome::Prediction(first),
        Outcome::Prediction(stranger),
        Outcome::Error(error),
        Outcome::Prediction(again),
    ] = outcomes.as_slice()
    else {
        panic!("{outcomes:?}");
    };
    assert_same(first, &scorer.predict(known, trained().as_of));
    assert_eq!(again, first);
    assert_eq!(statuses(stranger), [pb::HeadStatus::NoHistory; 3]);
    assert_eq!(Code::from(error.code), Code::InvalidArgument);
    assert_eq!(error.reason, "EMPTY_CUSTOMER_ID");
}

#[tokio::test]
async fn a_batch_may_be_large_but_not_too_large() {
    let server = Running::start().await;
    let scorer = scorer();
    let histories: Vec<_> =
        trained().histories.iter().cycle().take(2 * PARALLEL_FROM + 1).collect();
    let asked = histories.iter().map(|history| history.customer().to_string()).collect();
    let answer = server.predictions().batch_predict(ask_all(asked)).await.unwrap().into_inner();
    assert_eq!(answer.rows.len(), histories.len());
    for (row, history) in answer.rows.iter().zip(histories) {
        let Some(Outcome::Prediction(sent)) = &row.outcome else { panic!("{row:?}") };
        assert_same(sent, &scorer.predict(history, trained().as_of));
    }

    let nothing = server.predictions().batch_predict(ask_all(Vec::new())).await.unwrap();
    assert!(nothing.into_inner().rows.is_empty());

    let too_many = ask_all(vec!["x".to_owned(); MAX_BATCH + 1]);
    let refused = server.predictions().batch_predict(too_many).await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, "BATCH_TOO_LARGE", Some("customer_ids"));
    assert!(refused.message().contains(&MAX_BATCH.to_string()));
}
