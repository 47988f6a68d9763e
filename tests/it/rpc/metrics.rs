//! The page of metrics, read as Prometheus reads it.

use super::running::{Running, ask, ask_all, loaded};
use crate::support::{get, trained};
use habitus::rpc::{Settings, pb};
use habitus_engine::domain::History;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;

const GET_PREDICTION: &str = "habitus.v1.PredictionService/GetPrediction";

/// A server with a page, and where the page is.
async fn measured(settings: Settings) -> (Running, SocketAddr) {
    let page = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = page.local_addr().unwrap();
    (Running::under(Settings { metrics: Some(page), ..settings }).await, address)
}

/// The server is in this process, so the test must not wait in its thread.
async fn read(address: SocketAddr, path: &'static str) -> (String, String) {
    tokio::task::spawn_blocking(move || get(address, path)).await.unwrap()
}

/// The number of a series, such as `name` or `name{label="value"}`.
fn number(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

fn calls(page: &str, method: &str, code: &str) -> Option<f64> {
    number(page, &format!("habitus_calls_total{{method=\"{method}\",code=\"{code}\"}}"))
}

#[tokio::test]
async fn calls_answers_and_what_is_served_are_on_the_page() {
    let (server, page) = measured(Settings::default()).await;
    for customer in ["c001", "c002", "nobody"] {
        server.predictions().get_prediction(ask(customer)).await.unwrap();
    }
    server.predictions().get_prediction(ask("")).await.unwrap_err();
    let batch = ask_all(vec!["c001".to_owned(), "c002".to_owned()]);
    server.predictions().batch_predict(batch).await.unwrap();
    let segment_id = loaded().segments()[0].id.0.clone();
    let request = pb::ListSegmentMembersRequest { segment_id, as_of: None, version: None };
    let mut stream = server.segments().list_segment_members(request).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
    server.is_well().await;
    for path in ["/habitus.v1.PredictionService/Dance", "/made.up.Service/Method"] {
        let mut grpc = tonic::client::Grpc::new(server.channel.clone());
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<u64, pb::GetPredictionResponse>::default();
        let path = path.parse().unwrap();
        grpc.unary(tonic::Request::new(7u64), path, codec).await.unwrap_err();
    }

    let (status, text) = read(page, "/metrics").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert_eq!(calls(&text, GET_PREDICTION, "OK"), Some(3.0), "{text}");
    assert_eq!(calls(&text, GET_PREDICTION, "INVALID_ARGUMENT"), Some(1.0));
    assert_eq!(calls(&text, GET_PREDICTION, "INTERNAL"), None);
    assert_eq!(calls(&text, "habitus.v1.PredictionService/BatchPredict", "OK"), Some(1.0));
    assert_eq!(calls(&text, "habitus.v1.SegmentService/ListSegmentMembers", "OK"), Some(1.0));
    assert_eq!(calls(&text, "habitus.v1.ModelService/SetAlias", "OK"), Some(0.0));
    assert_eq!(calls(&text, "grpc.health.v1.Health/Check", "OK"), Some(1.0));
    assert_eq!(calls(&text, "other", "UNIMPLEMENTED"), Some(2.0));
    assert!(!text.contains("Dance") && !text.contains("made.up"));

    let duration = |suffix: &str, rest: &str| {
        let labels = format!("{{{rest}method=\"{GET_PREDICTION}\"}}");
        number(&text, &format!("habitus_call_duration_seconds_{suffix}{labels}")).unwrap()
    };
    assert_eq!(duration("count", ""), 4.0);
    assert_eq!(duration("bucket", "le=\"+Inf\","), 4.0);
    assert!(duration("bucket", "le=\"0.00005\",") <= duration("bucket", "le=\"10.0\","));
    assert!(duration("sum", "") > 0.0);

    let version = trained().version.as_str();
    let answers = format!("habitus_answers_total{{version=\"{version}\"}}");
    assert_eq!(number(&text, &answers), Some(5.0));
    let served = format!("habitus_served_version_info{{name=\"shop\",version=\"{version}\"}}");
    assert_eq!(number(&text, &served), Some(1.0));
    assert_eq!(number(&text, "habitus_calls_in_flight"), Some(0.0));
    assert_eq!(number(&text, "habitus_customers"), Some(trained().histories.len() as f64));
    let newest = trained().histories.iter().filter_map(History::newest).max().unwrap();
    let told = number(&text, "habitus_newest_event_timestamp_seconds").unwrap();
    assert_eq!(told, newest.0 as f64 / 1000.0);
    assert!(number(&text, "habitus_start_time_seconds").unwrap() > told);
    // The histories are in memory.
    assert!(!text.contains("habitus_store"), "{text}");
}

#[tokio::test]
async fn there_is_one_page() {
    let (_server, page) = measured(Settings::default()).await;
    for path in ["/", "/metrics/", "/metrics/x", "/habitus.v1.PredictionService/GetPrediction"] {
        assert_eq!(read(page, path).await.0, "HTTP/1.1 404 Not Found", "{path}");
    }
}

#[tokio::test]
async fn calls_under_way_and_those_that_were_turned_away_or_given_up_are_told() {
    let (server, page) =
        measured(Settings { max_concurrent_calls: 1, ..Settings::default() }).await;
    let held = server.hold().await;
    server.is_well().await;
    server.predictions().get_prediction(ask("c001")).await.unwrap_err();
    let (_, text) = read(page, "/metrics").await;
    assert_eq!(number(&text, "habitus_calls_in_flight"), Some(1.0));
    assert_eq!(calls(&text, GET_PREDICTION, "RESOURCE_EXHAUSTED"), Some(1.0));
    assert_eq!(calls(&text, GET_PREDICTION, "CANCELLED"), None);

    held.answer.abort();
    for _ in 0..500 {
        let (_, text) = read(page, "/metrics").await;
        // Whether the message or the reset is missed first is up to the transport.
        let ended = |code| calls(&text, GET_PREDICTION, code).unwrap_or(0.0);
        let given_up = ended("CANCELLED") + ended("INVALID_ARGUMENT");
        if given_up == 1.0 && number(&text, "habitus_calls_in_flight") == Some(0.0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (_, text) = read(page, "/metrics").await;
    panic!("the server still waits for a call that was given up:\n{text}");
}
