//! Whom the server lets in, what it bounds, and where it shows its metrics.

use super::ServerError;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// The settings of a server. The default is that of `serve` without a configuration.
#[derive(Debug)]
pub struct Settings {
    /// The SHA-256 of each accepted token. Where there are any, administrative and ingest calls
    /// need one.
    pub token_digests: Vec<[u8; 32]>,
    /// Threads that answer calls.
    pub threads: usize,
    /// The largest request.
    pub max_request_bytes: usize,
    /// Calls in flight in the whole server, beyond which more are refused.
    pub max_concurrent_calls: u32,
    /// Calls in flight on one connection, beyond which the client waits.
    pub max_concurrent_streams: u32,
    /// Where the metrics are shown. Whoever can connect may read them.
    pub metrics: Option<TcpListener>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            token_digests: Vec::new(),
            threads: rayon::current_num_threads(),
            // A full batch of ids of 400 bytes each.
            max_request_bytes: 4 << 20,
            max_concurrent_calls: 1024,
            max_concurrent_streams: 256,
            metrics: None,
        }
    }
}

impl Settings {
    /// Refuses an address that other machines can reach as long as no token is set, because
    /// everybody there could change what is served.
    ///
    /// # Errors
    /// [`ServerError::TokenNeeded`].
    pub fn check(&self, address: SocketAddr) -> Result<(), ServerError> {
        // An IPv4 address may come in the clothes of IPv6.
        let is_loopback = address.ip().to_canonical().is_loopback();
        if !is_loopback && self.token_digests.is_empty() {
            return Err(ServerError::TokenNeeded { address });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_goes_without_a_token() {
        let (open, guarded) =
            (Settings::default(), Settings { token_digests: vec![[7; 32]], ..Settings::default() });
        for (address, is_loopback) in [
            ("127.0.0.1:1", true),
            ("127.8.9.10:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
            ("[::ffff:10.0.0.1]:1", false),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(open.check(address).is_ok(), is_loopback, "{address}");
            assert!(guarded.check(address).is_ok(), "{address}");
        }
    }
}
