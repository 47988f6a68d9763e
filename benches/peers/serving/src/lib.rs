//! The floor of serving, and the load for every server that is measured.

pub mod floor;
pub mod raw;

pub mod pb {
    tonic::include_proto!("habitus.v1");
}
