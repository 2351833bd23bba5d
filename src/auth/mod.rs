//! Who somebody is: a token's bearer, an API key's bearer, a Tencent Cloud IM administrator, and how
//! often each may knock.

mod api_keys;
mod jwks;
mod rate;
mod token;
mod usersig;
mod watch;

pub use self::api_keys::{ApiKeys, Role};
pub use self::rate::{Bucket, Buckets, Rate};
pub use self::token::{
    Algorithm, Identity, KeyFault, KeySource, SECRET_BYTES_MIN, TokenFault, TokenRules, Verifier,
    mint,
};
pub use self::usersig::{UserSigFault, UserSigVerifier};
pub use self::watch::WatchList;
