//! Escapes invisible and direction-changing characters in log lines.
//!
//! A user id may contain characters that reverse the text direction (U+202E), break the line (U+2028)
//! or are invisible, and could forge a log line.

use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;

/// A writer that escapes such characters.
#[derive(Debug, Clone)]
pub(super) struct Escaped<W> {
    inner: W,
    format: LogFormat,
}

impl<W> Escaped<W> {
    /// Escapes what goes to `inner`: as `\u{202e}` in text, in JSON as JSON does.
    pub(super) const fn new(inner: W, format: LogFormat) -> Self {
        Self { inner, format }
    }
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Escaped<W> {
    type Writer = Escaped<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaped { inner: self.inner.make_writer(), format: self.format }
    }
}

impl<W: Write> Write for Escaped<W> {
    /// Expects one whole line, as `tracing_subscriber` writes it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match str::from_utf8(line) {
            Ok(text) if text.trim_end_matches('\n').contains(is_unseen) => {
                self.inner.write_all(escape(text, self.format).as_bytes())?;
            }
            Ok(_) | Err(_) => self.inner.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn escape(line: &str, format: LogFormat) -> String {
    let text = line.trim_end_matches('\n');
    let mut escaped = String::with_capacity(line.len() + 16);
    for c in text.chars() {
        match format {
            _ if !is_unseen(c) => escaped.push(c),
            LogFormat::Text => escaped.extend(c.escape_default()),
            LogFormat::Json => {
                let units = c.encode_utf16(&mut [0; 2]).to_vec();
                escaped.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
            }
        }
    }
    escaped.push_str(&line[text.len()..]);
    escaped
}

/// Whether a character is invisible, moves visible text or only looks like a space: a control
/// character, one of Unicode's categories Cf, Co, Zl, Zp and Zs, a variation selector or a filler.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{a0}'
                | '\u{ad}'
                | '\u{34f}'
                | '\u{600}'..='\u{605}'
                | '\u{61c}'
                | '\u{6dd}'
                | '\u{70f}'
                | '\u{890}'..='\u{891}'
                | '\u{8e2}'
                | '\u{115f}'..='\u{1160}'
                | '\u{1680}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{2000}'..='\u{200f}'
                | '\u{2028}'..='\u{202f}'
                | '\u{205f}'..='\u{206f}'
                | '\u{2800}'
                | '\u{3000}'
                | '\u{3164}'
                | '\u{e000}'..='\u{f8ff}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{110bd}'
                | '\u{110cd}'
                | '\u{13430}'..='\u{1343f}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0001}'
                | '\u{e0020}'..='\u{e007f}'
                | '\u{e0100}'..='\u{e01ef}'
                | '\u{f0000}'..='\u{10ffff}'
        )
}
