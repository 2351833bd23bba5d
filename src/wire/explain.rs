//! Explains what is wrong with a value in user input: the field, what was expected, and what was given.
//!
//! Serde's messages ("invalid type: map, expected a sequence") are for programmers. This module turns
//! them into plain words for request bodies, queries, client messages and the configuration.

use serde::Deserialize;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

/// The maximum number of characters of a given value that a message shows.
const SHOWN_CHARS: usize = 60;
/// Secret fields: messages never show their values.
const SECRET: [&str; 4] = ["token", "key", "secret", "resume"];

/// Reads JSON; `whole` is its name in messages, such as "the body".
///
/// # Errors
///
/// A message that explains what is wrong.
pub fn read_json<'de, T: Deserialize<'de>>(json: &'de str, whole: &str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| {
        if error.is_syntax() || error.is_eof() {
            return not_json(whole, &error);
        }
        // Tracking the path costs time, so it is done in a second pass, after an error.
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let found: Result<T, _> = serde_path_to_error::deserialize(&mut deserializer);
        let Err(error) = found else { return not_json(whole, &error) };
        let given: Option<Value> = serde_json::from_str(json).ok();
        explain(error.path(), &error.inner().to_string(), given.as_ref(), whole)
    })
}

/// Explains why a text is not a JSON object.
pub fn no_object(json: &str, whole: &str) -> String {
    match serde_json::from_str::<Value>(json) {
        Ok(given) => format!("{whole} must be a JSON object, got {}", show_given(&given)),
        Err(error) => not_json(whole, &error),
    }
}

fn not_json(whole: &str, error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let error = error.to_string();
    let what = without_place(&error);
    let what = match what.split_once("EOF while parsing ") {
        Some((_, part)) => format!("it ends inside {part}"),
        None => syntax(what).to_owned(),
    };
    format!("{whole} is not valid JSON: {what} (line {line}, column {column})")
}

/// Rewords the syntax errors of serde_json.
fn syntax(what: &str) -> &str {
    match what {
        "expected value" | "expected ident" => "expected a value",
        "trailing characters" => "unexpected text after the end",
        "trailing comma" => "trailing comma in a list or an object",
        "key must be a string" => "a field name must be a text in quotes",
        "invalid number" => "invalid number",
        "number out of range" => "number too large",
        "invalid escape" => "invalid escape in a text",
        // A lone surrogate is half of a character.
        "lone leading surrogate in hex escape"
        | "unexpected end of hex escape"
        | "invalid unicode code point" => "incomplete Unicode escape in a text",
        "recursion limit exceeded" => "nested too deeply",
        _ if what.starts_with("control character ") => {
            "control character in a text: write it as an escape, such as \\n"
        }
        _ => what,
    }
}

/// Explains serde's `error` at a path within `given`, the whole value.
pub fn explain(path: &Path, error: &str, given: Option<&Value>, whole: &str) -> String {
    let mut place = path.to_string();
    let given = given.and_then(|given| at(given, path));
    let is_secret = SECRET.iter().any(|name| place.rsplit('.').next() == Some(*name));
    let given = given.filter(|_| !is_secret);
    let message = match SerdeFault::parse(without_place(error)) {
        SerdeFault::Field(field, message) => {
            let is_root = path.iter().next().is_none();
            let is_named = place == field || place.ends_with(&format!(".{field}"));
            if is_root {
                field.clone_into(&mut place);
            } else if !is_named {
                place = format!("{place}.{field}");
            }
            return format!("`{place}` {message}");
        }
        SerdeFault::Expected(expected) => match given {
            Some(given) => format!("expected {expected}, got {}", show_given(given)),
            None => format!("expected {expected}"),
        },
        SerdeFault::Own(message) => {
            // The hub's own parsers read only texts. If the value is not a text, its key was parsed.
            let name = || path.iter().next_back().and_then(key).map(Value::from);
            let text = given
                .and_then(|given| if given.is_string() { Some(given.clone()) } else { name() });
            match text {
                Some(text) if message.starts_with("expected ") => {
                    format!("{message}, got {}", show_given(&text))
                }
                Some(text) => format!("{message}; got {}", show_given(&text)),
                None => message.to_owned(),
            }
        }
    };
    match path.iter().next() {
        None => format!("{whole}: {message}"),
        Some(_) => format!("`{place}`: {message}"),
    }
}

/// A message of serde, parsed.
enum SerdeFault<'a> {
    /// A field is missing, unknown or duplicated.
    Field(&'a str, String),
    /// Another type or value was expected.
    Expected(String),
    /// The message of one of the hub's own types.
    Own(&'a str),
}

impl<'a> SerdeFault<'a> {
    fn parse(error: &'a str) -> Self {
        let named = |start: &str| {
            let (field, rest) = error.strip_prefix(start)?.strip_prefix('`')?.split_once('`')?;
            Some((field, rest.strip_prefix(", ").unwrap_or(rest)))
        };
        // The name is the caller's, and may have quotes itself: the expected ones are behind the last.
        let unknown = |start: &str| {
            let rest = error.strip_prefix(start)?.strip_prefix('`')?;
            rest.rsplit_once("`, expected ").or_else(|| rest.rsplit_once("`, there are no "))
        };
        if let Some((field, _)) = named("missing field ") {
            return Self::Field(field, "is missing, and is required".to_owned());
        }
        if let Some((field, _)) = named("duplicate field ") {
            return Self::Field(field, "is given twice".to_owned());
        }
        if let Some((field, expected)) = unknown("unknown field ") {
            let message = match expected {
                "fields" => "is not known here: nothing is expected".to_owned(),
                expected => format!("is not known here: expected {expected}"),
            };
            return Self::Field(field, message);
        }
        if let Some((_, expected)) = unknown("unknown variant ") {
            return Self::Expected(expected.replace('`', "\""));
        }
        for start in ["invalid type: ", "invalid value: ", "invalid length "] {
            let parts = error.strip_prefix(start).and_then(|rest| rest.rsplit_once(", expected "));
            if let Some((_, expected)) = parts {
                return Self::Expected(kind(expected).to_owned());
            }
        }
        match error {
            "invalid IP address syntax" => {
                Self::Expected("an IP address such as 203.0.113.7 or 2001:db8::1".to_owned())
            }
            _ => Self::Own(error),
        }
    }
}

/// Translates serde's and Rust's names of types into plain words.
fn kind(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "a map" => "an object",
        "a string" | "a borrowed string" | "string" | "str" | "a character" => "a text",
        "string or map" | "variant identifier" => "a text",
        "path string" => "a path",
        // The only parsable strings are sizes in bytes.
        "parsable string" => "a size such as \"10GiB\"",
        "a boolean" => "true or false",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "IP address" => "an IP address such as 203.0.113.7 or 2001:db8::1",
        _ if expected.starts_with("struct ") => "an object",
        _ if expected.starts_with("enum ") => "a text",
        _ => expected,
    }
}

/// Removes the position that serde_json appends.
fn without_place(error: &str) -> &str {
    let error = error.trim_end();
    error.rsplit_once(" at line ").map_or(error, |(error, _)| error)
}

fn key(segment: &Segment) -> Option<&str> {
    match segment {
        Segment::Map { key } => Some(key),
        Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown => None,
    }
}

fn at<'a>(whole: &'a Value, path: &Path) -> Option<&'a Value> {
    path.iter().try_fold(whole, |value, segment| match segment {
        Segment::Seq { index } => value.get(index),
        Segment::Map { key } => value.get(key),
        Segment::Enum { .. } => Some(value),
        Segment::Unknown => None,
    })
}

/// Formats a given value for a message.
pub fn show_given(given: &Value) -> String {
    let json = given.to_string();
    let mut json = match json.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &json[..end]),
        None => json,
    };
    match given {
        Value::Null | Value::Bool(_) => json,
        Value::Number(_) => format!("the number {json}"),
        Value::String(_) => {
            if json.ends_with('…') {
                json.push('"');
            }
            json
        }
        Value::Array(_) => format!("the list {json}"),
        Value::Object(_) => format!("the object {json}"),
    }
}
