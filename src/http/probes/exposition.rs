//! Writes `/metrics` as OpenMetrics, the format of the metrics library, or as the older Prometheus
//! text format (0.0.4), which every scraper reads.

use std::fmt::Write;

use axum::http::{HeaderMap, header};

use crate::http::net::header_list::weight;

/// The media type of OpenMetrics in `Accept`.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// A format of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetricsFormat {
    Text,
    OpenMetrics,
}

impl MetricsFormat {
    /// OpenMetrics if `Accept` names it, and does not prefer text; otherwise text.
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

    /// Formats metrics that are given as OpenMetrics without the end marker.
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

/// Converts to the older format. There a metric has the name of its samples, so a counter's name ends
/// in `_total`; there are no units, and fewer types.
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
                // Writing to a `String` cannot fail.
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

/// OpenMetrics escapes quotes in help texts; the older format does not.
fn unquoted(help: &str) -> String {
    help.replace("\\\"", "\"")
}
