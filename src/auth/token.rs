//! Verifies tokens, turns their claims into identities, and mints tokens for development.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fault::TokenFault;
use super::jwks::Jwks;
use super::public_key::{self, Algorithm, KeyFault};
use crate::heavy::Heavy;
use crate::presence::{DeviceId, Platform, Timestamp, UserId, Watchable};

/// The maximum size of a token.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// The minimum size of an HS256 secret (RFC 7518, section 3.2).
pub const SECRET_BYTES_MIN: usize = 32;
/// Later than any real time, in the year 5138. Times in milliseconds are greater.
const SECS_MAX: f64 = 99_999_999_999.0;

/// The source of the keys that verify tokens.
#[derive(Clone)]
pub enum KeySource {
    /// Shared secrets (HS256); any of them may have signed a token.
    Secrets(Vec<Vec<u8>>),
    /// Public keys in PEM; any of them may verify a token.
    Pems(Vec<Vec<u8>>),
    /// A JWK set, which is fetched and cached.
    Jwks {
        /// Its URL.
        url: String,
        /// `outgoing.allow_private`.
        allow_private: bool,
    },
}

/// The requirements for a token beside its signature.
#[derive(Debug, Clone)]
pub struct TokenRules {
    /// The required algorithm.
    pub algorithm: Algorithm,
    /// The required `iss`; empty for any.
    pub issuer: String,
    /// The required `aud`; empty for any.
    pub audience: String,
    /// The allowed difference between the clocks of signer and hub.
    pub leeway: Duration,
    /// How far in the future `exp` may be.
    pub max_ttl: Duration,
}

/// The user of a verified token, and what the token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `sub`.
    pub user: UserId,
    /// `exp`, on the wall clock.
    pub expires_at: Timestamp,
    /// `iat`; 0 if the token has none (L9).
    pub issued_at_secs: u64,
    /// The platforms that it may log in on; `None` for any.
    platforms: Option<BTreeSet<Platform>>,
    /// The device that it may log in on; `None` for any.
    device: Option<String>,
    /// `watch`: the users that it may watch (P1); `None` if the token does not say.
    pub watch: Option<Arc<Watchable>>,
}

/// Turns tokens into identities.
pub struct Verifier {
    keys: Keys,
    rules: TokenRules,
    validation: Arc<Validation>,
    heavy: Heavy,
}

enum Keys {
    Fixed(Vec<DecodingKey>),
    Fetched(Arc<Jwks>),
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: NumericDate,
    nbf: Option<NumericDate>,
    iat: Option<NumericDate>,
    platform: Option<OneOrMany<Platform>>,
    device: Option<String>,
    watch: Option<Vec<String>>,
}

/// Seconds since the Unix epoch: a non-negative integer or float (RFC 7519, section 2).
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
struct NumericDate(u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl TryFrom<f64> for NumericDate {
    type Error = &'static str;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
    fn try_from(secs: f64) -> Result<Self, &'static str> {
        if (0.0..=SECS_MAX).contains(&secs) {
            Ok(Self(secs as u64))
        } else {
            Err("not a time in seconds")
        }
    }
}

impl NumericDate {
    const fn at(self) -> Timestamp {
        Timestamp::from_millis(self.0.saturating_mul(1000))
    }
}

impl Verifier {
    /// Makes a verifier; a JWK set is fetched when the first token arrives.
    ///
    /// # Errors
    ///
    /// If a key does not fit the algorithm.
    pub fn new(source: &KeySource, rules: TokenRules) -> Result<Self, KeyFault> {
        let keys = match source {
            KeySource::Secrets(secrets) => {
                Keys::Fixed(secrets.iter().map(|secret| DecodingKey::from_secret(secret)).collect())
            }
            KeySource::Pems(pems) => {
                let keys = pems.iter().map(|pem| public_key::from_pem(rules.algorithm, pem));
                Keys::Fixed(keys.collect::<Result<_, _>>()?)
            }
            KeySource::Jwks { url, allow_private } => {
                let jwks =
                    Jwks::new(url, *allow_private, rules.algorithm).map_err(KeyFault::Url)?;
                Keys::Fetched(Arc::new(jwks))
            }
        };
        let mut validation = Validation::new(rules.algorithm.of_library());
        // The times are checked by `check_claims`, on the hub's clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let mut required = vec!["exp", "sub"];
        validation.validate_aud = !rules.audience.is_empty();
        if !rules.audience.is_empty() {
            validation.set_audience(&[&rules.audience]);
            required.push("aud");
        }
        if !rules.issuer.is_empty() {
            validation.set_issuer(&[&rules.issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        Ok(Self { keys, rules, validation: Arc::new(validation), heavy: Heavy::default() })
    }

    /// Checks a token's signature and claims.
    ///
    /// # Errors
    ///
    /// If the token is refused, or its key cannot be fetched now.
    pub async fn verify(&self, token: &str, wall: Timestamp) -> Result<Identity, TokenFault> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid("the token is longer than 8 KiB"));
        }
        let header = decode_header(token)
            .map_err(|_| invalid("the token is not a valid JWT, or its `alg` is unknown"))?;
        self.check_header(&header)?;
        let claims = match &self.keys {
            Keys::Fixed(keys) => self.signed_claims(token, keys).await?,
            Keys::Fetched(jwks) => {
                let kid = header.kid.as_deref();
                let set = jwks.keys(kid, wall).await?;
                let claims = self.signed_claims(token, set.candidates(kid)).await?;
                match claims {
                    Some(_) => claims,
                    None => match jwks.newer(&set, wall).await {
                        Some(newer) => self.signed_claims(token, newer.candidates(kid)).await?,
                        None => None,
                    },
                }
            }
        };
        let claims = claims.ok_or_else(|| {
            invalid(
                "none of the hub's keys signed the token: the back end must sign with a key that \
                 is configured in the hub",
            )
        })?;
        self.check_claims(claims, wall)
    }

    /// The claims of a token, if one of these keys signed it. Public-key signatures take up to a
    /// millisecond, so they are verified off the runtime's threads.
    async fn signed_claims<'a>(
        &self,
        token: &str,
        keys: impl IntoIterator<Item = &'a DecodingKey>,
    ) -> Result<Option<Claims>, TokenFault> {
        if self.rules.algorithm == Algorithm::HS256 {
            return signed_by(token, keys, &self.validation);
        }
        let keys: Vec<_> = keys.into_iter().cloned().collect();
        let (token, validation) = (token.to_owned(), Arc::clone(&self.validation));
        let verified = self.heavy.run(move || signed_by(&token, &keys, &validation)).await;
        verified.unwrap_or_else(|| Err(invalid("the token could not be verified")))
    }

    /// Takes over the fetched keys of an earlier verifier, if both fetch the same set, so that known
    /// keys stay in use after a reload even while the set cannot be fetched.
    #[must_use]
    pub fn keeping_keys_of(self: Arc<Self>, earlier: &Self) -> Arc<Self> {
        let (Keys::Fetched(mine), Keys::Fetched(known)) = (&self.keys, &earlier.keys) else {
            return self;
        };
        if !mine.is_same(known) {
            return self;
        }
        let keys = Keys::Fetched(Arc::clone(known));
        let (rules, validation) = (self.rules.clone(), Arc::clone(&self.validation));
        Arc::new(Self { keys, rules, validation, heavy: self.heavy.clone() })
    }

    /// The allowed difference between the clocks of signer and hub.
    pub const fn leeway(&self) -> Duration {
        self.rules.leeway
    }

    fn check_header(&self, header: &Header) -> Result<(), TokenFault> {
        if header.alg != self.rules.algorithm.of_library() {
            let algorithm = self.rules.algorithm;
            let message = format!("the token's `alg` must be {algorithm:?}, as in auth.algorithm");
            return Err(invalid(&message));
        }
        if !header.typ.as_deref().is_none_or(is_jwt) {
            return Err(invalid("the token's `typ` must be JWT or at+jwt"));
        }
        if header.crit.is_some() {
            return Err(invalid("the token has a `crit` header, which the hub does not support"));
        }
        Ok(())
    }

    fn check_claims(&self, claims: Claims, wall: Timestamp) -> Result<Identity, TokenFault> {
        let expires_at = claims.exp.at();
        if expires_at + self.rules.leeway <= wall {
            return Err(TokenFault::Expired);
        }
        if expires_at > wall + self.rules.max_ttl + self.rules.leeway {
            return Err(unacceptable(
                "the token's `exp` is further off than auth.max_token_ttl allows",
            ));
        }
        // A token with an `iat` in the future would survive the next revocation (L9).
        let latest = wall + self.rules.leeway;
        if let Some(ahead) = claims.iat.filter(|iat| iat.at() > latest) {
            let ahead = (ahead.at() - wall).as_millis().div_ceil(1000);
            return Err(unacceptable(&format!(
                "the token's `iat` is {ahead} s in the future: the signer's clock is ahead of the \
                 hub's by more than auth.leeway"
            )));
        }
        if claims.nbf.is_some_and(|nbf| nbf.at() > latest) {
            return Err(unacceptable(
                "the token's `nbf` is in the future by more than auth.leeway",
            ));
        }
        let platforms = claims.platform.map(|platforms| match platforms {
            OneOrMany::One(platform) => BTreeSet::from([platform]),
            OneOrMany::Many(platforms) => platforms.into_iter().collect(),
        });
        Ok(Identity {
            user: claims.sub.parse().map_err(|error| unacceptable(&format!("`sub`: {error}")))?,
            expires_at,
            issued_at_secs: claims.iat.map_or(0, |iat| iat.0),
            platforms,
            device: claims.device,
            watch: claims.watch.map(|users| Arc::new(Watchable::new(users))),
        })
    }
}

/// The claims of a token, if one of these keys signed it.
fn signed_by<'a>(
    token: &str,
    keys: impl IntoIterator<Item = &'a DecodingKey>,
    validation: &Validation,
) -> Result<Option<Claims>, TokenFault> {
    for key in keys {
        match decode::<Claims>(token, key, validation) {
            Ok(decoded) => return Ok(Some(decoded.claims)),
            // Another key may have signed it: several are in use during a rotation.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => (),
            Err(error) => return Err(unreadable(token, error.kind())),
        }
    }
    Ok(None)
}

impl Identity {
    /// Whether the token may log in on this platform.
    pub fn allows_platform(&self, platform: Platform) -> bool {
        self.platforms.as_ref().is_none_or(|allowed| allowed.contains(&platform))
    }

    /// Whether the token may log in on this device.
    pub fn allows_device(&self, device: &DeviceId) -> bool {
        self.device.as_ref().is_none_or(|allowed| allowed == device.as_str())
    }
}

/// The user that a token names, unverified: for display only.
pub fn claimed_user(token: &str) -> Option<UserId> {
    #[derive(Deserialize)]
    struct Claimed {
        sub: String,
    }

    let is_short = token.len() <= TOKEN_BYTES_MAX;
    let claimed: Claimed = is_short.then(|| insecure_decode_claims(token).ok())??;
    claimed.sub.parse().ok()
}

/// The claims of a minted token.
#[derive(Debug, Serialize)]
struct Minted<'a> {
    sub: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    watch: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    iss: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    aud: &'a str,
}

/// Mints a token with a shared secret (HS256), for development; an empty `watch` omits the claim.
///
/// # Errors
///
/// If the library cannot sign.
pub fn mint(
    secret: &[u8],
    rules: &TokenRules,
    user: &UserId,
    platform: Option<Platform>,
    watch: &[String],
    wall: Timestamp,
    ttl: Duration,
) -> Result<String, jsonwebtoken::errors::Error> {
    let claims = Minted {
        sub: user.as_str(),
        iat: wall.as_secs(),
        exp: (wall + ttl).as_secs(),
        platform,
        watch,
        iss: &rules.issuer,
        aud: &rules.audience,
    };
    encode(&Header::default(), &claims, &EncodingKey::from_secret(secret))
}

/// Whether a `typ` is the media type of a JWT or an access token, with or without `application/`
/// (RFC 7515, section 4.1.9; RFC 9068, section 4).
fn is_jwt(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

/// Explains an error of the library other than a wrong signature.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library may name more kinds")]
fn unreadable(token: &str, kind: &ErrorKind) -> TokenFault {
    match kind {
        ErrorKind::MissingRequiredClaim(claim) => {
            unacceptable(&format!("the token has no `{claim}`, or it is invalid"))
        }
        ErrorKind::InvalidIssuer => {
            unacceptable("the token's `iss` must be the configured auth.issuer")
        }
        ErrorKind::InvalidAudience => {
            unacceptable("the token's `aud` must contain the configured auth.audience")
        }
        ErrorKind::Json(_) => unacceptable(&wrong_claim(token)),
        _ => invalid("the token is not a valid JWT"),
    }
}

/// Finds the claim that is missing or has the wrong type.
fn wrong_claim(token: &str) -> String {
    let is_texts =
        |value: &Value| value.as_array().is_some_and(|values| values.iter().all(Value::is_string));
    let is_platforms = |value: &Value| OneOrMany::<Platform>::deserialize(value).is_ok();
    let is_time = |value: &Value| NumericDate::deserialize(value).is_ok();
    let a_time = "a time in seconds since 1970, not in milliseconds";
    type Check<'a> = (&'a str, bool, &'a dyn Fn(&Value) -> bool, &'a str);
    let checks: [Check<'_>; 7] = [
        ("sub", true, &Value::is_string, "a text, the user's id"),
        ("exp", true, &is_time, a_time),
        ("nbf", false, &is_time, a_time),
        ("iat", false, &is_time, a_time),
        ("platform", false, &is_platforms, "a platform, or a list of them"),
        ("device", false, &Value::is_string, "a text"),
        ("watch", false, &is_texts, "a list of user ids, or prefixes ending in *"),
    ];
    let Ok(Value::Object(claims)) = insecure_decode_claims::<Value>(token) else {
        return "the token's claims are not a JSON object".into();
    };
    for (name, is_required, is_right, expected) in checks {
        match claims.get(name) {
            None if is_required => return format!("the token has no `{name}`"),
            Some(value) if !(is_right(value) || value.is_null() && !is_required) => {
                return format!("the token's `{name}` must be {expected}");
            }
            _ => (),
        }
    }
    "the token contains a claim twice".into()
}

fn invalid(message: &str) -> TokenFault {
    TokenFault::Invalid(message.to_owned())
}

fn unacceptable(message: &str) -> TokenFault {
    TokenFault::Unacceptable(message.to_owned())
}
