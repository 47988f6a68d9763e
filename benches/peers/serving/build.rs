//! Compiles the gRPC definitions of the repository, as its own build does.

const ROOT: &str = "../../../proto";
const PROTOS: [&str; 2] =
    ["habitus/v1/prediction_service.proto", "habitus/v1/customer_service.proto"];

fn main() {
    println!("cargo::rerun-if-changed={ROOT}");
    let described = protox::compile(PROTOS, [ROOT]).unwrap();
    tonic_prost_build::configure().compile_fds(described).unwrap();
}
