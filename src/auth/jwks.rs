use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, JwkSet};
use moka::sync::Cache;
use tokio::sync::Mutex;

use super::TokenFault;
use crate::presence::Timestamp;

/// How long a fetched key, or the knowledge that there is none of a name, is good for.
const KEY_TTL: Duration = Duration::from_secs(3600);
/// See [`KEY_TTL`].
const UNKNOWN_TTL: Duration = Duration::from_secs(60);
/// How many key ids are remembered, the unknown ones apart, for anybody can make them up.
const KEYS_MAX: u64 = 1000;
/// How often the set may be fetched.
const FETCH_EVERY: Duration = Duration::from_secs(5);
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes that a set may have.
const SET_BYTES_MAX: usize = 1024 * 1024;

/// A JWK set at a URL: fetched when a token names a key that is not in the cache.
#[derive(Debug)]
pub(super) struct Jwks {
    url: reqwest::Url,
    client: reqwest::Client,
    known: Cache<String, Arc<Jwk>>,
    unknown: Cache<String, ()>,
    /// When it was last fetched. Held while fetching, so that many tokens ask once.
    fetched: Mutex<Option<Timestamp>>,
}

impl Jwks {
    pub(super) fn new(url: &str) -> Result<Self, String> {
        let url = reqwest::Url::parse(url).map_err(|error| error.to_string())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("must be an http or https URL".into());
        }
        // Whoever comes first installs it; all install the same.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let client = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            url,
            client,
            known: Cache::builder().max_capacity(KEYS_MAX).time_to_live(KEY_TTL).build(),
            unknown: Cache::builder().max_capacity(KEYS_MAX).time_to_live(UNKNOWN_TTL).build(),
            fetched: Mutex::new(None),
        })
    }

    /// Finds a key; a token without a `kid` means the one that has none.
    pub(super) async fn key(
        &self,
        kid: Option<&str>,
        wall: Timestamp,
    ) -> Result<Arc<Jwk>, TokenFault> {
        let kid = kid.unwrap_or_default();
        let absent = || TokenFault::Invalid("the token names an unknown key".into());
        if let Some(key) = self.known.get(kid) {
            return Ok(key);
        }
        if self.unknown.contains_key(kid) {
            return Err(absent());
        }
        let mut fetched = self.fetched.lock().await;
        if let Some(key) = self.known.get(kid) {
            return Ok(key);
        }
        if self.unknown.contains_key(kid) {
            return Err(absent());
        }
        if fetched.is_some_and(|at| apart(wall, at) < FETCH_EVERY) {
            // Nobody knows yet whether there is such a key: its bearer is to come again.
            return Err(TokenFault::KeysUnavailable);
        }
        *fetched = Some(wall);
        self.fetch().await.map_err(|error| {
            tracing::warn!(error, "the JWK set cannot be fetched");
            TokenFault::KeysUnavailable
        })?;
        self.known.get(kid).ok_or_else(|| {
            self.unknown.insert(kid.to_owned(), ());
            absent()
        })
    }

    async fn fetch(&self) -> Result<(), String> {
        let answer = self.client.get(self.url.clone()).send().await.map_err(|e| e.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("the answer is {}", answer.status()));
        }
        let mut answer = answer;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| error.to_string())? {
            body.extend_from_slice(&chunk);
            if body.len() > SET_BYTES_MAX {
                return Err("the set is larger than 1 MiB".into());
            }
        }
        let set: JwkSet = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        for key in set.keys {
            let kid = key.common.key_id.clone().unwrap_or_default();
            self.unknown.invalidate(&kid);
            self.known.insert(kid, Arc::new(key));
        }
        Ok(())
    }
}

/// How far two times are apart, whichever way the wall clock was set meanwhile.
fn apart(one: Timestamp, other: Timestamp) -> Duration {
    (one - other).max(other - one)
}
