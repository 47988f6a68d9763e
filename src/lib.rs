//! habitus knows customers by their habits: the parts that touch the world.
//!
//! Everything that computes lives in [`habitus_engine`]. Here logs are read, versions are kept and
//! questions are answered:
//!
//! | room | what it does |
//! | --- | --- |
//! | [`ingest`] | logs to validated histories |
//! | [`export`] | tables to files, atomically |
//! | [`registry`] | versions, manifests, aliases |
//! | [`serving`] | what a running server knows |
//! | [`report`] | tables for people |
//! | [`rpc`] | gRPC |
//! | [`cli`] | one file per subcommand |
//! | [`config`] | the only reader of settings |

pub mod cli;
pub mod clock;
pub mod config;
pub mod export;
pub mod ingest;
pub mod panics;
pub mod registry;
pub mod report;
pub mod rpc;
pub mod serving;
pub mod store;
pub mod telemetry;
