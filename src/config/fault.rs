//! What is wrong in a configuration, and where.

use std::fmt;

/// The variables that override keys begin so.
pub(super) const PREFIX: &str = "PRESENCE_HUB__";

/// The keys that do not go together, and why.
pub(super) type Found = Vec<(Vec<&'static str>, String)>;

/// Something wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: a file with line and column, a variable, or nothing for the default.
    pub place: Option<String>,
    /// The key; empty where the file is no TOML.
    pub key: String,
    /// What is wrong.
    pub message: String,
}

/// Everything wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [self.place.as_deref().unwrap_or_default(), &self.key, &self.message];
        // A variable's name says its key.
        let named = self.place.as_deref().is_some_and(|place| place.starts_with(PREFIX));
        let says_more = |part: &&&str| !part.is_empty() && (!named || ***part != self.key);
        let parts: Vec<_> = parts.iter().filter(says_more).copied().collect();
        f.write_str(&parts.join(": "))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if n == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
