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
    /// The keys that were fetched a moment ago do not have the one it names, which may be new.
    #[error(
        "the JWK set that was fetched a few seconds ago has no key for this token's `kid`: if the key is \
         new, try again in a few seconds"
    )]
    KeyNotFetched,
}
