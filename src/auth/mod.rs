//! Authentication of tokens, API keys, dashboard logins and UserSigs, and rate limits.

mod api_keys;
mod fault;
mod jwks;
mod limit_key;
mod logins;
mod public_key;
mod rate;
mod token;
mod usersig;

pub use self::api_keys::{ApiKeys, Bearer, HashFault, KeyMark, Role, is_hash};
pub use self::fault::TokenFault;
pub use self::limit_key::limit_key;
pub use self::logins::{DashboardLogin, LOGIN_TTL, LOGINS_MAX, Logins};
pub use self::public_key::{Algorithm, KeyFault};
pub use self::rate::{Bucket, Buckets, Rate};
pub use self::token::{
    Identity, KeySource, SECRET_BYTES_MIN, TokenRules, Verifier, claimed_user, mint,
};
pub use self::usersig::{UserSigFault, UserSigVerifier};
