//! Parses lists in headers (RFC 9110, section 5.6.1): over several lines, with white space around
//! items, empty items to ignore, and commas inside quotes.

use std::borrow::Cow;

use axum::http::HeaderMap;

/// Replaces bytes that are not UTF-8.
const UNREADABLE: &str = "\u{fffd}";

/// The items of all lines of a header, in order.
pub(crate) fn items<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter();
    // Invalid bytes invalidate their own item, not the line: otherwise a client could use them to
    // hide what a proxy appended.
    lines.flat_map(|line| line.as_bytes().utf8_chunks()).flat_map(|chunk| {
        let unreadable = (!chunk.invalid().is_empty()).then_some(UNREADABLE);
        split(chunk.valid(), ',').chain(unreadable)
    })
}

/// Whether a list has an item, ignoring case.
pub(crate) fn has(headers: &HeaderMap, name: &str, item: &str) -> bool {
    items(headers, name).any(|one| one.eq_ignore_ascii_case(item))
}

/// Splits a text at a separator outside quotes; skips empty parts.
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

/// Removes quotes and escapes, if the text is quoted.
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

/// The weight (`q`) of an item of `Accept` or `Accept-Encoding`, in thousandths; `None` if it is not
/// listed.
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

/// Parses a weight; an invalid one is 0.
fn thousandths(text: &str) -> u16 {
    let weight: f32 = text.parse().unwrap_or(0.0);
    (weight.clamp(0.0, 1.0) * 1000.0).round() as u16
}
