//! Estimates the size of an entry of the transition log.

use super::{Kicker, Transition};

/// The size of an entry without its texts: its JSON, its row, and its place in the index by user.
const ENTRY_BYTES: u64 = 600;
/// The size of a device with its session in an entry, without the device's id.
const DEVICE_BYTES: u64 = 100;

/// The estimated size of an entry of the log.
pub fn entry_bytes(entry: &Transition) -> u64 {
    let custom = entry.status.custom.as_deref().map_or(0, json_bytes);
    let terminal = entry.terminal.as_ref().map_or(0, |it| json_bytes(it.device.as_str()));
    let blocked = entry.visibility.iter().flat_map(|it| &it.blocked);
    let blocked: u64 = blocked.map(|viewer| json_bytes(viewer.as_str())).sum();
    let by = match &entry.by {
        Some(Kicker::Login(victor) | Kicker::Own(victor)) => {
            DEVICE_BYTES + json_bytes(victor.device.as_str())
        }
        Some(Kicker::Admin { message }) => message.as_deref().map_or(0, json_bytes),
        None => 0,
    };
    let kicked = entry.kicked.iter().map(|it| DEVICE_BYTES + json_bytes(it.device.as_str()));
    ENTRY_BYTES + blocked + custom + terminal + by + kicked.sum::<u64>()
}

/// The length of a text in JSON, where control characters, quotes and backslashes are escaped.
fn json_bytes(text: &str) -> u64 {
    let escaped = |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..=0x1f => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum()
}
