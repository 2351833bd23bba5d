//! The canary: the secrets of a hub must appear in nothing that it prints or answers. Each [`Server`]
//! checks its whole log when it stops, so every test checks it.
//!
//! [`Server`]: super::Server

use std::fs;
use std::path::Path;

use toml::{Table, Value};

/// The settings that are secrets, or lists of them.
const SECRETS: [&str; 9] = [
    "auth.secret",
    "auth.secrets",
    "auth.api_keys",
    "auth.admin_keys",
    "auth.viewer_keys",
    "webhook.secrets",
    "tencent.secret_key",
    "tencent.callback_token",
    "traces.headers",
];
/// The secrets that a hub in development mode generates, in `data`.
const GENERATED: [&str; 3] = ["dev-secret", "admin-key", "dev-key"];
/// How the header of every JWT begins, in base64: `{"`.
const JWT_BEGINS: &str = "eyJ";

/// The secrets of one hub.
#[derive(Debug, Clone, Default)]
pub(crate) struct Canary(Vec<String>);

impl Canary {
    /// Collects the secrets in the settings and the directory of a hub.
    pub(crate) fn plant(&mut self, settings: &[(&str, &str)], directory: &Path) {
        for (_, value) in settings.iter().filter(|(key, _)| SECRETS.contains(key)) {
            let list: Option<Value> = value.parse::<Value>().ok();
            match list {
                Some(list @ Value::Array(_)) => self.add(&list),
                Some(_) | None => self.0.push((*value).to_owned()),
            }
        }
        let file = fs::read_to_string(directory.join("config.toml")).unwrap_or_default();
        if let Ok(file) = file.parse::<Table>() {
            for key in SECRETS {
                let (section, name) = key.split_once('.').expect("a section");
                if let Some(value) = file.get(section).and_then(|section| section.get(name)) {
                    self.add(value);
                }
            }
        }
        for name in GENERATED {
            let file = directory.join("data").join(name);
            self.0.extend(fs::read_to_string(file).map(|key| key.trim().to_owned()));
        }
        self.0.retain(|secret| !secret.is_empty());
        self.0.sort();
        self.0.dedup();
    }

    fn add(&mut self, value: &Value) {
        match value {
            Value::String(secret) => self.0.push(secret.clone()),
            Value::Array(list) => list.iter().for_each(|value| self.add(value)),
            Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Table(_) => (),
        }
    }

    /// The first line with a secret or a token in it, and the secret.
    pub(crate) fn found_in<'a>(&'a self, text: &'a str) -> Option<(&'a str, &'a str)> {
        let secrets = self.0.iter().map(String::as_str).chain([JWT_BEGINS]);
        let mut found = secrets.filter(|secret| text.contains(secret));
        let secret = found.next()?;
        Some((text.lines().find(|line| line.contains(secret)).unwrap_or_default(), secret))
    }

    /// Asserts that no secret and no token is in a text.
    #[track_caller]
    pub(crate) fn assert_hidden(&self, text: &str, what: &str) {
        assert_eq!(self.found_in(text), None, "a secret is in {what}");
    }
}
