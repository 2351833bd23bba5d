//! Fuzzing: each target runs on its corpus, and then on random variations of it.
//!
//! A plain `cargo test` varies for a second; `tests/fuzz/run` for as long as you like.

mod configuration;
mod engine;
mod events;
mod frames;
mod requests;
mod stores;
mod tokens;
mod usersigs;
