//! What a server refuses before it looks at a message: calls without a token, too many, too large.

use super::running::{Running, ask, ask_all, assert_refused};
use crate::support::{Run, trained};
use habitus::registry::Registry;
use habitus::rpc::{ServerError, Settings, pb, serve};
use habitus::serving::{Histories, Serving};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

/// Settings by which one token lets in.
fn guarded(token: &str) -> Settings {
    Settings { token_digests: vec![Sha256::digest(token).into()], ..Settings::default() }
}

/// A request with this `authorization`, and an id to find it by.
fn with<T>(message: T, authorization: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-request-id", "call-7".parse().unwrap());
    if let Some(text) = authorization {
        request.metadata_mut().insert("authorization", text.parse().unwrap());
    }
    request
}

/// How the two calls that change something are refused. With an accepted token the service itself
/// refuses them, for what they ask.
async fn refusals(server: &Running, authorization: Option<&str>) -> [Status; 2] {
    let alias = "canary".to_owned();
    let set = pb::SetAliasRequest { alias, ..pb::SetAliasRequest::default() };
    let back = pb::RollBackRequest { alias: Some("..".to_owned()), name: None };
    [
        server.models().set_alias(with(set, authorization)).await.unwrap_err(),
        server.models().roll_back(with(back, authorization)).await.unwrap_err(),
    ]
}

#[tokio::test]
async fn what_changes_something_needs_the_token() {
    let server = Running::under(guarded("open sesame")).await;
    for (authorization, reason) in [
        (None, "TOKEN_MISSING"),
        (Some("Basic open sesame"), "TOKEN_MISSING"),
        (Some("Bearer "), "TOKEN_MISSING"),
        (Some("Bearer open sesam"), "TOKEN_UNKNOWN"),
        (Some("Bearer Open Sesame"), "TOKEN_UNKNOWN"),
    ] {
        for refused in refusals(&server, authorization).await {
            assert_refused(&refused, Code::Unauthenticated, reason, None);
            assert_eq!(refused.metadata().get("x-request-id").unwrap(), "call-7");
            assert!(!refused.message().contains("esam"), "{refused:?}");
        }
    }
    let [set, back] = refusals(&server, Some("Bearer open sesame")).await;
    assert_refused(&set, Code::InvalidArgument, "EMPTY_VERSION", Some("version"));
    assert_refused(&back, Code::InvalidArgument, "BAD_ALIAS", Some("alias"));

    // A service that is not there yet is guarded too.
    let mut grpc = tonic::client::Grpc::new(server.channel.clone());
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<u64, pb::GetPredictionResponse>::default();
    let path = "/habitus.v1.CustomerService/NotThere".parse().unwrap();
    let refused = grpc.unary(Request::new(7u64), path, codec).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, "TOKEN_MISSING", None);
}

#[tokio::test]
async fn what_only_asks_needs_no_token() {
    let server = Running::under(guarded("open sesame")).await;
    assert!(server.predictions().get_prediction(ask("c001")).await.is_ok());
    assert!(server.segments().list_segments(pb::ListSegmentsRequest::default()).await.is_ok());
    let list = pb::ListModelVersionsRequest::default();
    assert!(server.models().list_model_versions(list).await.is_ok());
    server.is_well().await;
}

#[tokio::test]
async fn a_server_without_a_token_stays_on_loopback() {
    let models = &trained().models_dir;
    let run = Run::new("serve").path("--models", models).path("--events", &trained().orders);
    run.arg("--listen").arg("0.0.0.0:0").fails(2, &["0.0.0.0:0", "serve.token_sha256"]);

    let model = super::running::loaded().clone();
    let histories = Histories::of_log(Vec::new(), model.rules().clone(), trained().as_of, false);
    let serving = Serving::new(Registry::open(models), model, histories);
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let ended = serve(Arc::new(serving), listener, Settings::default(), std::future::pending());
    assert!(matches!(ended.await, Err(ServerError::TokenNeeded { .. })));
}

#[tokio::test]
async fn calls_beyond_the_bound_are_refused_at_once_and_may_be_tried_again() {
    let server = Running::under(Settings { max_concurrent_calls: 1, ..Settings::default() }).await;
    for is_given_up in [false, true] {
        let held = server.hold().await;
        server.is_well().await;
        let refused = server.predictions().get_prediction(ask("c001")).await.unwrap_err();
        assert_refused(&refused, Code::ResourceExhausted, "TOO_MANY_CALLS", None);
        let retry = refused.get_details_retry_info().unwrap();
        assert_eq!(retry.retry_delay, Some(Duration::from_secs(1)));
        assert_eq!(refused.get_details_error_info().unwrap().metadata["limit"], "1");
        server.is_well().await;

        if is_given_up {
            held.answer.abort();
            // The server learns of it by and by.
            for _ in 0..500 {
                if server.predictions().get_prediction(ask("c001")).await.is_ok() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        } else {
            held.send.send(ask("c001")).unwrap();
            held.answer.await.unwrap().unwrap();
        }
        assert!(server.predictions().get_prediction(ask("c001")).await.is_ok());
    }
}

#[tokio::test]
async fn calls_of_one_connection_beyond_the_bound_wait() {
    let server =
        Running::under(Settings { max_concurrent_streams: 1, ..Settings::default() }).await;
    // After this the client knows the server's bound.
    server.is_well().await;
    let held = server.hold().await;
    let mut client = server.predictions();
    let mut waiting = tokio::spawn(async move { client.get_prediction(ask("c002")).await });
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut waiting).await.is_err());
    held.send.send(ask("c001")).unwrap();
    held.answer.await.unwrap().unwrap();
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test]
async fn the_largest_message_is_a_setting() {
    let server = Running::under(Settings { max_request_bytes: 1024, ..Settings::default() }).await;
    let refused = server.predictions().batch_predict(ask_all(vec!["x".repeat(1024)])).await;
    assert_refused(&refused.unwrap_err(), Code::ResourceExhausted, "MESSAGE_TOO_LARGE", None);
    assert!(server.predictions().batch_predict(ask_all(vec!["x".repeat(1000)])).await.is_ok());
}
