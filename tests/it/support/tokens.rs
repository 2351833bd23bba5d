//! Signs tokens, as a back end does.

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::time::now_secs;

/// The secret that signs tokens in tests.
pub(crate) const SECRET: &str = "a secret of at least thirty-two bytes";

/// A token for a user, valid for an hour.
pub(crate) fn token(user: &str) -> String {
    token_with(json!({ "sub": user, "iat": now_secs(), "exp": now_secs() + 3600 }))
}

/// A token with these claims.
#[expect(clippy::needless_pass_by_value, reason = "callers build the claims inline")]
pub(crate) fn token_with(claims: Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::default(), &claims, &key).expect("a token")
}
