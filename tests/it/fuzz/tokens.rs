//! Tokens: what a back end signed, and what anybody made up.
//!
//! An input with a line break is a header and claims, which the test signs. Any other is a token.

use std::time::Duration;

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use futures::executor::block_on;
use presence_hub::auth::{
    Algorithm, Identity, KeySource, TokenFault, TokenRules, Verifier, claimed_user,
};
use serde_json::Value;

use super::engine::fuzz;
use crate::lab::{EPOCH, SECOND};
use crate::support::SECRET;

const LEEWAY: Duration = Duration::from_secs(5);
const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 3600);
const WORDS: &str = r#"
    "sub": "exp": "iat": "nbf": "iss": "aud": "platform": "device": "watch": ["*"] "alg":"none"
    "alg":"HS256" "alg":"HS512" "typ":"at+jwt" "typ": "crit":["exp"] "kid": "jwk": "zip":"DEF"
    1780003600 1780000000 18446744073709551616 1e300 -1 0.5 null . \u0000 { } ,"#;

#[test]
fn tokens() {
    let verifier = verifier();
    fuzz("tokens", WORDS, |input| {
        let text = String::from_utf8_lossy(input);
        match text.split_once('\n') {
            Some((header, claims)) => {
                let token = signed(header.as_bytes(), claims.as_bytes());
                check(&verifier, &token)
            }
            None => check(&verifier, &text),
        }
    });
}

fn verifier() -> Verifier {
    let rules = TokenRules {
        algorithm: Algorithm::HS256,
        issuer: String::new(),
        audience: String::new(),
        leeway: LEEWAY,
        max_ttl: MAX_TTL,
    };
    Verifier::new(&KeySource::Secrets(vec![SECRET.into()]), rules).expect("a verifier")
}

fn key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes())
}

fn signed(header: &[u8], claims: &[u8]) -> String {
    let signed = [header, claims].map(|part| BASE64URL_NOPAD.encode(part)).join(".");
    let signature = hmac::sign(&key(), signed.as_bytes());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
}

fn check(verifier: &Verifier, token: &str) -> String {
    claimed_user(token);
    match block_on(verifier.verify(token, EPOCH)) {
        Ok(identity) => {
            check_accepted(token, &identity);
            "accepted".to_owned()
        }
        Err(fault) => {
            let says = fault.to_string();
            assert!(!says.is_empty() && says.len() < 1024 && !says.contains(SECRET), "{says}");
            assert!(fault != TokenFault::KeysUnavailable && fault != TokenFault::KeyNotFetched);
            says.chars().filter(|c| !c.is_ascii_digit()).take(100).collect()
        }
    }
}

/// Checks an accepted token without the hub's code.
fn check_accepted(token: &str, identity: &Identity) {
    let parts: Vec<_> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!("accepted in {} parts", parts.len())
    };
    let raw = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).expect("base64url");
    let signed = format!("{header}.{claims}");
    hmac::verify(&key(), signed.as_bytes(), &raw(signature)).expect("the secret's signature");

    let Ok(header) = serde_json::from_slice::<Value>(&raw(header)) else { return };
    assert_eq!(header["alg"], "HS256");
    assert_eq!(header.get("crit").filter(|crit| !crit.is_null()), None);

    // An unknown claim may be a number that is too large.
    let Ok(claims) = serde_json::from_slice::<Value>(&raw(claims)) else { return };
    assert_eq!(claims["sub"], identity.user.as_str());
    let time = |name: &str| claims[name].as_f64();
    let secs = |time: Duration| time.as_secs_f64();
    let (now, expires) = (EPOCH.as_secs() as f64, time("exp").expect("a time"));
    assert!(expires > now - secs(LEEWAY), "expired");
    assert!(expires < now + secs(MAX_TTL + LEEWAY + SECOND), "valid for too long");
    for begins in ["iat", "nbf"].map(time).into_iter().flatten() {
        assert!(begins >= 0.0 && begins < now + secs(LEEWAY + SECOND), "not valid yet");
    }
    let issued = time("iat").unwrap_or_default();
    assert!((issued - identity.issued_at_secs as f64).abs() < 1.0, "{issued}");
}
