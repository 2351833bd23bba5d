//! Secrets that are never printed, and URLs that are printed without their secret parts.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
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
    match Url::parse(text) {
        Ok(url) => serializer.serialize_str(&without_secrets(&url)),
        // Not a URL, so its secret part is unknown: hide all.
        Err(_) => serializer.serialize_str(if text.is_empty() { "" } else { HIDDEN }),
    }
}
