//! Compiles the gRPC definitions, without a protoc on the machine.

use std::error::Error;
use std::path::PathBuf;

const PROTOS: [&str; 5] = [
    "proto/habitus/v1/types.proto",
    "proto/habitus/v1/prediction_service.proto",
    "proto/habitus/v1/segment_service.proto",
    "proto/habitus/v1/model_service.proto",
    "proto/habitus/v1/customer_service.proto",
];

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script where to write this way")]
fn main() -> Result<(), Box<dyn Error>> {
    for proto in PROTOS {
        println!("cargo::rerun-if-changed={proto}");
    }
    // Comments and the imported google types travel with the descriptors, so that a client that
    // learns the services by reflection is shown the units too.
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_files(PROTOS)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("habitus_descriptor.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
