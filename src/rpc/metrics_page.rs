//! The metrics as a page, in the text format of OpenMetrics, on an address of their own.

use super::door::Door;
use super::metrics::{Histogram, Metrics, OfVersion};
use crate::serving::{Holdings, Serving};
use crate::store::CacheCounts;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use habitus_engine::domain::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use tokio::net::TcpListener;

const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Shows the metrics at `/metrics` until it is dropped. Any other path is not found.
///
/// # Errors
/// Those of the listener.
pub async fn show(
    listener: TcpListener,
    door: Arc<Door>,
    serving: Arc<Serving>,
) -> std::io::Result<()> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page { door, serving }));
    let registry = Arc::new(registry);
    let page = move || async move {
        let mut text = String::new();
        // Only a writer can fail, and a text takes everything.
        let _ = encode(&mut text, &registry);
        ([(CONTENT_TYPE, FORMAT)], text).into_response()
    };
    axum::serve(listener, Router::new().route("/metrics", get(page))).await
}

/// What is read each time that the page is asked for.
struct Page {
    door: Arc<Door>,
    serving: Arc<Serving>,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Page { door, serving } = self;
        let metrics = door.metrics();
        calls(&mut encoder, metrics)?;
        let help = "Calls in flight, but health checks.";
        gauge(&mut encoder, "habitus_calls_in_flight", help, &door.in_flight())?;
        versions(&mut encoder, metrics, serving)?;
        holdings(&mut encoder, &serving.holdings())?;
        let name = "habitus_start_time_seconds";
        gauge(&mut encoder, name, "When the server began to answer.", &seconds(metrics.started_at))
    }
}

fn calls(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    let help = "Calls that have ended, by method and gRPC code.";
    let mut family = encoder.encode_descriptor("habitus_calls", help, None, MetricType::Counter)?;
    for (method, code, n) in metrics.calls() {
        let labels = [("method", method), ("code", code)];
        family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&n, None)?;
    }
    let (name, help) = ("habitus_call_duration_seconds", "From a call to the end of its answer.");
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (method, durations) in metrics.durations() {
        histogram(&mut family.encode_family(&[("method", method)])?, &durations)?;
    }
    Ok(())
}

fn histogram(encoder: &mut MetricEncoder<'_>, told: &Histogram) -> fmt::Result {
    encoder.encode_histogram::<NoLabelSet>(told.seconds, told.n(), &told.buckets, None)
}

fn versions(
    encoder: &mut DescriptorEncoder<'_>,
    metrics: &Metrics,
    serving: &Serving,
) -> fmt::Result {
    let help = "Customers answered about, by the version that answered.";
    let mut family =
        encoder.encode_descriptor("habitus_answers", help, None, MetricType::Counter)?;
    let answers = metrics.answers();
    for OfVersion { version, n_customers, .. } in &answers {
        let labels = [("version", version)];
        family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(n_customers, None)?;
    }
    let (name, help) = ("habitus_answer_errors", "Questions that a version failed to answer.");
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for OfVersion { version, errors, .. } in &answers {
        for (method, code, n) in errors {
            let labels = [("method", *method), ("version", version), ("code", code)];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(n, None)?;
        }
    }
    let (name, help) = ("habitus_answer_duration_seconds", "From a question to its answer.");
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for OfVersion { version, durations, .. } in &answers {
        for (method, told) in durations {
            let labels = [("method", *method), ("version", version)];
            histogram(&mut family.encode_family(&labels)?, told)?;
        }
    }
    let served = serving.served();
    let (name, help) = ("habitus_served_version", "The version that answers where none is named.");
    encoder
        .encode_descriptor(name, help, None, MetricType::Info)?
        .encode_info(&[("name", served.name()), ("version", served.version())])
}

fn holdings(encoder: &mut DescriptorEncoder<'_>, holdings: &Holdings) -> fmt::Result {
    let Holdings { n_customers, newest_event, store } = holdings;
    gauge(encoder, "habitus_customers", "Customers with a history.", n_customers)?;
    if let Some(newest) = newest_event {
        let help = "The newest event that the server knows of.";
        gauge(encoder, "habitus_newest_event_timestamp_seconds", help, &seconds(*newest))?;
    }
    if let Some(store) = store {
        let help = "How often the store has changed: by records, erasures and compactions.";
        gauge(encoder, "habitus_store_sequence", help, &store.sequence)?;
        gauge(encoder, "habitus_store_bytes", "What the store takes on the disk.", &store.bytes)?;
        let CacheCounts { hits, misses, histories, bytes } = store.histories;
        gauge(encoder, "habitus_cached_histories", "Histories in memory.", &histories)?;
        gauge(encoder, "habitus_cached_history_bytes", "What they take.", &bytes)?;
        let help = "Histories that answers asked for, by whether they were in memory.";
        let name = "habitus_history_lookups";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (found, n) in [("true", hits), ("false", misses)] {
            let labels = [("found", found)];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&n, None)?;
        }
    }
    Ok(())
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: &impl EncodeGaugeValue,
) -> fmt::Result {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(value)
}

/// Seconds since 1970.
fn seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1000.0
}
