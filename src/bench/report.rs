use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::machine::Machine;
use super::scenario::{Figure, Scenario};
use super::{Kind, Store};

/// All that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    pub(super) commit: Option<String>,
    pub(super) command: String,
    pub(super) machine: Machine,
    pub(super) runs: Vec<Measured>,
}

/// One run.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    pub(super) scenario: String,
    pub(super) sessions: u32,
    pub(super) server: String,
    pub(super) figures: Vec<Figure>,
    #[serde(skip)]
    pub(super) of: (Scenario, Kind),
}

/// A row of the table: the scenario, its sessions, and the figure's place among its figures.
type Row = (Scenario, u32, usize);

/// The columns of the table.
const KINDS: [(&str, Kind); 3] = [
    ("hub", Kind::Hub(Store::Embedded)),
    ("hub, memory", Kind::Hub(Store::Memory)),
    ("floor", Kind::Floor),
];

impl Report {
    /// A table of the medians; a ratio is that of a hub to the floor.
    pub(super) fn table(&self) -> String {
        let mut rows = vec![
            ["scenario", "figure", "unit", "hub", "hub, memory", "floor"]
                .map(str::to_owned)
                .to_vec(),
        ];
        rows[0].push("hub / floor".into());
        for ((scenario, sessions, place), values) in self.by_figure() {
            let name = &values.first().map(|(_, figure)| (figure.name, figure.unit));
            let (name, unit) = name.unwrap_or_default();
            let medians = KINDS.map(|(_, kind)| {
                let values = values.iter().filter(|(of, _)| *of == kind);
                median(values.map(|(_, figure)| figure.value).collect())
            });
            let hub = medians[0].or(medians[1]);
            let ratio = hub.zip(medians[2]).filter(|(_, floor)| *floor > 0.0);
            let scenario =
                if place == 0 { format!("{scenario}, {sessions}") } else { String::new() };
            let mut row = vec![scenario, name.to_owned(), unit.to_owned()];
            row.extend(medians.map(|median| median.map(digits).unwrap_or_default()));
            row.push(ratio.map(|(hub, floor)| digits(hub / floor)).unwrap_or_default());
            rows.push(row);
        }
        aligned(&rows)
    }

    fn by_figure(&self) -> BTreeMap<Row, Vec<(Kind, &Figure)>> {
        let mut by_figure: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for Measured { of: (scenario, kind), sessions, figures, .. } in &self.runs {
            for (place, figure) in figures.iter().enumerate() {
                by_figure.entry((*scenario, *sessions, place)).or_default().push((*kind, figure));
            }
        }
        by_figure
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// A number with about three digits.
fn digits(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// Rows of a table in Markdown, which is as readable on a terminal.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut table = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let cell =
                if column < 3 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
            write!(table, "| {cell} ").unwrap_or_else(|_| unreachable!("a text takes it"));
        }
        table.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let (line, end) = ("-".repeat(*width), if column < 3 { "-" } else { ":" });
                write!(table, "|-{line}{end}").unwrap_or_else(|_| unreachable!("a text takes it"));
            }
            table.push_str("|\n");
        }
    }
    table
}
