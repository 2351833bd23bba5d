//! Lists in headers, as RFC 9110 (section 5.6.1) has them: over several lines, with spaces and tabs
//! around their items, with empty items that do not count, and with commas inside quotes that do not
//! separate.

use std::borrow::Cow;

use axum::http::HeaderMap;

/// What stands for bytes that are not text.
const UNREADABLE: &str = "\u{fffd}";

/// The items of all lines of a header, in their order.
pub(crate) fn items<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter();
    // Bytes that are not text spoil the item that they are in, not the whole line: a client could
    // hide behind them what a proxy appended.
    lines.flat_map(|line| line.as_bytes().utf8_chunks()).flat_map(|chunk| {
        let unreadable = (!chunk.invalid().is_empty()).then_some(UNREADABLE);
        split(chunk.valid(), ',').chain(unreadable)
    })
}

/// Whether a list has an item, in whatever case.
pub(crate) fn has(headers: &HeaderMap, name: &str, item: &str) -> bool {
    items(headers, name).any(|one| one.eq_ignore_ascii_case(item))
}

/// Splits a text at a separator outside quotes; leaves out what is empty.
pub(crate) fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = text.split(move |c| {
        if is_escaped {
            is_escaped = false;
            return false;
        }
        is_escaped = is_quoted && c == '\\';
        is_quoted ^= c == '"';
        !is_quoted && c == separator
    });
    parts.map(|part| part.trim_matches([' ', '\t'])).filter(|part| !part.is_empty())
}

/// Takes a text out of its quotes, where it has any.
pub(crate) fn quoted(text: &str) -> Cow<'_, str> {
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
        return text.into();
    };
    if !inner.contains('\\') {
        return inner.into();
    }
    let mut is_escaped = false;
    let chars = inner.chars().filter(|c| {
        is_escaped = !is_escaped && *c == '\\';
        !is_escaped
    });
    chars.collect::<String>().into()
}

/// How much a request wants something that `Accept` or `Accept-Encoding` names, from 0 to 1,000; `None`
/// where it names it not.
pub(crate) fn weight(headers: &HeaderMap, name: &str, wanted: &str) -> Option<u16> {
    let weights = items(headers, name).filter_map(|item| {
        let mut parts = split(item, ';');
        let is_it = parts.next()?.eq_ignore_ascii_case(wanted);
        let weight = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
        });
        is_it.then(|| weight.map_or(1000, thousandths))
    });
    weights.max()
}

/// Reads a weight of at most three decimals; one that cannot be read is none.
fn thousandths(text: &str) -> u16 {
    let weight: f32 = text.parse().unwrap_or(0.0);
    (weight.clamp(0.0, 1.0) * 1000.0).round() as u16
}
