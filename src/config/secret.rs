//! Secrets that are never printed, and URLs that are printed without their secret parts.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

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

/// Serializes a URL with its possibly secret parts hidden: name and password, query and fragment.
pub(super) fn shown_url<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let Ok(url) = reqwest::Url::parse(text) else {
        // Not a URL, so its secret part is unknown: hide all.
        return serializer.serialize_str(if text.is_empty() { "" } else { HIDDEN });
    };
    let mut plain = url.clone();
    plain.set_query(None);
    plain.set_fragment(None);
    let has_user = !url.username().is_empty() || url.password().is_some();
    // Fails only for URLs that cannot have a name or a password.
    plain.set_username("").and(plain.set_password(None)).ok();
    let mut shown = plain.to_string();
    if has_user {
        shown = shown.replacen("://", &format!("://{HIDDEN}@"), 1);
    }
    for (sign, is_there) in [('?', url.query().is_some()), ('#', url.fragment().is_some())] {
        if is_there {
            shown = format!("{shown}{sign}{HIDDEN}");
        }
    }
    serializer.serialize_str(&shown)
}
