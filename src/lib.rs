#![doc = include_str!("README.md")]

// In reading order: a module may import modules above it, never modules below.
pub mod presence;

pub mod clock;

pub mod duration;

pub mod panics;

pub mod temporary;

pub mod causes;

pub mod heavy;

pub mod throttle;

pub mod wire;

pub mod outgoing;

pub mod traces;

pub mod auth;

pub mod store;

pub mod figures;

pub mod hub;

pub mod session;

pub mod webhook;

pub mod http;

pub mod config;

pub mod app;

pub mod follow;

pub mod bench;

pub mod simulate;
