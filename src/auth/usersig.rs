use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use serde::Deserialize;

use crate::presence::Timestamp;

/// The most bytes that a UserSig may have once it is inflated, so that a small one cannot fill the
/// memory.
const INFLATED_BYTES_MAX: usize = 8 * 1024;
/// The one version of the format.
const VERSION: &str = "2.0";

/// Verifies the UserSigs (TLSSigAPIv2) of one Tencent Cloud IM application: with them its back end
/// signs in.
#[derive(Clone)]
pub struct UserSigVerifier {
    sdk_app_id: u64,
    key: hmac::Key,
}

/// Why a UserSig was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UserSigFault {
    /// Its time is over.
    #[error("the UserSig has expired")]
    Expired,
    /// It is no UserSig.
    #[error("the UserSig cannot be read")]
    Unreadable,
    /// Another key signed it, or somebody changed it.
    #[error("the UserSig was not signed with this application's key")]
    WrongKey,
    /// It is another account's.
    #[error("the UserSig is another identifier's")]
    OtherIdentifier,
    /// It, or the request, is another application's.
    #[error("the UserSig, or the request, is another application's")]
    OtherApp,
}

/// What a UserSig says.
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
    /// Seconds from then on; whoever tries out what an expired one does writes a negative number.
    #[serde(rename = "TLS.expire")]
    expire: i64,
    /// In base64, and signed as it is written.
    #[serde(rename = "TLS.userbuf")]
    userbuf: Option<String>,
    #[serde(rename = "TLS.sig")]
    signature: String,
}

impl UserSigVerifier {
    /// Makes a verifier of an application's secret key.
    pub fn new(sdk_app_id: u64, secret_key: &str) -> Self {
        Self { sdk_app_id, key: hmac::Key::new(hmac::HMAC_SHA256, secret_key.as_bytes()) }
    }

    /// Checks that a request's UserSig is its identifier's, and this application's.
    ///
    /// # Errors
    ///
    /// The first that holds of: another application, unreadable, another identifier, the wrong key,
    /// expired.
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
        // In a time that does not tell how much of it was right.
        hmac::verify(&self.key, claims.signed().as_bytes(), &signature)
            .map_err(|_| UserSigFault::WrongKey)?;
        if claims.has_expired(wall) { Err(UserSigFault::Expired) } else { Ok(()) }
    }
}

impl Claims {
    fn read(usersig: &str) -> Option<Self> {
        // What base64 writes with these three would be escaped in a URL.
        let base64 = usersig.replace('*', "+").replace('-', "/").replace('_', "=");
        let deflated = STANDARD.decode(base64).ok()?;
        let json = decompress_to_vec_zlib_with_limit(&deflated, INFLATED_BYTES_MAX).ok()?;
        let claims: Self = serde_json::from_slice(&json).ok()?;
        // With lines of its own in the last field, one account's signature would pass for another's.
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
