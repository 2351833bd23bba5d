//! Secrets that are never printed, and URLs that are printed without their secret parts.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use crate::outgoing::without_secrets;

/// Printed in place of a secret.
const HIDDEN: &str = "(hidden)";

/// A text that `Debug` and `Serialize` hide.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The secret text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { HIDDEN })
    }
}

/// Serializes a URL with its possibly secret parts hidden.
pub(super) fn shown_url<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&shown(text))
}

fn shown(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) => without_secrets(&url),
        // Not a URL, so its secret part is unknown: hide all.
        Err(_) if text.is_empty() => String::new(),
        Err(_) => HIDDEN.to_owned(),
    }
}

/// The URLs of a server, or of several that make a cluster; printed without their passwords. Written as one
/// text or as a list.
#[derive(Clone)]
pub struct ServerUrls(Vec<String>);

impl ServerUrls {
    /// The URLs, with their passwords.
    pub fn expose(&self) -> &[String] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for ServerUrls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a URL, or a list of URLs")]
        enum OneOrMore {
            One(String),
            More(Vec<String>),
        }
        Ok(Self(match OneOrMore::deserialize(deserializer)? {
            // An environment variable is read as a string first, and then as TOML.
            OneOrMore::One(url) if url.starts_with('[') => {
                return Err(Error::custom("expected a URL, or a list of URLs"));
            }
            OneOrMore::One(url) => vec![url],
            OneOrMore::More(urls) => urls,
        }))
    }
}

impl fmt::Debug for ServerUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerUrls({} hidden)", self.0.len())
    }
}

impl Serialize for ServerUrls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &*self.0 {
            [one] => shown_url(one, serializer),
            more => serializer.collect_seq(more.iter().map(|url| shown(url))),
        }
    }
}
