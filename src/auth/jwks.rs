//! Public keys from a JWK set at a URL, cached, and fetched again for unknown keys.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyOperations, PublicKeyUse};
use moka::sync::Cache;
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;

use super::fault::TokenFault;
use super::public_key::{Algorithm, verifies};
use crate::outgoing::{Fault, Outgoing, check};
use crate::presence::Timestamp;

/// The age at which a set is fetched again.
const SET_TTL: Duration = Duration::from_secs(3600);
/// How long a miss is cached: no key with that id, or no key that signed the token.
const UNKNOWN_TTL: Duration = Duration::from_secs(60);
/// The maximum number of cached misses; it bounds memory, because anybody can make up key ids.
const UNKNOWN_MAX: u64 = 1000;
/// The minimum time between two fetches for unknown key ids.
const FETCH_EVERY: Duration = Duration::from_secs(5);
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum size of a set.
const SET_BYTES_MAX: usize = 1024 * 1024;
/// The values of `kty` that are defined.
const KINDS: [&str; 4] = ["RSA", "EC", "OKP", "oct"];
/// The maximum number of keys that one token is checked against.
const CANDIDATES_MAX: usize = 16;

/// A JWK set at a URL, fetched when a token names an unknown key and when the cached set is old.
///
/// The last set stays in use while a fetch fails, so that an outage of the identity provider locks
/// out no token whose key is known.
#[derive(Debug)]
pub(super) struct Jwks {
    url: Url,
    algorithm: Algorithm,
    client: Outgoing,
    set: ArcSwapOption<KeySet>,
    unknown: Cache<String, ()>,
    /// When a fetch was last tried. Locked during a fetch, so that many tokens cause one fetch.
    tried: Mutex<Option<Timestamp>>,
}

/// The keys of a set that may verify tokens.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<(Option<String>, DecodingKey)>,
    /// The ids of keys that cannot verify `auth.algorithm`.
    unfit: HashSet<String>,
    fetched: Timestamp,
    /// The number of entries that could not be read.
    malformed: usize,
}

impl Jwks {
    pub(super) fn new(
        url: &str,
        allow_private: bool,
        algorithm: Algorithm,
    ) -> Result<Self, String> {
        let url = Url::parse(url).map_err(
            |_| "expected an absolute URL, such as https://login.example.com/.well-known/jwks.json",
        )?;
        check(&url, allow_private)?;
        let client = Outgoing::new(allow_private).map_err(|error| error.to_string())?;
        Ok(Self {
            url,
            algorithm,
            client,
            set: ArcSwapOption::empty(),
            unknown: Cache::builder().max_capacity(UNKNOWN_MAX).time_to_live(UNKNOWN_TTL).build(),
            tried: Mutex::new(None),
        })
    }

    /// Whether both fetch the same URL for the same algorithm, from the same addresses.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.url == other.url
            && self.algorithm == other.algorithm
            && self.client.allows_private() == other.client.allows_private()
    }

    /// Returns a set that has keys for this `kid`, fetching it if necessary.
    pub(super) async fn keys(
        &self,
        kid: Option<&str>,
        wall: Timestamp,
    ) -> Result<Arc<KeySet>, TokenFault> {
        if let Some(set) = self.known(kid) {
            return Ok(self.refreshed(set, wall).await);
        }
        let absent = || TokenFault::Invalid("the JWK set has no key for this token's `kid`".into());
        let name = kid.unwrap_or_default();
        if self.unknown.contains_key(name) {
            return Err(absent());
        }
        let set = self.set.load_full();
        let is_young = |set: &Arc<KeySet>| apart(wall, set.fetched) < UNKNOWN_TTL;
        if set.filter(is_young).is_some_and(|set| set.unfit.contains(name)) {
            let message = "the JWK set's key of this token's `kid` does not verify auth.algorithm";
            return Err(TokenFault::Invalid(message.into()));
        }
        let mut tried = self.tried.lock().await;
        if let Some(set) = self.known(kid) {
            return Ok(set);
        }
        if self.unknown.contains_key(name) {
            return Err(absent());
        }
        if let Some(at) = tried.filter(|at| apart(wall, *at) < FETCH_EVERY) {
            // The key may be new, so the client must retry: this is not a refusal. Otherwise anybody could
            // lock out a new key, because a made-up `kid` causes a fetch.
            let is_fetched = self.set.load().as_ref().is_some_and(|set| set.fetched == at);
            return Err(if is_fetched {
                TokenFault::KeyNotFetched
            } else {
                TokenFault::KeysUnavailable
            });
        }
        self.fetch(&mut tried, wall).await.ok_or(TokenFault::KeysUnavailable)?;
        self.known(kid).ok_or_else(|| {
            self.unknown.insert(name.to_owned(), ());
            absent()
        })
    }

    /// Returns a newer set than one whose keys did not sign a token: a provider may replace a key
    /// under the same id, or use keys without an id.
    pub(super) async fn newer(&self, than: &KeySet, wall: Timestamp) -> Option<Arc<KeySet>> {
        if apart(wall, than.fetched) < UNKNOWN_TTL {
            return None;
        }
        let mut tried = self.tried.lock().await;
        let newer = self.set.load_full().filter(|set| set.fetched != than.fetched);
        if newer.is_some() || tried.is_some_and(|at| apart(wall, at) < UNKNOWN_TTL) {
            return newer;
        }
        self.fetch(&mut tried, wall).await
    }

    fn known(&self, kid: Option<&str>) -> Option<Arc<KeySet>> {
        self.set.load_full().filter(|set| !set.candidates(kid).is_empty())
    }

    /// Fetches the set again if it is old; returns the old one if that fails. Only one caller waits
    /// for the fetch; the others get the old set.
    async fn refreshed(&self, set: Arc<KeySet>, wall: Timestamp) -> Arc<KeySet> {
        if apart(wall, set.fetched) < SET_TTL {
            return set;
        }
        let Ok(mut tried) = self.tried.try_lock() else { return set };
        if tried.is_some_and(|at| apart(wall, at) < UNKNOWN_TTL) {
            return set;
        }
        self.fetch(&mut tried, wall).await.unwrap_or(set)
    }

    async fn fetch(&self, tried: &mut Option<Timestamp>, wall: Timestamp) -> Option<Arc<KeySet>> {
        *tried = Some(wall);
        let known = self.set.load_full();
        let late = |_| Err(format!("no answer within {FETCH_TIMEOUT:?}"));
        let entries = tokio::time::timeout(FETCH_TIMEOUT, self.download()).await;
        let entries = match entries.unwrap_or_else(late) {
            Ok(entries) => entries,
            Err(error) => {
                let known_keys = known.map_or(0, |set| set.keys.len());
                tracing::warn!(
                    error,
                    known_keys,
                    "the JWK set cannot be fetched; the known keys stay in use"
                );
                return None;
            }
        };
        let set = KeySet::new(&entries, self.algorithm, wall);
        let (malformed, noted) = (set.malformed, known.map_or(0, |set| set.malformed));
        if malformed > 0 && malformed != noted {
            tracing::warn!(malformed, "the JWK set has malformed entries; they are skipped");
        }
        if set.keys.is_empty() {
            let algorithm = self.algorithm;
            tracing::warn!(?algorithm, "the JWK set has no key for auth.algorithm");
        }
        let set = Arc::new(set);
        self.set.store(Some(Arc::clone(&set)));
        Some(set)
    }

    async fn download(&self) -> Result<Vec<Value>, String> {
        let in_words = |fault: Fault| fault.to_string();
        let mut answer = self.client.get(&self.url).await.map_err(in_words)?;
        if !answer.status().is_success() {
            return Err(format!("expected status 2xx, got {}", answer.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(in_words)? {
            body.extend_from_slice(&chunk);
            if body.len() > SET_BYTES_MAX {
                return Err("the set is larger than 1 MiB".into());
            }
        }
        let mut set: Value = serde_json::from_slice(&body).map_err(|_| "the answer is not JSON")?;
        match set.get_mut("keys").map(Value::take) {
            Some(Value::Array(entries)) => Ok(entries),
            _ => Err("the answer has no list of `keys`".into()),
        }
    }
}

impl KeySet {
    /// Keeps the keys that verify this algorithm.
    fn new(entries: &[Value], algorithm: Algorithm, fetched: Timestamp) -> Self {
        let (mut keys, mut unfit) = (Vec::new(), HashSet::new());
        let parsed: Vec<_> = entries.iter().filter_map(jwk).collect();
        let malformed = entries.len() - parsed.len();
        for jwk in parsed {
            match verification_key(&jwk, algorithm) {
                Some(key) => keys.push((jwk.common.key_id, key)),
                None => unfit.extend(jwk.common.key_id),
            }
        }
        Self { keys, unfit, fetched, malformed }
    }

    /// The keys that may have signed a token: those with its `kid`; for a token without `kid`, all
    /// keys, those without an id first.
    pub(super) fn candidates(&self, kid: Option<&str>) -> Vec<&DecodingKey> {
        let named = self.keys.iter().filter(|(name, _)| name.as_deref() == kid);
        let others = self.keys.iter().filter(|(name, _)| kid.is_none() && name.is_some());
        named.chain(others).map(|(_, key)| key).take(CANDIDATES_MAX).collect()
    }
}

/// Reads one entry of a set.
fn jwk(entry: &Value) -> Option<Jwk> {
    let jwk: Jwk = serde_json::from_value(entry.clone()).ok()?;
    // The library reads an incomplete entry as one with an unknown `kty`.
    let is_of_a_known_kind = || KINDS.iter().any(|kind| entry["kty"] == *kind);
    let is_other = matches!(jwk.algorithm, AlgorithmParameters::Other(_));
    (!is_other || !is_of_a_known_kind()).then_some(jwk)
}

/// The key of an entry, if it may verify tokens of this algorithm.
fn verification_key(jwk: &Jwk, algorithm: Algorithm) -> Option<DecodingKey> {
    let common = &jwk.common;
    let signs = common.public_key_use.as_ref().is_none_or(|what| *what == PublicKeyUse::Signature);
    let verify = |operations: &Vec<KeyOperations>| operations.contains(&KeyOperations::Verify);
    let may_verify = common.key_operations.as_ref().is_none_or(verify);
    let is_for = |named| {
        jsonwebtoken::Algorithm::try_from(named).is_ok_and(|it| it == algorithm.of_library())
    };
    let fits = common.key_algorithm.is_none_or(is_for);
    let usable = signs && may_verify && fits && verifies(jwk, algorithm);
    usable.then(|| DecodingKey::from_jwk(jwk).ok())?
}

/// The time between two times in either order, as the wall clock may have been set back.
fn apart(one: Timestamp, other: Timestamp) -> Duration {
    (one - other).max(other - one)
}
