//! The end of a server: calls in flight are answered, new ones are not taken.

use super::running::{Running, ask};
use habitus::rpc::pb;
use habitus_engine::domain::History;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tonic::Request;
use tonic::client::Grpc;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;

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

#[tokio::test]
async fn a_call_in_flight_is_answered_and_then_nobody_is() {
    let server = Running::start().await;
    let customer = crate::support::trained().histories.first().map(History::customer).unwrap();
    let request = ask(customer.as_str());
    let expected = server.predictions().get_prediction(request.clone()).await.unwrap();

    let (begun, has_begun) = oneshot::channel();
    let (send, message) = oneshot::channel();
    let held = Held { begun: Some(begun), message: Some(message) };
    let mut client = Grpc::new(server.channel.clone());
    client.ready().await.unwrap();
    let call = tokio::spawn(async move {
        let path = "/habitus.v1.PredictionService/GetPrediction".parse().unwrap();
        let codec = ProstCodec::<pb::GetPredictionRequest, pb::GetPredictionResponse>::default();
        client.client_streaming(Request::new(held), path, codec).await
    });
    has_begun.await.unwrap();

    // The server takes the calls of a connection in order, so once it answers this one it has the
    // one before.
    let mut health = HealthClient::new(server.channel.clone());
    let watch = HealthCheckRequest { service: String::new() };
    let mut watched = health.watch(watch).await.unwrap().into_inner();
    let status = watched.message().await.unwrap().unwrap().status();
    assert_eq!(status, ServingStatus::Serving);

    server.stop.send(()).unwrap();
    let status = watched.message().await.unwrap().unwrap().status();
    assert_eq!(status, ServingStatus::NotServing);

    send.send(request).unwrap();
    let answer = call.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.prediction, expected.into_inner().prediction);

    drop(watched);
    server.ended.await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
