//! The reasons to refuse a token.

/// Why a token was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// It has expired.
    #[error("the token has expired")]
    Expired,
    /// It is malformed, or none of the hub's keys signed it.
    #[error("{0}")]
    Invalid(String),
    /// One of the hub's keys signed it, but its claims are not accepted.
    #[error("{0}")]
    Unacceptable(String),
    /// The JWK set cannot be fetched now.
    #[error("the JWK set cannot be fetched now: try again later")]
    KeysUnavailable,
}
