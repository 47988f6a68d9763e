//! The example that travels in the binary, so that it is there wherever the binary is.

use crate::ingest::Source;
use std::borrow::Cow;

/// The name of the version that ships in `models/`.
pub const NAME: &str = "example";

/// The same text as examples/cdnow/habitus.toml.
pub const CONFIG: &str = include_str!("../../examples/cdnow/habitus.toml");

const ORDERS: &[u8] = include_bytes!("../../examples/cdnow/orders.csv");

/// The same bytes as examples/cdnow/orders.csv.
pub fn orders() -> Source {
    Source::Bytes { name: "examples/cdnow/orders.csv".to_owned(), bytes: Cow::Borrowed(ORDERS) }
}
