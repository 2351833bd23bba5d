//! UserSigs: what a back end signed, and what anybody made up.
//!
//! An input that begins with a brace is the claims, which the test signs. Any other is a UserSig.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use miniz_oxide::inflate::decompress_to_vec_zlib;
use presence_hub::auth::{UserSigFault, UserSigVerifier};
use serde_json::Value;

use super::engine::fuzz;
use crate::lab::EPOCH;
use crate::usersig::{SDK_APP_ID, SECRET_KEY, packed};

const WORDS: &str = r#"
    "TLS.ver":"2.0" "TLS.identifier": "TLS.sdkappid": "TLS.time": "TLS.expire": "TLS.userbuf":
    "TLS.sig": 1400000000 "administrator" "bob" \n -1 9223372036854775807 null 1780000000 * _ {
    } ,"#;

#[test]
fn usersigs() {
    let verifier = UserSigVerifier::new(SDK_APP_ID, SECRET_KEY);
    fuzz("usersigs", WORDS, |input| {
        let text = String::from_utf8_lossy(input);
        if text.starts_with('{') {
            check(&verifier, &signed(&text))
        } else {
            check(&verifier, &text)
        }
    });
}

/// Signs claims. A text that is not a JSON object is returned unchanged.
fn signed(claims: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(claims) else {
        return packed(claims.as_bytes());
    };
    let signature = signature(&Value::Object(fields.clone()));
    fields.insert("TLS.sig".into(), STANDARD.encode(signature).into());
    packed(Value::Object(fields).to_string().as_bytes())
}

fn signature(claims: &Value) -> hmac::Tag {
    let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
    let number = |name: &str| claims[name].to_string();
    let mut lines = format!(
        "TLS.identifier:{}\nTLS.sdkappid:{}\nTLS.time:{}\nTLS.expire:{}\n",
        text("TLS.identifier"),
        number("TLS.sdkappid"),
        number("TLS.time"),
        number("TLS.expire")
    );
    if claims["TLS.userbuf"].is_string() {
        lines += &format!("TLS.userbuf:{}\n", text("TLS.userbuf"));
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET_KEY.as_bytes());
    hmac::sign(&key, lines.as_bytes())
}

fn check(verifier: &UserSigVerifier, usersig: &str) -> String {
    let verified = verifier.verify(usersig, SDK_APP_ID, "administrator", EPOCH);
    if verified.is_ok() {
        check_accepted(usersig);
    }
    let others = verifier.verify(usersig, SDK_APP_ID, "bob", EPOCH);
    assert!(verified.is_err() || others == Err(UserSigFault::OtherIdentifier), "for two accounts");
    format!("{verified:?} {others:?}")
}

/// Checks an accepted UserSig without the hub's code.
fn check_accepted(usersig: &str) {
    let base64 = usersig.replace('*', "+").replace('-', "/").replace('_', "=");
    let json = decompress_to_vec_zlib(&STANDARD.decode(base64).expect("base64")).expect("zlib");
    let claims: Value = serde_json::from_slice(&json).expect("claims");
    assert_eq!(claims["TLS.identifier"], "administrator");
    assert_eq!(claims["TLS.sdkappid"], SDK_APP_ID);
    let given = claims["TLS.sig"].as_str().expect("a signature");
    assert_eq!(STANDARD.decode(given).expect("base64"), signature(&claims).as_ref());
    let [time, lasts] = ["TLS.time", "TLS.expire"].map(|name| claims[name].as_i64());
    let until = time.expect("a time").saturating_add(lasts.expect("a time"));
    assert!(u64::try_from(until).expect("a time") > EPOCH.as_secs());
}
