//! gRPC: what `proto/` promises, kept by the serving room.
//!
//! The way of a call: a service file (`prediction_service`, `segment_service`, `model_service`,
//! `customer_service`) takes the message, `request_id` names the call and `reply` ends it, `lookup` finds the version
//! that it asks for, the serving room answers, `convert` and `describe` put the answer into
//! messages, and `status` puts errors into codes; `complete` does the same for the errors that
//! tonic makes. `answers` are those that come in several messages: of `members`, of histories that
//! are `scored`, and of the `records_stream`, whose messages `records` reads. `server` runs it all on
//! its `workers`, with health and reflection, and `follow` looks at the alias whose version is served.
//!
//! Around all services stands a `door`: it bounds the calls in flight, asks for tokens (`auth`) where
//! `methods` says so, and counts each call (`metrics`), which `metrics_page` shows.
//!
//! The generated types do not leave this room, except to clients. What is absent: any arithmetic on
//! answers, and any decision that another caller of the serving room would have to make again.

mod answers;
mod auth;
mod client;
mod complete;
mod convert;
mod customer_service;
mod describe;
mod door;
mod error;
mod follow;
mod lookup;
mod members;
mod methods;
mod metrics;
mod metrics_page;
mod model_service;
mod prediction_service;
mod records;
mod records_stream;
mod reply;
mod request_id;
mod scored;
mod segment_service;
mod server;
mod settings;
mod status;
mod workers;

pub use client::{AskError, ask};
pub use server::{ServerError, serve, shutdown_signal};
pub use settings::Settings;

use error::RpcError;

/// The messages, services and clients that are generated from `proto/`.
#[allow(clippy::all, reason = "generated")]
pub mod pb {
    tonic::include_proto!("habitus.v1");

    /// The compiled `proto/` with its comments and imports, as reflection tells it.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        tonic::include_file_descriptor_set!("habitus_descriptor");
}
