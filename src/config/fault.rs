//! The type for faults in a configuration: place, key and message.

use std::fmt;

/// The prefix of environment variables that override keys.
pub(super) const PREFIX: &str = "PRESENCE_HUB__";

/// Faults: the keys involved, and a message.
pub(super) type FaultsByKey = Vec<(Vec<&'static str>, String)>;

/// One fault in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// A file with line and column, or a variable; `None` for a default value.
    pub place: Option<String>,
    /// The key; empty if the file is not valid TOML.
    pub key: String,
    /// What is wrong.
    pub message: String,
}

/// Every fault in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [self.place.as_deref().unwrap_or_default(), &self.key, &self.message];
        // A variable's name already says the key.
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
