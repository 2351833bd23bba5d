//! Makes UserSigs as the back end of a Tencent Cloud IM app does (TLSSigAPIv2).

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use miniz_oxide::deflate::compress_to_vec_zlib;
use serde_json::{Value, json};

use crate::support::now_secs;

/// The application id of the tests.
pub(crate) const SDK_APP_ID: u64 = 1_400_000_000;
/// The secret key of the application.
pub(crate) const SECRET_KEY: &str = "what only the application knows";

/// The claims of a UserSig, and the key that signs it.
#[derive(Clone, Copy)]
pub(crate) struct UserSig<'a> {
    pub(crate) identifier: &'a str,
    pub(crate) sdk_app_id: u64,
    pub(crate) time: i64,
    pub(crate) expire: i64,
    pub(crate) userbuf: Option<&'a str>,
    pub(crate) key: &'a str,
}

impl<'a> UserSig<'a> {
    /// Makes a UserSig that is valid for an hour.
    pub(crate) fn of(identifier: &'a str) -> Self {
        let time = i64::try_from(now_secs()).expect("a time");
        let (sdk_app_id, key) = (SDK_APP_ID, SECRET_KEY);
        Self { identifier, sdk_app_id, time, expire: 3600, userbuf: None, key }
    }

    /// The signed claims as JSON.
    pub(crate) fn claims(&self) -> Value {
        let Self { identifier, sdk_app_id, time, expire, userbuf, key } = self;
        let userbuf_line = userbuf.map(|userbuf| format!("TLS.userbuf:{userbuf}\n"));
        let signed = [
            format!("TLS.identifier:{identifier}\n"),
            format!("TLS.sdkappid:{sdk_app_id}\n"),
            format!("TLS.time:{time}\n"),
            format!("TLS.expire:{expire}\n"),
            userbuf_line.unwrap_or_default(),
        ];
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        let signature = STANDARD.encode(hmac::sign(&key, signed.concat().as_bytes()));
        let mut claims = json!({
            "TLS.ver": "2.0", "TLS.identifier": identifier, "TLS.sdkappid": sdk_app_id,
            "TLS.expire": expire, "TLS.time": time, "TLS.sig": signature,
        });
        if let Some(userbuf) = userbuf {
            claims["TLS.userbuf"] = json!(userbuf);
        }
        claims
    }

    /// The UserSig as a text for URLs.
    pub(crate) fn text(&self) -> String {
        packed(self.claims().to_string().as_bytes())
    }
}

/// Compresses and encodes bytes for a URL.
pub(crate) fn packed(bytes: &[u8]) -> String {
    let base64 = STANDARD.encode(compress_to_vec_zlib(bytes, 9));
    base64.replace('+', "*").replace('/', "-").replace('=', "_")
}

/// The query parameters of each call of the back end.
pub(crate) fn query(identifier: &str, usersig: &str) -> String {
    format!(
        "sdkappid={SDK_APP_ID}&identifier={identifier}&usersig={usersig}&random=7&contenttype=json"
    )
}
