//! The end of a server: calls in flight are answered, new ones are not taken.

use super::running::{Running, ask};
use habitus_engine::domain::History;
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn a_call_in_flight_is_answered_and_then_nobody_is() {
    let server = Running::start().await;
    let customer = crate::support::trained().histories.first().map(History::customer).unwrap();
    let request = ask(customer.as_str());
    let expected = server.predictions().get_prediction(request.clone()).await.unwrap();

    let held = server.hold().await;
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

    held.send.send(request).unwrap();
    let answer = held.answer.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.prediction, expected.into_inner().prediction);

    drop(watched);
    server.ended.await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
