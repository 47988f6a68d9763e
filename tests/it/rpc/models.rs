//! `SegmentService` and `ModelService`: what the version itself says, and who belongs to a segment.

use super::running::{Running, ask, assert_refused, instant, loaded};
use crate::support::trained;
use habitus::rpc::pb;
use habitus_engine::domain::{CustomerId, History, Timestamp};
use prost_types::value::Kind;
use std::collections::BTreeMap;
use tonic::Code;

#[tokio::test]
async fn the_segments_are_those_of_the_version() {
    let server = Running::start().await;
    let model = loaded();
    let request = pb::ListSegmentsRequest { version: None };
    let answer = server.segments().list_segments(request).await.unwrap().into_inner();
    assert_eq!(answer.model, model.name());
    assert_eq!(answer.model_version, model.version());
    assert!(!answer.request_id.is_empty());
    assert_eq!(answer.segments.len(), model.segments().len());
    for (cluster, (sent, segment)) in answer.segments.iter().zip(model.segments()).enumerate() {
        assert_eq!(sent.segment_id, segment.id.0);
        assert_eq!(sent.name, segment.name);
        assert_eq!(sent.cluster, cluster as u32);
        let (sent, profile) = (sent.profile.as_ref().unwrap(), &segment.profile);
        assert_eq!(sent.n_customers, profile.n_customers);
        assert_eq!(sent.share_of_spend.to_bits(), profile.share_of_spend.to_bits());
        assert_eq!(sent.mean_ltv.to_bits(), profile.mean_ltv.to_bits());
    }
    let n_customers: u64 =
        answer.segments.iter().map(|segment| segment.profile.as_ref().unwrap().n_customers).sum();
    assert_eq!(n_customers, model.manifest.sealed.n_customers);

    for listed in answer.segments {
        let request =
            pb::GetSegmentRequest { segment_id: listed.segment_id.clone(), version: None };
        let one = server.segments().get_segment(request).await.unwrap().into_inner();
        assert_eq!(one.segment, Some(listed));
        assert_eq!(one.model_version, model.version());
    }
}

#[tokio::test]
async fn a_segment_that_is_not_there_is_not_found() {
    let server = Running::start().await;
    let get = |segment_id: &str, version: Option<&str>| pb::GetSegmentRequest {
        segment_id: segment_id.to_owned(),
        version: version.map(str::to_owned),
    };
    let refused = server.segments().get_segment(get("seg_none", None)).await.unwrap_err();
    assert_refused(&refused, Code::NotFound, "UNKNOWN_SEGMENT", None);
    let refused = server.segments().get_segment(get("", None)).await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, "EMPTY_SEGMENT_ID", Some("segment_id"));
    let refused = server.segments().get_segment(get("seg_none", Some("none"))).await.unwrap_err();
    assert_refused(&refused, Code::NotFound, "UNKNOWN_VERSION", None);
}

#[tokio::test]
async fn versions_are_listed_and_described() {
    let server = Running::start().await;
    let model = loaded();
    let list = |name: Option<&str>| pb::ListModelVersionsRequest { name: name.map(str::to_owned) };
    let answer = server.models().list_model_versions(list(None)).await.unwrap().into_inner();
    let listed: Vec<&pb::ModelVersion> =
        answer.versions.iter().filter(|version| version.serving).collect();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].version, trained().version);
    assert!(listed[0].heads.is_none() && listed[0].metrics.is_none());

    let request = pb::GetModelVersionRequest {
        name: Some(trained().name.clone()),
        version: Some(trained().version.clone()),
    };
    let named = server.models().get_model_version(request).await.unwrap().into_inner();
    let request = pb::GetModelVersionRequest { name: None, version: None };
    let unnamed = server.models().get_model_version(request).await.unwrap().into_inner();
    assert_eq!(named.version, unnamed.version);
    // It is the first of its name.
    assert_eq!((unnamed.lineage, unnamed.gate), (None, None));

    let version = unnamed.version.unwrap();
    let manifest = &model.manifest;
    assert_eq!((&version.name, &version.version), (&trained().name, &trained().version));
    assert_eq!(version.digest, manifest.digest);
    assert_eq!(version.as_of, Some(instant(manifest.sealed.as_of.at)));
    assert_eq!(version.created_at, Some(instant(manifest.created_at)));
    assert_eq!(version.n_customers, manifest.sealed.n_customers);
    let population = version.population.as_ref().unwrap();
    assert_eq!(population.n_customers, trained().histories.len() as u64);
    assert_eq!(population.n_sampled, manifest.sealed.population.n_sampled);
    assert_eq!(version.incumbent_version, None);
    let bridge = model.scorer.version().forecast.bridge;
    assert_eq!(
        (version.horizon_days, version.window_days, version.bridged),
        (bridge.horizon_days, bridge.window_days, bridge.bridged())
    );
    let heads = version.heads.as_ref().unwrap();
    assert_eq!(heads.n_segments as usize, model.segments().len());
    let churn = &model.scorer.version().forecast.churn;
    let sent = heads.churn.as_ref().unwrap();
    assert_eq!(sent.family, churn.model.family());
    assert_eq!(sent.replaced.is_some(), churn.replaced.is_some());
    let metrics = &version.metrics.as_ref().unwrap().fields;
    assert_eq!(metrics["bridged"].kind, Some(Kind::BoolValue(bridge.bridged())));
    assert_eq!(metrics.len(), model.metrics.as_object().unwrap().len());

    // The entry of the list is the description without its larger parts.
    let (heads, metrics) = (None, None);
    assert_eq!(*listed[0], pb::ModelVersion { heads, metrics, ..version });
}

#[tokio::test]
async fn a_model_or_version_that_is_not_there_is_not_found() {
    let server = Running::start().await;
    for name in ["none", "..", "a/b"] {
        let request = pb::ListModelVersionsRequest { name: Some(name.to_owned()) };
        let refused = server.models().list_model_versions(request).await.unwrap_err();
        assert_refused(&refused, Code::NotFound, "UNKNOWN_MODEL", None);
        let request = pb::GetModelVersionRequest { name: Some(name.to_owned()), version: None };
        let refused = server.models().get_model_version(request).await.unwrap_err();
        assert_refused(&refused, Code::NotFound, "UNKNOWN_MODEL", None);
    }
    let request = pb::GetModelVersionRequest { name: None, version: Some("none".to_owned()) };
    let refused = server.models().get_model_version(request).await.unwrap_err();
    assert_refused(&refused, Code::NotFound, "UNKNOWN_VERSION", None);
}

fn ask_members(segment_id: &str) -> pb::ListSegmentMembersRequest {
    pb::ListSegmentMembersRequest { segment_id: segment_id.to_owned(), ..Default::default() }
}

/// All messages about a segment, whose members must be in order and in as few messages as possible.
async fn list(
    server: &Running,
    request: pb::ListSegmentMembersRequest,
) -> Vec<pb::ListSegmentMembersResponse> {
    let mut stream = server.segments().list_segment_members(request).await.unwrap().into_inner();
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        messages.push(message);
    }
    let (last, full) = messages.split_last().unwrap();
    assert!(full.iter().all(|message| message.members.len() == 1_000));
    assert!(last.members.len() <= 1_000 && (full.is_empty() || !last.members.is_empty()));
    let ids: Vec<&str> = messages
        .iter()
        .flat_map(|message| &message.members)
        .map(|member| member.customer_id.as_str())
        .collect();
    assert!(ids.is_sorted());
    messages
}

#[tokio::test]
async fn the_members_of_a_segment_are_those_whom_get_prediction_puts_there() {
    let server = Running::start().await;
    let mut client = server.predictions();
    // Not everybody had bought something by then.
    let earlier = Timestamp(trained().as_of.at.0 - 650 * 86_400_000);
    for as_of in [None, Some(instant(earlier))] {
        let mut expected: BTreeMap<String, Vec<pb::SegmentMember>> = BTreeMap::new();
        for history in &trained().histories {
            let request = pb::GetPredictionRequest { as_of, ..ask(history.customer().as_str()) };
            let answer = client.get_prediction(request).await.unwrap().into_inner();
            let prediction = answer.prediction.unwrap();
            let pb::SegmentHead { segment_id, probability, .. } = prediction.segment.unwrap();
            let customer_id = prediction.customer_id;
            let member = pb::SegmentMember { customer_id, probability };
            expected.entry(segment_id).or_default().push(member);
        }
        assert_eq!(expected.contains_key(""), as_of.is_some(), "who has no history is nowhere");
        for segment in loaded().segments() {
            let request = pb::ListSegmentMembersRequest { as_of, ..ask_members(&segment.id.0) };
            let messages = list(&server, request).await;
            for message in &messages {
                assert_eq!(message.model, loaded().name());
                assert_eq!(message.model_version, loaded().version());
                let at = as_of.unwrap_or_else(|| instant(trained().as_of.at));
                assert_eq!(message.as_of, Some(at));
                assert!(!message.request_id.is_empty());
                assert_eq!(message.request_id, messages[0].request_id);
            }
            let members: Vec<pb::SegmentMember> =
                messages.into_iter().flat_map(|message| message.members).collect();
            assert_eq!(members, expected.remove(&segment.id.0).unwrap_or_default());
        }
        expected.remove("");
        assert!(expected.is_empty(), "{expected:?}");
    }
}

#[tokio::test]
async fn many_members_come_in_several_messages_and_none_in_one() {
    let copies = trained().histories.iter().cycle().take(5_000).enumerate();
    // The order in which they are given is not the order of their ids.
    let copies = copies.map(|(n, history)| {
        History::new(CustomerId::new(&format!("x{:04}", 4_999 - n)), history.events().to_vec())
    });
    let server = Running::of(&trained().models_dir, copies.collect()).await;
    let (mut n_members, mut n_messages) = (0, 0);
    for segment in loaded().segments() {
        let messages = list(&server, ask_members(&segment.id.0)).await;
        n_messages += messages.len();
        n_members += messages.iter().map(|message| message.members.len()).sum::<usize>();
    }
    assert_eq!(n_members, 5_000);
    assert!(n_messages > loaded().segments().len());

    let as_of = Some(instant(Timestamp(0)));
    let request = ask_members(&loaded().segments()[0].id.0);
    let nobody = list(&server, pb::ListSegmentMembersRequest { as_of, ..request }).await;
    assert_eq!((nobody.len(), nobody[0].members.len(), nobody[0].as_of), (1, 0, as_of));
}

#[tokio::test]
async fn members_that_cannot_be_listed_are_refused_at_once() {
    let server = Running::start().await;
    let segment = &loaded().segments()[0].id.0;
    let version = Some("none".to_owned());
    let as_of = Some(prost_types::Timestamp { seconds: 253_402_300_799, nanos: 0 });
    let unknown_version = pb::ListSegmentMembersRequest { version, ..ask_members(segment) };
    let in_future = pb::ListSegmentMembersRequest { as_of, ..ask_members(segment) };
    for (request, code, reason, field) in [
        (ask_members(""), Code::InvalidArgument, "EMPTY_SEGMENT_ID", Some("segment_id")),
        (ask_members("seg_none"), Code::NotFound, "UNKNOWN_SEGMENT", None),
        (unknown_version, Code::NotFound, "UNKNOWN_VERSION", None),
        (in_future, Code::InvalidArgument, "AS_OF_IN_FUTURE", Some("as_of")),
    ] {
        let refused = server.segments().list_segment_members(request).await.unwrap_err();
        assert_refused(&refused, code, reason, field);
    }
}

#[tokio::test]
async fn a_client_who_goes_away_leaves_a_server_that_can_end() {
    let server = Running::start().await;
    let segment = &loaded().segments()[0].id.0;
    let answer = server.segments().list_segment_members(ask_members(segment)).await.unwrap();
    assert!(answer.metadata().contains_key("x-request-id"));
    drop(answer);
    assert!(server.predictions().get_prediction(ask("c001")).await.is_ok());
    server.stop.send(()).unwrap();
    server.ended.await.unwrap().unwrap();
}
