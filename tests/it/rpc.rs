//! The gRPC face, asked by real clients over real sockets.

mod door;
mod drain;
mod live;
mod metrics;
mod models;
mod parity;
mod predictions;
mod running;
mod swap;
mod tools;
mod versions;
