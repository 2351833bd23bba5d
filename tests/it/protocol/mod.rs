//! The WebSocket protocol, tested from outside with raw bytes and with messages.

mod autobahn;
mod crowds;
mod ends;
mod frames;
mod handshake;
mod key_sets;
mod login;
mod messages;
mod origins;
mod proxies;
mod raw;
mod rotation;
mod signing;
mod tokens;
mod watching;
