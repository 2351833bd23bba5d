//! The secrets and keys of a configuration, and the checks on them.
//!
//! No message shows a secret. Each names the entry (`auth.secrets[1]`), because a list has only one
//! position in the file.

use std::path::Path;

use super::fault::FaultsByKey;
use super::secret::Secret;
use super::sections::{Config, StoreKind};
use crate::auth::{Algorithm, ApiKeys, KeyMark, KeySource, SECRET_BYTES_MIN, Verifier, is_hash};

/// The fewest characters that an API key may have.
const KEY_CHARS_MIN: usize = 16;
/// The most secrets or public keys: a token with a wrong signature is checked against each.
const SIGNERS_MAX: usize = 16;
/// The advice how to generate a new secret or key.
const MAKE: &str = "make one with `openssl rand -base64 32`";
/// The advice how to hash a key.
const HASH: &str = "hash a key with `printf %s \"$KEY\" | sha256sum`";

impl Config {
    /// Whether no signing key is configured: the hub then generates its own secret and keys.
    pub fn is_development(&self) -> bool {
        let auth = &self.auth;
        auth.algorithm == Algorithm::HS256
            && self.secrets().is_empty()
            && self.public_keys().is_empty()
            && auth.jwks_url.is_empty()
    }

    /// The name and value of the secret that signs the hub's own tokens: the first of `auth.secrets`.
    pub fn signing_secret(&self) -> Option<(String, &Secret)> {
        self.secrets().into_iter().next()
    }

    /// The source of the keys that verify tokens; `None` in development mode.
    ///
    /// # Errors
    ///
    /// If the file of a public key cannot be read.
    pub fn key_source(&self) -> Result<Option<KeySource>, String> {
        if self.is_development() {
            return Ok(None);
        }
        if self.auth.algorithm == Algorithm::HS256 {
            let bytes = |(_, secret): (_, &Secret)| secret.expose().as_bytes().to_vec();
            return Ok(Some(KeySource::Secrets(self.secrets().into_iter().map(bytes).collect())));
        }
        if !self.auth.jwks_url.is_empty() {
            return Ok(Some(self.key_set()));
        }
        let pems: Result<_, _> =
            self.public_keys().into_iter().map(|(_, path)| read_pem(path)).collect();
        Ok(Some(KeySource::Pems(pems?)))
    }

    /// The JWK set at `auth.jwks_url`.
    fn key_set(&self) -> KeySource {
        let url = self.auth.jwks_url.clone();
        KeySource::Jwks { url, allow_private: self.outgoing.allow_private }
    }

    /// The keys to the server API; `made` is the admin key that development mode generated.
    pub fn api_keys(&self, made: Option<&str>) -> ApiKeys {
        let texts = |secrets: &[Secret]| -> Vec<_> {
            secrets.iter().map(|secret| secret.expose().to_owned()).collect()
        };
        let mut admin = texts(&self.auth.admin_keys);
        admin.extend(made.map(str::to_owned));
        ApiKeys::new(&texts(&self.auth.viewer_keys), &texts(&self.auth.api_keys), &admin)
    }

    /// Identifies this hub among others that a browser reaches under the same host name, across
    /// restarts: the machine or container, the data directory, and the address. Hubs that share a store are one.
    ///
    /// The `Host` header would not do: many proxies drop the port that the browser used.
    pub fn hub_identity(&self) -> String {
        if self.store.kind == StoreKind::Redis {
            return format!("redis\n{}", self.store.key_prefix);
        }
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let path = &self.store.path;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        format!("{}\n{}\n{}", machine.trim(), path.display(), self.server.listen)
    }

    /// The secrets that verify tokens, with their names; the first one also signs.
    fn secrets(&self) -> Vec<(String, &Secret)> {
        let one = Some(&self.auth.secret).filter(|secret| !secret.expose().is_empty());
        let one = one.map(|secret| ("auth.secret".to_owned(), secret));
        one.into_iter().chain(entries("auth.secrets", &self.auth.secrets)).collect()
    }

    /// The public key files, with their names.
    fn public_keys(&self) -> Vec<(String, &Path)> {
        let one = Some(&self.auth.public_key).filter(|path| !path.as_os_str().is_empty());
        let one = one.map(|path| ("auth.public_key".to_owned(), path.as_path()));
        let more = entries("auth.public_keys", &self.auth.public_keys);
        one.into_iter().chain(more.map(|(name, path)| (name, path.as_path()))).collect()
    }

    /// Faults in the keys that verify tokens.
    pub(super) fn signing_faults(&self) -> FaultsByKey {
        let auth = &self.auth;
        let (secrets, pems) = (self.secrets(), self.public_keys());
        let mut found = FaultsByKey::new();
        let mut wrong =
            |keys: &[&'static str], message: String| found.push((keys.to_vec(), message));
        if !auth.secrets.is_empty() && !auth.secret.expose().is_empty() {
            let message = "auth.secret and auth.secrets are both set: remove auth.secret, and list \
                           its secret in auth.secrets if tokens signed with it are to be accepted \
                           (the first entry signs)";
            wrong(&["auth.secrets", "auth.secret"], message.into());
        }
        if !auth.public_keys.is_empty() && !auth.public_key.as_os_str().is_empty() {
            let message = "auth.public_key and auth.public_keys are both set: remove \
                           auth.public_key, and list its file in auth.public_keys if tokens \
                           signed with it are to be accepted";
            wrong(&["auth.public_keys", "auth.public_key"], message.into());
        }
        for (name, text) in [("auth.issuer", &auth.issuer), ("auth.audience", &auth.audience)] {
            if text.trim() != text || text.chars().any(char::is_control) {
                let message = format!(
                    "{name} is {text:?}, which no token has: remove white space and line breaks"
                );
                wrong(&[name], message);
            }
        }
        let algorithm = auth.algorithm;
        if algorithm == Algorithm::HS256 {
            if !pems.is_empty() || !auth.jwks_url.is_empty() {
                let keys =
                    ["auth.public_key", "auth.public_keys", "auth.jwks_url", "auth.algorithm"];
                let message = "auth.algorithm is HS256, which verifies with a shared secret, but a \
                               public key is configured: set auth.algorithm to RS256, ES256 or \
                               EdDSA, whichever the back end signs with, or remove the public key";
                wrong(&keys, message.into());
            }
            found.extend(secret_faults(&secrets));
        } else if !secrets.is_empty() {
            let message = format!(
                "auth.algorithm is {algorithm:?}, which verifies with public keys, but a secret is \
                 configured: remove the secret, or set auth.algorithm = \"HS256\""
            );
            wrong(&["auth.secret", "auth.secrets", "auth.algorithm"], message);
        } else if pems.is_empty() == auth.jwks_url.is_empty() {
            let given = if pems.is_empty() { "neither is" } else { "both are" };
            let message = format!(
                "auth.algorithm = \"{algorithm:?}\" needs either auth.public_keys (PEM files) or \
                 auth.jwks_url, and {given} set"
            );
            let keys = ["auth.algorithm", "auth.public_key", "auth.public_keys", "auth.jwks_url"];
            wrong(&keys, message);
        } else if pems.is_empty() {
            if let Err(fault) = Verifier::new(&self.key_set(), self.token_rules()) {
                wrong(&["auth.jwks_url"], fault.to_string());
            }
        } else {
            found.extend(self.pem_faults(&pems));
        }
        found
    }

    fn pem_faults(&self, pems: &[(String, &Path)]) -> FaultsByKey {
        let mut found = FaultsByKey::new();
        for (name, path) in pems {
            let checked = read_pem(path).and_then(|pem| {
                let source = KeySource::Pems(vec![pem]);
                let verifier = Verifier::new(&source, self.token_rules());
                verifier.map_err(|fault| format!("{}: {fault}", path.display()))
            });
            if let Err(message) = checked {
                let key = setting_of(name, "auth.public_key", "auth.public_keys");
                found.push((vec![key], format!("{name}: {message}")));
            }
        }
        for (n, (name, _)) in pems.iter().enumerate() {
            if let Some(first) = same_before(pems, n) {
                let message = format!("{name} is the same file as {first}: remove one of them");
                found.push((vec!["auth.public_keys"], message));
            }
        }
        if pems.len() > SIGNERS_MAX {
            found.push((vec!["auth.public_keys"], too_many("auth.public_keys", pems.len())));
        }
        found
    }

    /// Faults in the keys to the server API and the Tencent Cloud IM secrets.
    pub(super) fn key_faults(&self) -> FaultsByKey {
        let tencent = &self.tencent;
        let mut found = FaultsByKey::new();
        let alone = [
            ("tencent.secret_key", &tencent.secret_key),
            ("tencent.callback_token", &tencent.callback_token),
        ];
        for (name, secret) in alone {
            let text = Some(secret.expose()).filter(|text| !text.is_empty());
            let fault = text.and_then(malformed);
            found.extend(fault.map(|fault| (vec![name], format!("{name} {fault}"))));
        }
        for (list, keys) in self.key_lists() {
            for (n, (name, key)) in entries(list, keys).enumerate() {
                let same = keys[..n].iter().position(|earlier| is_same_key(earlier, key));
                let fault = key_fault(key.expose()).or_else(|| {
                    same.map(|n| format!("is the same key as {list}[{n}]: remove one of them"))
                });
                found.extend(fault.map(|fault| (vec![list], format!("{name} {fault}"))));
            }
        }
        found
    }

    /// Says that every user may watch every other, if that is so in production and may not be meant (P10).
    pub fn everybody_watches(&self) -> Option<&'static str> {
        let all = self.auth.default_watch.iter().any(|pattern| pattern == "*");
        (self.server.production && all).then_some(
            "every user may watch every other: if that is not meant, set auth.default_watch to fewer ids or to [], \
             and let tokens (`watch`) or watch lists say whom a user may watch",
        )
    }

    /// A message for each key in two lists. Such a key has the greater of the two roles.
    pub fn keys_with_two_roles(&self) -> Vec<String> {
        let lists = self.key_lists();
        let mut found = Vec::new();
        for (n, (lesser, keys)) in lists.iter().enumerate() {
            for (greater, others) in &lists[n + 1..] {
                for (name, key) in entries(lesser, keys) {
                    if let Some(at) = others.iter().position(|other| is_same_key(other, key)) {
                        found.push(format!("{name} is the same key as {greater}[{at}]"));
                    }
                }
            }
        }
        found
    }

    /// The lists of keys to the server API, in ascending order of rights.
    fn key_lists(&self) -> [(&'static str, &[Secret]); 3] {
        let auth = &self.auth;
        [
            ("auth.viewer_keys", &auth.viewer_keys),
            ("auth.api_keys", &auth.api_keys),
            ("auth.admin_keys", &auth.admin_keys),
        ]
    }
}

/// Faults in the secrets that verify tokens.
fn secret_faults(secrets: &[(String, &Secret)]) -> FaultsByKey {
    let mut found = FaultsByKey::new();
    for (n, (name, secret)) in secrets.iter().enumerate() {
        let key = setting_of(name, "auth.secret", "auth.secrets");
        let text = secret.expose();
        let same = same_before(secrets, n);
        let fault = malformed(text).or_else(|| match (text.len(), same) {
            (bytes, _) if bytes < SECRET_BYTES_MIN => Some(format!(
                "has {bytes} bytes; an HS256 secret needs at least {SECRET_BYTES_MIN}: {MAKE}"
            )),
            (_, Some(first)) => Some(format!("is the same as {first}: remove one of them")),
            (_, None) => None,
        });
        found.extend(fault.map(|fault| (vec![key], format!("{name} {fault}"))));
    }
    if secrets.len() > SIGNERS_MAX {
        found.push((vec!["auth.secrets"], too_many("auth.secrets", secrets.len())));
    }
    found
}

/// Why a text cannot be any kind of secret.
pub(super) fn malformed(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some(format!("is empty: remove the entry, or {MAKE}"));
    }
    if text.trim() != text {
        let end = if text.trim_start() == text { "ends" } else { "begins" };
        let message = "white space or a line break, which is easily copied along and then differs \
                       from what the other side uses: remove it on both sides";
        return Some(format!("{end} with {message}"));
    }
    let at = text.chars().position(char::is_control)?;
    Some(format!(
        "contains a control character, such as a line break or a tab, at position {}: remove it",
        at + 1
    ))
}

/// Why a text can be neither an API key nor the hash of one.
fn key_fault(text: &str) -> Option<String> {
    let short = || {
        let count = text.chars().count();
        let needed = format!("an API key needs at least {KEY_CHARS_MIN}");
        (count < KEY_CHARS_MIN).then(|| format!("has {count} characters; {needed}: {MAKE}"))
    };
    let fault = malformed(text);
    if is_hash(text) {
        let wrong = || KeyMark::of_setting(text).err().map(|fault| format!("{fault}; {HASH}"));
        return fault.or_else(wrong);
    }
    fault.or_else(|| unsendable(text)).or_else(short)
}

/// Whether two settings are the same key, each given as itself or as its hash.
fn is_same_key(one: &Secret, other: &Secret) -> bool {
    let mark = |key: &Secret| KeyMark::of_setting(key.expose()).ok();
    mark(one).is_some_and(|one| Some(one) == mark(other))
}

/// Why a key cannot be sent in an HTTP header.
fn unsendable(text: &str) -> Option<String> {
    let at = text.chars().position(|c| !c.is_ascii())?;
    Some(format!(
        "contains a character that is not ASCII, at position {}, and HTTP clients cannot send it in \
         a header: {MAKE}",
        at + 1
    ))
}

/// A list's entries with their names: `auth.secrets[0]`.
pub(super) fn entries<'a, T>(
    list: &'a str,
    entries: &'a [T],
) -> impl Iterator<Item = (String, &'a T)> {
    entries.iter().enumerate().map(move |(n, entry)| (format!("{list}[{n}]"), entry))
}

/// The name of an earlier, equal entry of the same list. The single setting (`auth.secret`) is left
/// out: to set it beside the list is a fault of its own.
fn same_before<T: PartialEq>(all: &[(String, T)], n: usize) -> Option<&str> {
    let is_same = |(name, value): &&(String, T)| name.ends_with(']') && *value == all[n].1;
    all[..n].iter().find(is_same).map(|(name, _)| name.as_str())
}

/// The setting that an entry belongs to: the single one or the list.
fn setting_of(name: &str, one: &'static str, several: &'static str) -> &'static str {
    if name == one { one } else { several }
}

fn too_many(list: &str, count: usize) -> String {
    format!(
        "{list} has {count} entries; at most {SIGNERS_MAX} are allowed, because a token with a \
         wrong signature is checked against each: remove those that sign nothing any more"
    )
}

fn read_pem(path: &Path) -> Result<Vec<u8>, String> {
    if path.as_os_str().is_empty() {
        return Err("the name of the file is empty: remove the entry".into());
    }
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
