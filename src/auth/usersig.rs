//! Verifies UserSigs, the signatures of a back end that was written for Tencent Cloud IM.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use serde::Deserialize;

use crate::presence::Timestamp;

/// The maximum size of an inflated UserSig, so that a small one cannot exhaust the memory.
const INFLATED_BYTES_MAX: usize = 8 * 1024;
/// The only supported version of the format.
const VERSION: &str = "2.0";

/// Verifies the UserSigs (TLSSigAPIv2) of one Tencent Cloud IM application.
#[derive(Clone)]
pub struct UserSigVerifier {
    sdk_app_id: u64,
    key: hmac::Key,
}

/// Why a UserSig was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UserSigFault {
    /// It has expired.
    #[error("the UserSig has expired")]
    Expired,
    /// It is malformed.
    #[error("the UserSig cannot be read")]
    Unreadable,
    /// Another key signed it, or it was changed.
    #[error("the UserSig was not signed with this application's key")]
    WrongKey,
    /// It is for another account.
    #[error("the UserSig is for another identifier")]
    OtherIdentifier,
    /// The UserSig or the request is for another application.
    #[error("the UserSig or the request is for another sdkappid")]
    OtherApp,
}

/// The contents of a UserSig.
#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "TLS.ver")]
    version: String,
    #[serde(rename = "TLS.identifier")]
    identifier: String,
    #[serde(rename = "TLS.sdkappid")]
    sdk_app_id: u64,
    /// Seconds since the Unix epoch.
    #[serde(rename = "TLS.time")]
    time: i64,
    /// Seconds from `time` on; negative in tests that need an expired one.
    #[serde(rename = "TLS.expire")]
    expire: i64,
    /// Base64; the signature covers the encoded text.
    #[serde(rename = "TLS.userbuf")]
    userbuf: Option<String>,
    #[serde(rename = "TLS.sig")]
    signature: String,
}

impl UserSigVerifier {
    /// Makes a verifier for an application's secret key.
    pub fn new(sdk_app_id: u64, secret_key: &str) -> Self {
        Self { sdk_app_id, key: hmac::Key::new(hmac::HMAC_SHA256, secret_key.as_bytes()) }
    }

    /// Checks that a request's UserSig is valid for its identifier and this application.
    ///
    /// # Errors
    ///
    /// The first that applies, in this order: another application, unreadable, another identifier,
    /// wrong key, expired.
    pub fn verify(
        &self,
        usersig: &str,
        sdk_app_id: u64,
        identifier: &str,
        wall: Timestamp,
    ) -> Result<(), UserSigFault> {
        if sdk_app_id != self.sdk_app_id {
            return Err(UserSigFault::OtherApp);
        }
        let claims = Claims::read(usersig).ok_or(UserSigFault::Unreadable)?;
        let signature = STANDARD.decode(&claims.signature);
        let signature = signature.map_err(|_| UserSigFault::Unreadable)?;
        if claims.sdk_app_id != self.sdk_app_id {
            return Err(UserSigFault::OtherApp);
        }
        if claims.identifier != identifier {
            return Err(UserSigFault::OtherIdentifier);
        }
        // `verify` compares in constant time.
        hmac::verify(&self.key, claims.signed().as_bytes(), &signature)
            .map_err(|_| UserSigFault::WrongKey)?;
        if claims.has_expired(wall) { Err(UserSigFault::Expired) } else { Ok(()) }
    }
}

impl Claims {
    fn read(usersig: &str) -> Option<Self> {
        // TLSSigAPIv2 replaces the characters of base64 that URLs would have to escape.
        let base64 = usersig.replace('*', "+").replace('-', "/").replace('_', "=");
        let deflated = STANDARD.decode(base64).ok()?;
        let json = decompress_to_vec_zlib_with_limit(&deflated, INFLATED_BYTES_MAX).ok()?;
        let claims: Self = serde_json::from_slice(&json).ok()?;
        // A line break in this field could forge the lines that are signed, so that one account's
        // signature would be accepted for another.
        let is_base64 = |userbuf: &String| STANDARD.decode(userbuf).is_ok();
        let holds = claims.version == VERSION && claims.userbuf.as_ref().is_none_or(is_base64);
        holds.then_some(claims)
    }

    fn signed(&self) -> String {
        let Self { identifier, sdk_app_id, time, expire, .. } = self;
        let userbuf = self.userbuf.as_ref().map(|userbuf| format!("TLS.userbuf:{userbuf}\n"));
        format!(
            "TLS.identifier:{identifier}\nTLS.sdkappid:{sdk_app_id}\nTLS.time:{time}\n\
             TLS.expire:{expire}\n{}",
            userbuf.unwrap_or_default()
        )
    }

    fn has_expired(&self, wall: Timestamp) -> bool {
        let until = self.time.saturating_add(self.expire);
        !u64::try_from(until).is_ok_and(|until| wall.as_secs() < until)
    }
}
