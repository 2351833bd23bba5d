//! `presence-hub bench` with a small load: all deliveries arrive and all figures exist. No test checks
//! the values of the figures.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::yield_now;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_presence-hub"));
    command.arg("bench").args(arguments).output().expect("a benchmark")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_scenario_gets_all_deliveries_and_reports_figures() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("figures.json");
    let scenarios = [
        "idle",
        "pings",
        "fanout",
        "mesh",
        "mesh-busy",
        "away",
        "storm",
        "kick",
        "status",
        "churn",
        "lists",
        "twins",
    ];
    let small = ["--sessions", "30", "--repeat", "1", "--rounds", "2", "--seconds", "1"];
    let to_file = ["--processes", "2", "--json", file.to_str().expect("a path")];
    let said = bench(&[&scenarios[..], &small, &to_file].concat());
    assert!(said.status.success(), "{}", text(&said.stderr));
    let table = text(&said.stdout);
    for (scenario, figure) in [("fanout, 30", "CPU a single delivery"), ("storm, 30", "p99 login")]
    {
        assert!(table.contains(scenario) && table.contains(figure), "{table}");
    }

    let report = fs::read_to_string(file).expect("the figures");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let mut servers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for run in report["runs"].as_array().expect("runs") {
        let figures = run["figures"].as_array().expect("figures");
        assert!(!figures.is_empty(), "{run}");
        for figure in figures {
            assert!(figure["value"].as_f64().is_some_and(f64::is_finite), "{run}");
        }
        let name = |key: &str| run[key].as_str().expect("a name").to_owned();
        servers.entry(name("scenario")).or_default().push(name("server"));
    }
    assert_eq!(servers["storm"], ["hub (embedded)", "hub (memory)", "floor"]);
    assert_eq!(servers["mesh"], ["hub (embedded)", "floor"]);
    assert_eq!(servers["kick"], ["hub (embedded)"]);
    let medians = report["medians"].as_array().expect("medians");
    let deliveries = medians.iter().find(|row| row["figure"] == "CPU a single delivery");
    assert!(deliveries.is_some_and(|row| row["ratio"].as_f64().is_some()), "{medians:?}");
    assert_eq!(servers.len(), scenarios.len());
}

#[test]
fn impossible_options_are_refused_with_the_reason() {
    for (arguments, why) in [
        (&["storm", "--sessions", "1"][..], "--sessions"),
        (&["storm", "--cpus", "4711,4712"], "--cpus"),
        (&["kick", "--server", "floor"], "the floor supports none"),
        (&["storm", "--sessions", "5", "--hub", "/bin/true"], "hub (embedded) did not start"),
    ] {
        let said = bench(arguments);
        let complaint = text(&said.stderr);
        assert!(!said.status.success() && complaint.contains(why), "{arguments:?}: {complaint}");
    }
}

/// Closing the terminal must leave no process and no directory behind.
#[test]
fn hangup_signal_ends_all_processes_and_removes_the_directories() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_presence-hub"));
    command.args(["bench", "storm", "churn", "--sessions", "5", "--seconds", "600"]);
    command.args(["--repeat", "1", "--server", "hub"]).env("TMPDIR", directory.path());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a benchmark");
    // The third server is churn's, so the figures of storm exist by then.
    let third = format!("presence-hub-{}-2", child.id());
    while !directory.path().join(&third).join("data").exists() {
        yield_now();
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
    kill_process(pid, Signal::HUP).expect("a signal");
    let said = child.wait_with_output().expect("an end");
    assert!(!said.status.success());
    assert!(text(&said.stderr).contains("interrupted"), "{}", text(&said.stderr));
    assert!(text(&said.stdout).contains("CPU a login"), "the finished figures are shown");
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0);
    assert_eq!(processes_about(directory.path()), [""; 0]);
}

/// The command lines of running processes that contain a path.
fn processes_about(path: &Path) -> Vec<String> {
    let path = path.to_str().expect("a path");
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| text(&line)).filter(|line| line.contains(path)).collect()
}
