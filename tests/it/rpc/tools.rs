//! What grpcurl and probes use: health and reflection.

use super::running::{Running, ask_all, assert_refused};
use habitus::rpc::pb;
use prost::Message;
use prost_types::FileDescriptorProto;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

const SERVICES: [&str; 3] =
    ["habitus.v1.PredictionService", "habitus.v1.SegmentService", "habitus.v1.ModelService"];

async fn reflect(server: &Running, request: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let mut client = ServerReflectionClient::new(server.channel.clone());
    let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    answer.message_response.unwrap()
}

#[tokio::test]
async fn errors_that_tonic_makes_are_told_like_ours() {
    let server = Running::start().await;
    let refused = server.predictions().batch_predict(ask_all(vec!["x".repeat(5 << 20)])).await;
    assert_refused(&refused.unwrap_err(), Code::ResourceExhausted, "MESSAGE_TOO_LARGE", None);

    // The customer id is a text; as a number its bytes are no message.
    let mut grpc = tonic::client::Grpc::new(server.channel.clone());
    let call = async |grpc: &mut tonic::client::Grpc<_>, path: &'static str| {
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<u64, pb::GetPredictionResponse>::default();
        grpc.unary(tonic::Request::new(7u64), path.parse().unwrap(), codec).await.unwrap_err()
    };
    let refused = call(&mut grpc, "/habitus.v1.PredictionService/GetPrediction").await;
    assert_refused(&refused, Code::InvalidArgument, "UNREADABLE_MESSAGE", None);
    let refused = call(&mut grpc, "/habitus.v1.PredictionService/Dance").await;
    assert_refused(&refused, Code::Unimplemented, "UNKNOWN_METHOD", None);
}

#[tokio::test]
async fn every_service_is_healthy() {
    let server = Running::start().await;
    let mut health = HealthClient::new(server.channel.clone());
    for service in SERVICES.into_iter().chain([""]) {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let request = HealthCheckRequest { service: "none".to_owned() };
    assert_eq!(health.check(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn services_are_listed_by_reflection() {
    let server = Running::start().await;
    let answer = reflect(&server, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in SERVICES.into_iter().chain(["grpc.health.v1.Health"]) {
        assert!(names.contains(&service), "{names:?}");
    }
}

async fn file_of(server: &Running, symbol: &str) -> FileDescriptorProto {
    let answer = reflect(server, MessageRequest::FileContainingSymbol(symbol.to_owned())).await;
    let MessageResponse::FileDescriptorResponse(files) = answer else { panic!("{answer:?}") };
    FileDescriptorProto::decode(files.file_descriptor_proto[0].as_slice()).unwrap()
}

#[tokio::test]
async fn messages_are_described_with_comments_and_imports() {
    let server = Running::start().await;
    let types = file_of(&server, "habitus.v1.Prediction").await;
    let locations = types.source_code_info.unwrap().location;
    assert!(locations.iter().any(|location| location.leading_comments.is_some()));
    assert_eq!(types.dependency.len(), 2);
    for import in ["google.protobuf.Struct", "google.protobuf.Timestamp"] {
        let imported = file_of(&server, import).await;
        assert!(types.dependency.contains(&imported.name.unwrap()));
    }
}
