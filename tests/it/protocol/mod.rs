//! The WebSocket protocol from outside, by the bytes and by the messages.

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
