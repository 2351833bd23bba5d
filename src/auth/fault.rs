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
    #[error("the keys cannot be fetched now")]
    KeysUnavailable,
}
