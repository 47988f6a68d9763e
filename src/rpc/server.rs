//! The server: every service on one listener, until it is told to end.

use super::auth::Tokens;
use super::complete::complete;
use super::customer_service::Customers;
use super::door::{Door, DoorLayer};
use super::follow;
use super::metrics::Metrics;
use super::metrics_page;
use super::model_service::Models;
use super::pb;
use super::pb::customer_service_server::{self, CustomerServiceServer};
use super::pb::model_service_server::{self, ModelServiceServer};
use super::pb::prediction_service_server::{self, PredictionServiceServer};
use super::pb::segment_service_server::{self, SegmentServiceServer};
use super::prediction_service::Predictions;
use super::segment_service::Segments;
use super::settings::Settings;
use super::workers::Workers;
use crate::clock;
use crate::serving::Serving;
use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::util::MapResponseLayer;

/// A full batch of answers of 3 KiB each, which is several times what an answer takes.
const MAX_RESPONSE_BYTES: usize = 32 << 20;

/// A connection without traffic is probed this often, so that one whose other end is gone does not
/// stay open.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the server looks whether its store is well.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long calls in flight may go on once the server was told to end.
const DRAIN: Duration = Duration::from_secs(10);

/// What health checks may ask about; the empty name stands for the server as a whole.
const HEALTH_OF: [&str; 5] = [
    "",
    prediction_service_server::SERVICE_NAME,
    segment_service_server::SERVICE_NAME,
    model_service_server::SERVICE_NAME,
    customer_service_server::SERVICE_NAME,
];

/// Why the server could not start, or ended before it was told to.
#[derive(Debug, Error)]
pub enum ServerError {
    #[error(
        "{address} is no loopback address, and `serve.token_sha256` lists no token: whoever can \
         reach it could change what is served"
    )]
    TokenNeeded { address: SocketAddr },
    #[error("a thread that answers calls cannot be had")]
    Worker(#[source] std::io::Error),
    #[error("the listener fails")]
    Listener(#[source] std::io::Error),
    #[error("the services cannot be described to clients")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error("the server broke down")]
    Transport(#[from] tonic::transport::Error),
    #[error("signals cannot be listened for")]
    Signals(#[source] std::io::Error),
}

/// Answers on `listener` until `shutdown` resolves.
///
/// The listener is bound by the caller, so that port 0 works and a client may connect as soon as
/// the address is known: connections wait in the listener until the server takes them.
///
/// Every call goes through one door, which bounds, guards and counts it as `settings` say.
///
/// On shutdown health turns to NOT_SERVING first, then the listener closes, and calls in flight get
/// ten seconds to end. A client that watches health counts as a call and uses that time up.
///
/// # Errors
/// [`ServerError`], but for signals.
pub async fn serve(
    serving: Arc<Serving>,
    listener: TcpListener,
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    settings.check(listener.local_addr().map_err(ServerError::Listener)?)?;
    // It ends with this call.
    let _following = follow::start(&serving);
    let metrics = Arc::new(Metrics::new(clock::now()));
    let tokens = Tokens::new(settings.token_digests);
    let max_calls = u64::from(settings.max_concurrent_calls);
    let door = Arc::new(Door::new(max_calls, tokens, Arc::clone(&metrics)));
    let max_request_bytes = settings.max_request_bytes;
    let (health, health_service) = tonic_health::server::health_reporter();
    report(&health, ServingStatus::Serving).await;
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let reflection = described().build_v1()?;
    // The reflection client of grpcio still asks by the older name.
    let reflection_v1alpha = described().build_v1alpha()?;
    let predictions = Predictions::new(Arc::clone(&serving), metrics);
    let predictions = PredictionServiceServer::new(predictions)
        .max_decoding_message_size(max_request_bytes)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let segments = SegmentServiceServer::new(Segments::new(Arc::clone(&serving)))
        .max_decoding_message_size(max_request_bytes)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let customers = CustomerServiceServer::new(Customers::new(Arc::clone(&serving)))
        .max_decoding_message_size(max_request_bytes)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let models = ModelServiceServer::new(Models::new(Arc::clone(&serving)))
        .max_decoding_message_size(max_request_bytes)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let routes = Routes::new(health_service)
        .add_service(reflection)
        .add_service(reflection_v1alpha)
        .add_service(predictions)
        .add_service(segments)
        .add_service(models)
        .add_service(customers);
    let (layer, max_streams) = (DoorLayer::new(&door), settings.max_concurrent_streams);
    let mut workers = Workers::start(settings.threads, move |dealt, drained| {
        Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(max_streams)
            .layer(layer.clone())
            .layer(MapResponseLayer::new(complete))
            .add_routes(routes.clone())
            .serve_with_incoming_shutdown(dealt, drained)
    })?;
    let watched = Arc::clone(&serving);
    let page = async {
        match settings.metrics {
            Some(listener) => metrics_page::show(listener, Arc::clone(&door), serving).await,
            None => pending().await,
        }
    };
    let mut page = pin!(page);
    // The listener closes when connections are no longer dealt.
    tokio::select! {
        dealt = workers.deal(listener) => dealt?,
        ended = &mut page => return ended.map_err(ServerError::Listener),
        () = shutdown => {}
        () = told_unwell(&health, &watched) => {}
    }
    report(&health, ServingStatus::NotServing).await;
    workers.drain();
    tokio::select! {
        ended = workers.ended() => ended,
        ended = page => ended.map_err(ServerError::Listener),
        () = tokio::time::sleep(DRAIN) => {
            tracing::warn!(after_s = DRAIN.as_secs(), "calls still in flight were cut off");
            Ok(())
        }
    }
}

/// Resolves when the process is told to end, by SIGTERM or SIGINT. The signals are caught from the
/// moment this returns. It must be called within a tokio runtime.
///
/// # Errors
/// [`ServerError::Signals`].
pub fn shutdown_signal() -> Result<impl Future<Output = ()>, ServerError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServerError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServerError::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Turns health to NOT_SERVING where the store's disk failed, so that somebody starts the server
/// again; what can be answered is answered until then. It never resolves.
async fn told_unwell(health: &HealthReporter, serving: &Serving) {
    while serving.is_well() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    tracing::error!("the store's disk failed: no more events are taken until a new start");
    report(health, ServingStatus::NotServing).await;
    pending().await
}

async fn report(health: &HealthReporter, status: ServingStatus) {
    for name in HEALTH_OF {
        health.set_service_status(name, status).await;
    }
}
