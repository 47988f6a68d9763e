//! The least that a tonic server costs: it knows no customer and computes nothing, but answers with
//! the messages of habitus.v1, of the size and shape that habitus itself gave.
//!
//!     floor multi|reuseport PORT [ANSWER]
//!
//! `multi` is one multi-thread runtime, `reuseport` one current-thread runtime per core, each with a
//! listener of its own on the same port. ANSWER is a file with an encoded Prediction, which everybody
//! gets with their own id in it; without it one is made up here.

use crate::pb;
use crate::pb::batch_predict_row::Outcome;
use crate::pb::prediction_service_server::{PredictionService, PredictionServiceServer};
use prost::Message;
use std::net::SocketAddr;
use std::sync::Arc;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

#[derive(Clone)]
struct Floor(Arc<pb::Prediction>);

impl Floor {
    fn answer(&self, customer_id: String) -> pb::Prediction {
        pb::Prediction { customer_id, ..(*self.0).clone() }
    }
}

#[tonic::async_trait]
impl PredictionService for Floor {
    async fn get_prediction(
        &self,
        request: Request<pb::GetPredictionRequest>,
    ) -> Result<Response<pb::GetPredictionResponse>, Status> {
        Ok(Response::new(pb::GetPredictionResponse {
            prediction: Some(self.answer(request.into_inner().customer_id)),
            request_id: "0123456789abcdef0123456789abcdef".to_owned(),
        }))
    }

    async fn batch_predict(
        &self,
        request: Request<pb::BatchPredictRequest>,
    ) -> Result<Response<pb::BatchPredictResponse>, Status> {
        let ids = request.into_inner().customer_ids.into_iter();
        let row = |id: String| pb::BatchPredictRow {
            outcome: Some(Outcome::Prediction(self.answer(id.clone()))),
            customer_id: id,
        };
        Ok(Response::new(pb::BatchPredictResponse {
            rows: ids.map(row).collect(),
            model: self.0.model.clone(),
            model_version: self.0.model_version.clone(),
            as_of: self.0.as_of,
            request_id: "0123456789abcdef0123456789abcdef".to_owned(),
        }))
    }

    type ScoreCustomersStream = tokio_stream::Empty<Result<pb::ScoreCustomersResponse, Status>>;

    async fn score_customers(
        &self,
        _: Request<Streaming<pb::ScoreCustomersRequest>>,
    ) -> Result<Response<Self::ScoreCustomersStream>, Status> {
        Err(Status::unimplemented("the floor scores nobody"))
    }
}

/// All that an answer may hold.
fn made_up() -> pb::Prediction {
    let ok = i32::from(pb::HeadStatus::Ok);
    let at = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_000_000 });
    let reason = |feature: &str| pb::ChurnReason {
        feature: feature.to_owned(),
        value: Some(12.5),
        log_odds: -0.75,
    };
    pb::Prediction {
        customer_id: String::new(),
        model: "serving".to_owned(),
        model_version: "2023-11-14-0123456789ab".to_owned(),
        as_of: at,
        newest_event: at,
        segment: Some(pb::SegmentHead {
            status: ok,
            segment_id: "seg_0123456789".to_owned(),
            segment_name: "Frequent, high value, active".to_owned(),
            cluster: Some(3),
            probability: Some(0.987),
            tier: "A".to_owned(),
            rfm: "5-3-4".to_owned(),
            noise: Some(false),
        }),
        value: Some(pb::ValueHead {
            status: ok,
            horizon_days: 90,
            ltv: Some(123.45),
            ltv_low: Some(67.8),
            ltv_high: Some(234.5),
            interval_level: 0.8,
            currency_code: "USD".to_owned(),
            expected_purchases: Some(2.5),
            purchases_low: None,
            purchases_high: None,
        }),
        churn: Some(pb::ChurnHead {
            status: ok,
            horizon_days: 90,
            probability: Some(0.25),
            percentile: Some(0.125),
            reasons: vec![reason("recency"), reason("purchase_days"), reason("mean_spend")],
            p_alive: Some(0.875),
        }),
        store_sequence: Some(20_000_000),
    }
}

fn listener(address: SocketAddr) -> std::net::TcpListener {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )
    .unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(4096).unwrap();
    socket.into()
}

async fn serve(floor: Floor, address: SocketAddr) {
    let listener = tokio::net::TcpListener::from_std(listener(address)).unwrap();
    Server::builder()
        .max_concurrent_streams(Some(1024))
        .add_service(PredictionServiceServer::new(floor))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await
        .unwrap();
}

pub fn main() {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().expect("multi or reuseport");
    let port: u16 = arguments.next().expect("a port").parse().unwrap();
    let answer = arguments
        .next()
        .map(|file| pb::Prediction::decode(std::fs::read(file).unwrap().as_slice()).unwrap());
    let floor = Floor(Arc::new(answer.unwrap_or_else(made_up)));
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    if mode == "multi" {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(serve(floor, address));
    }
    let cores = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for _ in 0..cores {
            let floor = floor.clone();
            scope.spawn(move || {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                runtime.enable_all().build().unwrap().block_on(serve(floor, address));
            });
        }
    });
}
