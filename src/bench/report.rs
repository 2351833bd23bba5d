//! The report: figures of all runs, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use serde::{Serialize, Serializer};

use super::kind::{Kind, Store};
use super::machine::Machine;
use super::scenario::{Figure, Scenario, median};
use crate::clock::Clock;
use crate::presence::Timestamp;

/// The report of all runs.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: &'static str,
    /// The time of the report, in milliseconds since the Unix epoch.
    at: Timestamp,
    /// The commit of the current directory; `None` if another build was measured.
    commit: Option<String>,
    command: String,
    machine: Machine,
    medians: Vec<Row>,
    runs: Vec<Measured>,
}

/// One run.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    #[serde(serialize_with = "shown")]
    pub(super) scenario: Scenario,
    pub(super) sessions: u32,
    /// The number of servers.
    pub(super) hubs: u32,
    #[serde(rename = "server", serialize_with = "shown")]
    pub(super) kind: Kind,
    pub(super) figures: Vec<Figure>,
}

/// A row of the table: the medians of one figure.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(serialize_with = "shown")]
    scenario: Scenario,
    sessions: u32,
    figure: &'static str,
    unit: &'static str,
    hub: Option<f64>,
    hub_memory: Option<f64>,
    hub_redis: Option<f64>,
    floor: Option<f64>,
    /// The hub's value divided by the floor's.
    ratio: Option<f64>,
}

impl Report {
    /// Reports on runs of this program or, if `hub` is given, of another build.
    pub(super) fn new(hub: Option<&Path>, runs: Vec<Measured>) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            at: Clock::system().wall(),
            commit: if hub.is_none() { commit() } else { None },
            command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
            machine: Machine::this(),
            medians: medians(&runs),
            runs,
        }
    }

    /// The medians as a Markdown table, which is also readable on a terminal.
    pub(super) fn table(&self) -> String {
        let head = [
            "scenario",
            "figure",
            "unit",
            "hub",
            "hub, memory",
            "hub, redis",
            "floor",
            "hub / floor",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        let mut last = None;
        for row in &self.medians {
            let is_next = last.replace((row.scenario, row.sessions)) != last;
            let numbers = [row.hub, row.hub_memory, row.hub_redis, row.floor, row.ratio];
            let [hub, memory, redis, floor, ratio] =
                numbers.map(|number| number.map(digits).unwrap_or_default());
            let scenario = format!("{}, {}", row.scenario, row.sessions);
            let scenario = if is_next { scenario } else { String::new() };
            let (figure, unit) = (row.figure.to_owned(), row.unit.to_owned());
            rows.push([scenario, figure, unit, hub, memory, redis, floor, ratio]);
        }
        aligned(&rows)
    }
}

fn medians(runs: &[Measured]) -> Vec<Row> {
    let mut by_figure: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for Measured { scenario, sessions, kind, figures, .. } in runs {
        for (place, figure) in figures.iter().enumerate() {
            let key = (*scenario, *sessions, place, figure.name, figure.unit);
            by_figure.entry(key).or_default().push((*kind, figure.value));
        }
    }
    let rows = by_figure.into_iter().map(|((scenario, sessions, _, figure, unit), values)| {
        let of = |wanted| {
            let values = values.iter().filter(|(kind, _)| *kind == wanted);
            median(values.map(|(_, value)| *value).collect())
        };
        let [hub, hub_memory, hub_redis] =
            [Store::Embedded, Store::Memory, Store::Redis].map(|store| of(Kind::Hub(store)));
        let floor = of(Kind::Floor);
        let both = hub.or(hub_memory).or(hub_redis).zip(floor).filter(|(_, floor)| *floor > 0.0);
        let ratio = both.map(|(hub, floor)| hub / floor);
        Row { scenario, sessions, figure, unit, hub, hub_memory, hub_redis, floor, ratio }
    });
    rows.collect()
}

/// The commit of the current directory, if it is in a Git repository.
fn commit() -> Option<String> {
    let said = Command::new("git").args(["describe", "--always", "--dirty"]).output().ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| said.status.success() && !text.is_empty())
}

fn shown<S: Serializer>(value: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

/// Formats a number with about three digits.
fn digits(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

fn aligned(rows: &[[String; 8]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut table = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Words are aligned left, numbers right.
            let written = if column < 3 {
                write!(table, "| {cell:<width$} ")
            } else {
                write!(table, "| {cell:>width$} ")
            };
            written.unwrap_or_else(|_| unreachable!("a text takes it"));
        }
        table.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.into_iter().enumerate() {
                table.push_str("|-");
                table.push_str(&"-".repeat(width));
                table.push(if column < 3 { '-' } else { ':' });
            }
            table.push_str("|\n");
        }
    }
    table
}
