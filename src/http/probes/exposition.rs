//! The two formats of `/metrics`: OpenMetrics, which the counters are written in, and the older text
//! format of Prometheus (0.0.4), which everything reads.

use std::fmt::Write;

use axum::http::{HeaderMap, header};

use crate::http::net::header_list::weight;

/// What a scraper asks for OpenMetrics by.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// A format of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    OpenMetrics,
}

impl Format {
    /// What a request wants: text, unless it asks for OpenMetrics by name and not for text more.
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let weight = |media_type| weight(headers, header::ACCEPT.as_str(), media_type);
        match (weight(OPEN_METRICS), weight("text/plain")) {
            (None | Some(0), _) => Self::Text,
            (Some(open), Some(text)) if text > open => Self::Text,
            (Some(_), _) => Self::OpenMetrics,
        }
    }

    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Writes metrics, which come as OpenMetrics without its end mark.
    pub(crate) fn write(self, metrics: &str) -> String {
        match self {
            Self::Text => text(metrics),
            Self::OpenMetrics => format!("{metrics}# EOF\n"),
        }
    }
}

/// A metric's name and help, until its type is known.
#[derive(Default)]
struct Named<'a> {
    name: &'a str,
    help: &'a str,
}

/// The same metrics in the older format. There a metric has the name of its samples, so a counter's
/// ends in `_total`; units are comments that mean nothing, and there are fewer types.
fn text(metrics: &str) -> String {
    let mut text = String::with_capacity(metrics.len());
    let mut named = Named::default();
    for line in metrics.lines() {
        let mut parts = line.splitn(4, ' ');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("#"), Some("HELP"), Some(name), help) => {
                named = Named { name, help: help.unwrap_or_default() };
            }
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "gauge" | "histogram" | "summary" => ("", kind),
                    _ => ("", "untyped"),
                };
                // A text takes everything.
                if named.name == name {
                    writeln!(text, "# HELP {name}{suffix} {}", unquoted(named.help)).ok();
                }
                writeln!(text, "# TYPE {name}{suffix} {kind}").ok();
            }
            (Some("#"), ..) => (),
            _ => {
                writeln!(text, "{line}").ok();
            }
        }
    }
    text
}

/// OpenMetrics escapes quotes in help, the older format does not.
fn unquoted(help: &str) -> String {
    help.replace("\\\"", "\"")
}
