//! `[serve]` as it is written, and what is impossible in it.

use super::written::refuse;
use super::{ConfigError, Overrides};
use serde::Deserialize;
use std::net::SocketAddr;

/// Larger messages are a file, not a call. The bound keeps a request's size within an allocation
/// that a server survives.
const MOST_MESSAGE_KB: usize = 1 << 20;
/// Beyond so many calls or streams the bound is none.
const MOST_CALLS: u32 = 1_000_000;

/// The SHA-256 of nothing, which is what hashing a variable that is not set gives.
const DIGEST_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Whom a server lets in, what it bounds, and where it tells how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeSettings {
    pub listen: SocketAddr,
    /// Where the metrics are shown; nowhere where absent.
    pub metrics: Option<SocketAddr>,
    /// The SHA-256 of each token that is accepted.
    pub token_digests: Vec<[u8; 32]>,
    pub max_message_bytes: usize,
    /// In flight in the whole server.
    pub max_concurrent_calls: u32,
    /// Of one connection.
    pub max_concurrent_streams: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawServe {
    listen: SocketAddr,
    metrics: Option<SocketAddr>,
    token_sha256: Vec<String>,
    max_message_kb: usize,
    max_concurrent_calls: u32,
    max_concurrent_streams: u32,
}

impl RawServe {
    pub(super) fn check(self, overrides: &Overrides) -> Result<ServeSettings, ConfigError> {
        let kb = self.max_message_kb;
        refuse(!(1..=MOST_MESSAGE_KB).contains(&kb), "serve.max_message_kb", || {
            format!("{kb} is not possible; 1 to {MOST_MESSAGE_KB} are")
        })?;
        for (key, n) in [
            ("serve.max_concurrent_calls", self.max_concurrent_calls),
            ("serve.max_concurrent_streams", self.max_concurrent_streams),
        ] {
            refuse(!(1..=MOST_CALLS).contains(&n), key, || {
                format!("{n} is not possible; 1 to {MOST_CALLS} are")
            })?;
        }
        Ok(ServeSettings {
            listen: overrides.listen.unwrap_or(self.listen),
            metrics: overrides.metrics.or(self.metrics),
            token_digests: digests(&self.token_sha256)?,
            max_message_bytes: kb * 1024,
            max_concurrent_calls: self.max_concurrent_calls,
            max_concurrent_streams: self.max_concurrent_streams,
        })
    }
}

/// The errors quote nothing: whoever wrote a token where its digest belongs must not find it in a
/// log.
fn digests(written: &[String]) -> Result<Vec<[u8; 32]>, ConfigError> {
    let mut digests = Vec::with_capacity(written.len());
    for (number, text) in (1..).zip(written) {
        let digest = digest(text);
        refuse(digest.is_none(), "serve.token_sha256", || {
            format!("entry {number} is no SHA-256 of a token, which has 64 hexadecimal digits")
        })?;
        refuse(text.eq_ignore_ascii_case(DIGEST_OF_NOTHING), "serve.token_sha256", || {
            format!("entry {number} is the SHA-256 of an empty text, which is no token")
        })?;
        digests.extend(digest);
    }
    Ok(digests)
}

fn digest(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn load(text: &str) -> Result<ServeSettings, ConfigError> {
        Config::from_text(text, &Overrides::default()).map(|config| config.serve)
    }

    #[test]
    fn it_is_safe_by_default() {
        let serve = load("").unwrap();
        assert!(serve.listen.ip().is_loopback());
        assert_eq!((serve.metrics, serve.token_digests.len()), (None, 0));
        assert_eq!(serve.max_message_bytes, 4 << 20);
    }

    #[test]
    fn digests_are_read_in_either_case() {
        let text = format!(
            "[serve]\ntoken_sha256 = ['00{0}fe', '00{1}FE']",
            "ab".repeat(30),
            "AB".repeat(30)
        );
        let digests = load(&text).unwrap().token_digests;
        assert_eq!(digests[0], digests[1]);
        assert_eq!((digests[0][0], digests[0][1], digests[0][31]), (0, 0xab, 0xfe));
    }

    #[test]
    fn what_is_impossible_is_named_and_no_token_is_quoted() {
        let short = "a-token-in-the-place-of-its-digest";
        let long = "a-token-of-as-many-characters-as-a-digest-has-hexadecimal-digits";
        assert_eq!(long.len(), 64);
        for (line, key) in [
            (format!("token_sha256 = ['{short}']"), "serve.token_sha256"),
            (format!("token_sha256 = ['{long}']"), "serve.token_sha256"),
            (format!("token_sha256 = ['{}']", "é".repeat(32)), "serve.token_sha256"),
            (format!("token_sha256 = ['{DIGEST_OF_NOTHING}']"), "serve.token_sha256"),
            ("max_message_kb = 0".to_owned(), "serve.max_message_kb"),
            ("max_message_kb = 2000000".to_owned(), "serve.max_message_kb"),
            ("max_concurrent_calls = 0".to_owned(), "serve.max_concurrent_calls"),
            ("max_concurrent_streams = 0".to_owned(), "serve.max_concurrent_streams"),
            ("max_concurrent_streams = -1".to_owned(), "serve.max_concurrent_streams"),
            ("metrics = 'here'".to_owned(), "serve.metrics"),
        ] {
            let error = load(&format!("[serve]\n{line}")).unwrap_err().to_string();
            assert!(error.contains(key), "{line}: {error}");
            assert!(!error.contains(short) && !error.contains(long), "{error}");
        }
    }

    #[test]
    fn the_flag_wins() {
        let metrics = "127.0.0.1:9999".parse().ok();
        let overrides = Overrides { metrics, ..Overrides::default() };
        let text = "[serve]\nmetrics = '127.0.0.1:9464'";
        assert_eq!(Config::from_text(text, &overrides).unwrap().serve.metrics, metrics);
    }
}
