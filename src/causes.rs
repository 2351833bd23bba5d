//! Formats an error and its causes in one line.

use std::error::Error;

/// An error with all its causes: the outermost error alone seldom says what is wrong.
pub fn with_causes(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}
