//! The formats of webhook requests, and their signatures.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use data_encoding::HEXLOWER;
use url::Url;

use super::tencent::TencentCallbacks;
use crate::presence::Timestamp;
use crate::store::LogEntry;

/// The prefix of a secret (Standard Webhooks).
const SECRET_PREFIX: &str = "whsec_";
/// The length of a secret (Standard Webhooks).
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// The maximum number of events in a request.
const EVENTS_MAX: usize = 100;
/// No event is added to a request that has this many bytes.
const BYTES_MAX: usize = 1024 * 1024;
/// The number of bytes of a body's hash that make up the request's id.
const ID_BYTES: usize = 16;

/// The format of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// Batches of events, signed with every secret.
    Native(Vec<SigningSecret>),
    /// One callback per event, as Tencent Cloud IM sends it.
    Tencent(TencentCallbacks),
}

/// A request to post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostRequest {
    /// The receiver's URL.
    pub url: Url,
    /// The headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body, in JSON.
    pub body: String,
    /// Whether only a 200 with JSON accepts it.
    pub wants_json: bool,
}

impl Format {
    /// The maximum number of events in a request, and the number of bytes at which none is added.
    pub(super) const fn limits(&self) -> (usize, usize) {
        match self {
            Self::Native(_) => (EVENTS_MAX, BYTES_MAX),
            Self::Tencent(_) => (1, BYTES_MAX),
        }
    }

    /// Makes the request for these events; `None` if the format has no request for them.
    pub(super) fn request(
        &self,
        url: &Url,
        entries: &[LogEntry],
        wall: Timestamp,
    ) -> Option<PostRequest> {
        match self {
            Self::Native(_) if entries.is_empty() => None,
            Self::Native(secrets) => {
                let body = format!("{{\"events\":{}}}", LogEntry::array(entries));
                Some(native(url, secrets, body, wall))
            }
            Self::Tencent(tencent) => {
                let transition = entries.first()?.transition().ok()?;
                let user = &entries.first()?.user;
                let callback = super::callback(tencent, user, &transition)?;
                Some(tencent.request(url, &callback, wall))
            }
        }
    }

    /// Makes a request without events, to test the receiver.
    pub(super) fn test(&self, url: &Url, wall: Timestamp) -> PostRequest {
        match self {
            Self::Native(secrets) => {
                native(url, secrets, "{\"events\":[],\"test\":true}".into(), wall)
            }
            Self::Tencent(tencent) => tencent.test(url, wall),
        }
    }
}

fn native(url: &Url, secrets: &[SigningSecret], body: String, wall: Timestamp) -> PostRequest {
    let id = id_of(&body);
    let timestamp = wall.as_secs().to_string();
    let signature = signatures(secrets, &id, &timestamp, &body);
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        ("webhook-id", id),
        ("webhook-timestamp", timestamp),
        ("webhook-signature", signature),
    ];
    PostRequest { url: url.clone(), headers, body, wants_json: false }
}

/// Derives a request's id from its body, so that retries have the same id, also after a restart.
fn id_of(body: &str) -> String {
    let hash = digest(&SHA256, body.as_bytes());
    format!("msg_{}", HEXLOWER.encode(&hash.as_ref()[..ID_BYTES]))
}

/// Signs a request with every secret, in the format of Standard Webhooks.
pub fn signatures(secrets: &[SigningSecret], id: &str, timestamp: &str, body: &str) -> String {
    let signed = secrets.iter().map(|secret| secret.sign(&format!("{id}.{timestamp}.{body}")));
    signed.collect::<Vec<_>>().join(" ")
}

/// A secret that signs requests; `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Vec<u8>);

/// A text that is not a valid secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a webhook secret is `whsec_` followed by the base64 of 24 to 64 bytes")]
pub struct SecretFault;

impl SigningSecret {
    /// Reads a secret.
    ///
    /// # Errors
    ///
    /// If the text is not a valid secret.
    pub fn parse(text: &str) -> Result<Self, SecretFault> {
        let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(SecretFault)?;
        let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| SecretFault)?;
        SECRET_BYTES.contains(&bytes.len()).then_some(Self(bytes)).ok_or(SecretFault)
    }

    fn sign(&self, signed: &str) -> String {
        let tag = hmac::sign(&hmac::Key::new(HMAC_SHA256, &self.0), signed.as_bytes());
        format!("v1,{}", BASE64_STANDARD.encode(tag))
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}
