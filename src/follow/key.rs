//! The place of the API key.

use std::path::{Path, PathBuf};

use super::fault::{Fault, other};

/// The variable with the API key.
pub const KEY_VARIABLE: &str = "PRESENCE_HUB_KEY";

/// The place of the API key. A file is read for each connection, so that a new key needs no restart.
#[derive(Debug)]
pub(super) struct KeySource {
    pub(super) file: Option<PathBuf>,
    pub(super) variable: Option<String>,
}

impl KeySource {
    /// The key.
    ///
    /// # Errors
    ///
    /// If there is none, or it cannot be a key.
    pub(super) fn read(&self) -> Result<String, Fault> {
        let (text, place) = match (&self.file, &self.variable) {
            (Some(file), _) => (read(file)?, format!("--key-file {}", file.display())),
            (None, Some(key)) => (key.clone(), format!("the variable {KEY_VARIABLE}")),
            (None, None) => {
                return Err(other(format!(
                    "missing API key: put a key of auth.api_keys or auth.viewer_keys in a file and \
                     name it with --key-file, or set the variable {KEY_VARIABLE}"
                )));
            }
        };
        let key = text.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(other(format!(
                "{place}: expected one API key of visible ASCII characters, without spaces"
            )));
        }
        Ok(key.to_owned())
    }
}

fn read(file: &Path) -> Result<String, Fault> {
    std::fs::read_to_string(file)
        .map_err(|error| other(format!("--key-file {}: {error}", file.display())))
}
