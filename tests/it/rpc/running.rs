//! A server over the shared trained version, on a port of its own.

use crate::support::{Trained, trained};
use habitus::registry::{PRODUCTION, Registry};
use habitus::rpc::{ServerError, Settings, pb, serve};
use habitus::serving::{Histories, LoadedModel, Serving};
use habitus::store::{self, Store};
use habitus_engine::domain::{History, Timestamp};
use habitus_engine::scoring::Scorer;
use pb::customer_service_client::CustomerServiceClient;
use pb::model_service_client::ModelServiceClient;
use pb::prediction_service_client::PredictionServiceClient;
use pb::segment_service_client::SegmentServiceClient;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

/// The server ends when this is dropped, so a test holds on to it.
pub struct Running {
    pub address: SocketAddr,
    pub channel: Channel,
    pub stop: oneshot::Sender<()>,
    pub ended: JoinHandle<Result<(), ServerError>>,
}

impl Running {
    pub async fn start() -> Running {
        Running::over(&trained().models_dir).await
    }

    /// A server of the trained version that finds other versions in this registry.
    pub async fn over(models_dir: &Path) -> Running {
        Running::of(models_dir, trained().histories.clone()).await
    }

    /// The same for other customers than those it was trained on.
    pub async fn of(models_dir: &Path, histories: Vec<History>) -> Running {
        Running::with(Arc::new(pinned(models_dir, histories)), Settings::default()).await
    }

    /// A server of the trained version that follows the production version of this registry.
    pub async fn following(models_dir: &Path) -> Running {
        let serving = pinned(models_dir, trained().histories.clone());
        Running::with(Arc::new(serving.following(PRODUCTION)), Settings::default()).await
    }

    /// A server of the trained version that guards and bounds calls in its own way.
    pub async fn under(settings: Settings) -> Running {
        let serving = pinned(&trained().models_dir, trained().histories.clone());
        Running::with(Arc::new(serving), settings).await
    }

    /// A server of the trained version over a store, which keeps events for so many days.
    pub async fn keeping(store: &Path, retention_days: Option<u32>) -> Running {
        let store = Store::open_or_create(store, &held(retention_days)).unwrap();
        let histories = Histories::of_store(Arc::new(store)).unwrap();
        let registry = Registry::open(&trained().models_dir);
        let serving = Serving::new(registry, loaded().clone(), histories);
        Running::with(Arc::new(serving), Settings::default()).await
    }

    /// A server of whatever is given.
    pub async fn with(serving: Arc<Serving>, settings: Settings) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(serve(serving, listener, settings, async move {
            let _ = stopped.await;
        }));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.connect().await.unwrap();
        Running { address, channel, stop, ended }
    }

    pub fn predictions(&self) -> PredictionServiceClient<Channel> {
        PredictionServiceClient::new(self.channel.clone())
    }

    pub fn customers(&self) -> CustomerServiceClient<Channel> {
        CustomerServiceClient::new(self.channel.clone())
    }

    pub fn segments(&self) -> SegmentServiceClient<Channel> {
        SegmentServiceClient::new(self.channel.clone())
    }

    pub fn models(&self) -> ModelServiceClient<Channel> {
        ModelServiceClient::new(self.channel.clone())
    }

    /// Begins a call whose message the server will wait for. When this returns, it is on its way.
    pub async fn hold(&self) -> HeldCall {
        let (begun, has_begun) = oneshot::channel();
        let (send, message) = oneshot::channel();
        let held = Held { begun: Some(begun), message: Some(message) };
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        let answer = tokio::spawn(async move {
            let path = "/habitus.v1.PredictionService/GetPrediction".parse().unwrap();
            let codec =
                ProstCodec::<pb::GetPredictionRequest, pb::GetPredictionResponse>::default();
            client.client_streaming(Request::new(held), path, codec).await
        });
        has_begun.await.unwrap();
        HeldCall { send, answer }
    }

    /// Asks whether the server is well. It takes the calls of a connection in order, so once it has
    /// answered this one it has those before.
    pub async fn is_well(&self) {
        let request = HealthCheckRequest { service: String::new() };
        HealthClient::new(self.channel.clone()).check(request).await.unwrap();
    }
}

/// A call in flight for as long as the test wants.
pub struct HeldCall {
    pub send: oneshot::Sender<pb::GetPredictionRequest>,
    pub answer: JoinHandle<Result<Response<pb::GetPredictionResponse>, Status>>,
}

/// A request that has begun but whose message is not sent until the test says so.
struct Held {
    begun: Option<oneshot::Sender<()>>,
    message: Option<oneshot::Receiver<pb::GetPredictionRequest>>,
}

impl Stream for Held {
    type Item = pb::GetPredictionRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(begun) = self.begun.take() {
            let _ = begun.send(());
        }
        let Some(receiver) = self.message.as_mut() else {
            return Poll::Ready(None);
        };
        let message = ready!(Pin::new(receiver).poll(cx));
        self.message = None;
        Poll::Ready(message.ok())
    }
}

/// What a server of the trained version over this registry knows, with nothing around it.
pub fn pinned(models_dir: &Path, histories: Vec<History>) -> Serving {
    let model = loaded().clone();
    let histories = Histories::of_log(histories, model.rules().clone(), trained().as_of, false);
    Serving::new(Registry::open(models_dir), model, histories)
}

/// How a small store is held.
pub fn held(retention_days: Option<u32>) -> store::Settings {
    store::Settings { cache_bytes: 8 << 20, history_bytes: 1 << 20, retention_days }
}

/// The trained version, read by the test itself.
pub fn loaded() -> &'static LoadedModel {
    static LOADED: LazyLock<LoadedModel> = LazyLock::new(|| {
        let Trained { models_dir, name, version, .. } = trained();
        LoadedModel::try_from(Registry::open(models_dir).load(name, version).unwrap()).unwrap()
    });
    &LOADED
}

pub fn scorer() -> &'static Scorer {
    &loaded().scorer
}

/// A question about one customer, at the server's as-of and of its version.
pub fn ask(customer_id: &str) -> pb::GetPredictionRequest {
    pb::GetPredictionRequest { customer_id: customer_id.to_owned(), as_of: None, version: None }
}

/// A question about many customers.
pub fn ask_all(customer_ids: Vec<String>) -> pb::BatchPredictRequest {
    pb::BatchPredictRequest { customer_ids, as_of: None, version: None }
}

pub fn instant(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.0.div_euclid(1000),
        nanos: at.0.rem_euclid(1000) as i32 * 1_000_000,
    }
}

/// Checks everything that a client may rely on in an error.
pub fn assert_refused(status: &Status, code: Code, reason: &str, field: Option<&str>) {
    assert_eq!(status.code(), code, "{status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "habitus.v1"));
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations);
    let fields: Vec<String> =
        violations.unwrap_or_default().into_iter().map(|violation| violation.field).collect();
    assert_eq!(fields, field.map(str::to_owned).into_iter().collect::<Vec<String>>());
    assert!(status.metadata().contains_key("x-request-id"));
}
