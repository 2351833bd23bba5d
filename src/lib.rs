#![doc = include_str!("README.md")]

// In reading order: a module knows those above it, never those below.
pub mod presence;
