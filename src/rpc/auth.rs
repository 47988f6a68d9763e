//! Who may make the calls that change something: whoever brings a token whose digest is known.

use super::RpcError;
use sha2::{Digest, Sha256};
use tonic::codegen::http::HeaderMap;
use tonic::codegen::http::header::AUTHORIZATION;

/// The accepted tokens, by their SHA-256. The tokens themselves are known to callers alone.
pub struct Tokens(Vec<[u8; 32]>);

impl Tokens {
    pub fn new(digests: Vec<[u8; 32]>) -> Tokens {
        Tokens(digests)
    }

    /// Lets a call pass that brings an accepted token. Where no token is accepted at all, which a
    /// server on loopback alone may do, none is asked for.
    ///
    /// # Errors
    /// [`RpcError::TokenMissing`] and [`RpcError::TokenUnknown`].
    pub fn check(&self, headers: &HeaderMap) -> Result<(), RpcError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let token = bearer(headers).ok_or(RpcError::TokenMissing)?;
        let given: [u8; 32] = Sha256::digest(token).into();
        // All are compared, and to the end, so that the time tells nothing.
        let known = self.0.iter().fold(false, |known, digest| known | same(digest, &given));
        if known { Ok(()) } else { Err(RpcError::TokenUnknown) }
    }
}

/// The token of `authorization: Bearer ...`. The name of the scheme has no case (RFC 9110).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let pairs = one.iter().zip(other);
    std::hint::black_box(pairs.fold(0, |differing, (one, other)| differing | (one ^ other))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::codegen::http::HeaderValue;

    fn check(tokens: &Tokens, header: Option<&str>) -> Result<(), RpcError> {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        tokens.check(&headers)
    }

    #[test]
    fn an_accepted_token_passes_and_no_other() {
        let digest = |token: &str| Sha256::digest(token).into();
        let tokens = Tokens::new(vec![digest("first"), digest("second")]);
        for good in ["Bearer first", "bearer second", "BEARER  second "] {
            assert!(check(&tokens, Some(good)).is_ok(), "{good}");
        }
        for unknown in ["Bearer third", "Bearer First", "Bearer first second", "Bearer é"] {
            assert!(
                matches!(check(&tokens, Some(unknown)), Err(RpcError::TokenUnknown)),
                "{unknown}"
            );
        }
        for missing in
            [None, Some(""), Some("Bearer"), Some("Bearer "), Some("Basic first"), Some("first")]
        {
            assert!(matches!(check(&tokens, missing), Err(RpcError::TokenMissing)), "{missing:?}");
        }
    }

    #[test]
    fn without_accepted_tokens_none_is_asked_for() {
        assert!(check(&Tokens::new(Vec::new()), None).is_ok());
    }
}
