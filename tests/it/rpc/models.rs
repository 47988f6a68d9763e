//! `SegmentService` and `ModelService`: what the version itself says.

use super::running::{Running, assert_refused, instant, loaded};
use crate::support::trained;
use habitus::rpc::pb;
use prost_types::value::Kind;
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

    let version = unnamed.version.unwrap();
    let manifest = &model.manifest;
    assert_eq!((&version.name, &version.version), (&trained().name, &trained().version));
    assert_eq!(version.digest, manifest.digest);
    assert_eq!(version.as_of, Some(instant(manifest.sealed.as_of.at)));
    assert_eq!(version.created_at, Some(instant(manifest.created_at)));
    assert_eq!(version.n_customers, manifest.sealed.n_customers);
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
