//! Why a token was refused.

/// Why a token was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It cannot be read, or none of the hub's keys signed it.
    #[error("{0}")]
    Invalid(String),
    /// One of the hub's keys signed it, and what it says is not accepted.
    #[error("{0}")]
    Unacceptable(String),
    /// The keys cannot be fetched now.
    #[error("the JWK set cannot be fetched now: try again later")]
    KeysUnavailable,
    /// The keys that were fetched a moment ago do not have the one it names, which may be new.
    #[error(
        "the JWK set that was fetched a few seconds ago has no key for this token's `kid`: if the key is \
         new, try again in a few seconds"
    )]
    KeyNotFetched,
}
