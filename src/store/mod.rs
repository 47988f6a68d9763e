//! Durable histories of customers.

#[cfg_attr(not(test), expect(dead_code, reason = "the store that keeps lines is not there yet"))]
mod line;
