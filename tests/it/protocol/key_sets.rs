//! JWK sets of identity providers: unrelated and broken keys, replaced keys, and failed fetches.

use std::time::Duration;

use presence_hub::auth::{Algorithm, KeySource, TokenFault, TokenRules, Verifier};
use presence_hub::presence::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::signing::{KeyServer, Kind, Pair, attempt};
use crate::support::{Server, now_millis, until};

/// A verifier of a key set, called with simulated times.
struct Reader {
    verifier: Verifier,
    begun: Timestamp,
}

impl Reader {
    fn new(keys: &KeyServer, algorithm: Algorithm) -> Self {
        let rules = TokenRules {
            algorithm,
            issuer: String::new(),
            audience: String::new(),
            // So that the tokens stay valid at all simulated times.
            leeway: Duration::from_secs(30 * 24 * 3600),
            max_ttl: Duration::from_secs(365 * 24 * 3600),
        };
        let source = KeySource::Jwks { url: keys.url.clone(), allow_private: true };
        let verifier = Verifier::new(&source, rules);
        let begun = Timestamp::from_millis(now_millis());
        Self { verifier: verifier.expect("a verifier"), begun }
    }

    /// Verifies a token at a number of seconds after the start.
    async fn verify(&self, token: &str, after_secs: u64) -> Result<(), TokenFault> {
        let wall = self.begun + Duration::from_secs(after_secs);
        self.verifier.verify(token, wall).await.map(|_| ())
    }

    async fn refuses(&self, token: &str, after_secs: u64) -> bool {
        matches!(self.verify(token, after_secs).await, Err(TokenFault::Invalid(_)))
    }
}

fn entry(pair: &Pair, kid: &str, changes: &Value) -> Value {
    let mut entry = serde_json::to_value(pair.jwk(kid)).expect("JSON");
    for (name, value) in changes.as_object().expect("fields") {
        entry[name] = value.clone();
    }
    entry.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    entry
}

#[tokio::test]
async fn unreadable_jwks_entries_are_skipped() {
    let pair = Pair::new(Kind::Ec);
    let keys = KeyServer::start(&[]).await;
    let set = json!({ "keys": [
        7, null, "text", [], {}, { "kty": "EC" }, { "kid": "one" },
        { "kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "one" },
        { "kty": "RSA", "n": "AQAB", "kid": "one" },
        { "kty": "EC", "crv": "P-256", "x": "!", "y": "!", "kid": "one" },
        { "kty": "AKP", "alg": "ML-DSA-44", "pub": "AA", "kid": "one" },
        entry(&pair, "one", &json!({ "kid": 7 })),
        entry(&pair, "one", &json!({})),
    ] });
    keys.answer(&set.to_string());
    let server = keys.hub("ES256");
    for _ in 0..3 {
        assert_eq!(attempt(&server, &pair.sign("ann", Some("one"))).await, Ok(()));
    }
    server.until_logged(&["WARN", "malformed entries"]).await;
    assert_eq!(server.log().matches("malformed entries").count(), 1);
}

#[tokio::test]
async fn keys_with_the_same_kid_for_other_uses_are_ignored() {
    let (pair, other) = (Pair::new(Kind::Ec), Pair::new(Kind::Ec));
    let rsa = Pair::new(Kind::Rsa);
    let wrong = [
        entry(&other, "one", &json!({ "use": "enc" })),
        entry(&other, "one", &json!({ "use": "tls" })),
        entry(&other, "one", &json!({ "key_ops": ["deriveKey"] })),
        entry(&other, "one", &json!({ "key_ops": [] })),
        entry(&other, "one", &json!({ "alg": "ES384" })),
        entry(&other, "one", &json!({ "alg": "ECDH-ES" })),
        entry(&other, "one", &json!({ "alg": null, "use": "enc" })),
        entry(&rsa, "one", &json!({ "alg": null })),
    ];
    let right = [
        json!({}),
        json!({ "alg": null }),
        json!({ "use": "sig" }),
        json!({ "key_ops": ["verify"] }),
        json!({ "use": "sig", "key_ops": ["sign", "verify"] }),
    ];
    for changes in &right {
        let good = entry(&pair, "one", changes);
        for is_first in [true, false] {
            let mut set = wrong.to_vec();
            set.insert(if is_first { 0 } else { set.len() }, good.clone());
            let keys = KeyServer::start(&[]).await;
            keys.answer(&json!({ "keys": set }).to_string());
            let reader = Reader::new(&keys, Algorithm::ES256);
            let of = |pair: &Pair, kid| pair.sign("ann", kid);
            assert_eq!(reader.verify(&of(&pair, Some("one")), 0).await, Ok(()), "{changes}");
            assert_eq!(reader.verify(&of(&pair, None), 0).await, Ok(()), "{changes}");
            assert!(reader.refuses(&of(&other, Some("one")), 0).await, "{changes}");
            assert!(reader.refuses(&of(&other, None), 0).await, "{changes}");
            assert!(reader.refuses(&of(&rsa, Some("one")), 0).await, "{changes}");
        }
    }
}

#[tokio::test]
async fn several_keys_with_one_kid_all_verify() {
    let pairs = [Pair::new(Kind::Ed), Pair::new(Kind::Ed)];
    let keys = KeyServer::start(&[pairs[0].jwk("one"), pairs[1].jwk("one")]).await;
    let reader = Reader::new(&keys, Algorithm::EdDSA);
    for pair in &pairs {
        assert_eq!(reader.verify(&pair.sign("ann", Some("one")), 0).await, Ok(()));
    }
    assert!(reader.refuses(&pairs[0].sign("ann", Some("two")), 6).await);
}

#[tokio::test]
async fn known_keys_stay_in_use_while_the_set_cannot_be_fetched() {
    let (pair, new) = (Pair::new(Kind::Ed), Pair::new(Kind::Ed));
    let keys = KeyServer::start(&[pair.jwk("one")]).await;
    let reader = Reader::new(&keys, Algorithm::EdDSA);
    let token = pair.sign("ann", Some("one"));
    assert_eq!(reader.verify(&token, 0).await, Ok(()));
    let fail_with: [&dyn Fn(); 4] = [
        &|| keys.fail(),
        &|| keys.answer("<html>not found</html>"),
        &|| keys.answer("{}"),
        &|| keys.answer("[]"),
    ];
    for (n, fail) in fail_with.iter().enumerate() {
        fail();
        // More than the refresh interval of an hour later.
        let later = 3700 + 1000 * n as u64;
        let asked = keys.asked();
        for _ in 0..3 {
            assert_eq!(reader.verify(&token, later).await, Ok(()), "{n}");
        }
        assert_eq!(keys.asked(), asked + 1, "one of them asked");
        let unknown = reader.verify(&new.sign("ann", Some("two")), later + 5).await;
        assert_eq!(unknown, Err(TokenFault::KeysUnavailable), "nobody knows");
        let again = reader.verify(&new.sign("ann", Some("three")), later + 6).await;
        assert_eq!(again, Err(TokenFault::KeysUnavailable), "the last fetch failed");
    }
    // Removed keys become invalid with the next successful fetch.
    keys.offer(&[new.jwk("two")]);
    assert!(reader.refuses(&token, 10_000).await);
    assert_eq!(reader.verify(&new.sign("ann", Some("two")), 10_000).await, Ok(()));
}

/// Anybody can cause a fetch with a forged `kid`. A key that is published just after it must not be
/// refused for good.
#[tokio::test]
async fn an_unknown_kid_is_refetched_before_it_is_refused() {
    let (old, new) = (Pair::new(Kind::Ed), Pair::new(Kind::Ed));
    let keys = KeyServer::start(&[old.jwk("old")]).await;
    let reader = Reader::new(&keys, Algorithm::EdDSA);
    assert_eq!(reader.verify(&old.sign("ann", Some("old")), 0).await, Ok(()));
    keys.offer(&[old.jwk("old"), new.jwk("new")]);
    let unknown = reader.verify(&new.sign("ann", Some("new")), 4).await;
    assert_eq!(unknown, Err(TokenFault::KeyNotFetched));
    assert!(unknown.expect_err("it").to_string().contains("fetched a few seconds ago"));
    assert_eq!(keys.asked(), 1, "at most every 5 s");
    assert_eq!(reader.verify(&new.sign("ann", Some("new")), 5).await, Ok(()));
    assert_eq!(keys.asked(), 2);
    assert!(reader.refuses(&new.sign("ann", Some("made up")), 10).await, "looked up, and unknown");
}

#[tokio::test]
async fn a_key_replaced_under_its_kid_is_fetched_within_a_minute() {
    let (old, new) = (Pair::new(Kind::Ed), Pair::new(Kind::Ed));
    for kid in [Some("one"), None] {
        let jwk = |pair: &Pair| {
            let mut jwk = pair.jwk("one");
            jwk.common.key_id = kid.map(str::to_owned);
            jwk
        };
        let keys = KeyServer::start(&[jwk(&old)]).await;
        let reader = Reader::new(&keys, Algorithm::EdDSA);
        assert_eq!(reader.verify(&old.sign("ann", kid), 0).await, Ok(()));
        keys.offer(&[jwk(&new)]);
        assert!(reader.refuses(&new.sign("ann", kid), 30).await, "the set is young");
        assert_eq!(reader.verify(&new.sign("ann", kid), 61).await, Ok(()));
        assert!(reader.refuses(&old.sign("ann", kid), 62).await);
        assert_eq!(keys.asked(), 2);
        // Forged tokens must not cause more fetches.
        let stranger = Pair::new(Kind::Ed).sign("ann", kid);
        for after in 62..182 {
            assert!(reader.refuses(&stranger, after).await);
        }
        assert!(keys.asked() <= 4, "{}", keys.asked());
    }
}

#[tokio::test]
async fn fetched_keys_survive_a_reload() {
    let pair = Pair::new(Kind::Ec);
    let keys = KeyServer::start(&[pair.jwk("one")]).await;
    let server = keys.hub("ES256");
    let token = pair.sign("ann", Some("one"));
    assert_eq!(attempt(&server, &token).await, Ok(()));
    keys.fail();
    reload(&server).await;
    assert_eq!(attempt(&server, &token).await, Ok(()));
    assert_eq!(keys.asked(), 1);
}

async fn reload(server: &Server) {
    server.signal(Signal::HUP);
    until("the configuration to be read again", async || {
        server.log().contains("configuration reloaded")
    })
    .await;
}
