//! `presence-hub simulate` on scenarios of these tests, and on those that are shipped.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::command;

/// What a run of the command wrote.
struct Played {
    code: Option<i32>,
    out: String,
    error: String,
    _directory: Option<TempDir>,
}

impl Played {
    /// The lines with all of these texts.
    fn lines(&self, texts: &[&str]) -> Vec<&str> {
        self.out.lines().filter(|line| texts.iter().all(|text| line.contains(text))).collect()
    }

    /// The events and their place in the output.
    #[track_caller]
    fn assert_has(&self, texts: &[&str]) {
        assert_eq!(self.lines(texts).len(), 1, "{texts:?} in:\n{}\n{}", self.out, self.error);
    }
}

fn play_file(file: &Path, arguments: &[&str]) -> Played {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut simulate = command(directory.path(), &[]);
    simulate.arg("simulate").arg(file).args(arguments);
    let output = simulate.output().expect("the command to run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let (out, error) = (text(output.stdout), text(output.stderr));
    Played { code: output.status.code(), out, error, _directory: None }
}

fn play_with(scenario: &str, arguments: &[&str]) -> Played {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("scenario.toml");
    fs::write(&file, scenario).expect("to write");
    Played { _directory: Some(directory), ..play_file(&file, arguments) }
}

fn play(scenario: &str) -> Played {
    play_with(scenario, &[])
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/scenarios").join(name)
}

#[test]
fn shipped_scenarios_hold() {
    let directory = fs::read_dir(shipped("")).expect("the scenarios");
    let files = directory.map(|entry| entry.expect("an entry").path());
    let scenarios: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|e| e == "toml")).collect();
    assert!(scenarios.len() >= 3, "{scenarios:?}");
    for file in scenarios {
        let played = play_file(&file, &[]);
        assert_eq!(played.code, Some(0), "{}: {}{}", file.display(), played.out, played.error);
    }
}

#[test]
fn timeline_shows_each_change_at_the_time_of_its_window() {
    let played = play_file(&shipped("network-loss.toml"), &[]);
    played.assert_has(&[" 00:03:00.", "ann", "Online -> Offline", "silence", "web (web)"]);
    let played = play_file(&shipped("mini-program.toml"), &[]);
    played.assert_has(&[" 00:01:30.", "Online -> Offline", "background", "closed: 4003"]);
    played.assert_has(&[" 00:03:04.", "Online -> Offline", "exit", "closed: 4003"]);
    let played = play_file(&shipped("phone-push.toml"), &[]);
    played.assert_has(&["3d 01:00:00.", "Online -> PushOnline", "close", "phone (android)"]);
    // In the timeline, and among the webhooks.
    assert_eq!(played.lines(&["10d 01:00:00.", "PushOnline -> Offline", "expired"]).len(), 2);
}

#[test]
fn everything_that_users_may_do_is_played() {
    let played = play(
        r#"
        [hub.login]
        policy = "multi"
        [[step]]
        user = "ann"
        platform = "web"
        do = "login"
        token_ttl = "1h"
        [[step]]
        user = "ann"
        device = "phone"
        platform = "iphone"
        do = "login"
        [[step]]
        at = "1s"
        user = "ann"
        device = "web"
        do = "custom"
        text = "in a meeting"
        [[step]]
        at = "2s"
        user = "ann"
        device = "web"
        do = "reload"
        [[step]]
        at = "3s"
        user = "ann"
        device = "phone"
        do = "background"
        [[step]]
        user = "ann"
        device = "phone"
        do = "foreground"
        [[step]]
        at = "1m"
        do = "kill_hub"
        [[step]]
        at = "50m"
        user = "ann"
        device = "web"
        do = "renew_token"
        token_ttl = "1h"
        [[step]]
        at = "2h"
        user = "ann"
        device = "phone"
        do = "kick"
        expect = "Offline"
        [[step]]
        user = "ann"
        device = "phone"
        do = "login"
        [[step]]
        user = "ann"
        device = "phone"
        do = "logout"
        expect = "Offline"
        "#,
    );
    assert_eq!(played.code, Some(0), "{}\n{}", played.out, played.error);
    played.assert_has(&["ann", "> reload (session resumed)", "web"]);
    // A token's times are whole seconds.
    played.assert_has(&[" 01:50:0", "token_expired", "closed: 4001"]);
    played.assert_has(&[" 02:00:0", "kicked", "phone (ios), kicked: admin, closed: 4501"]);
    played.assert_has(&["> custom \"in a meeting\""]);
    // Nobody has seen the reload or the death of the hub.
    assert!(played.lines(&["node_lost"]).is_empty(), "{}", played.out);
    assert!(played.lines(&["Online", "close  "]).is_empty(), "{}", played.out);
}

#[test]
fn refused_resume_is_shown() {
    let played = play(
        r#"
        [[step]]
        user = "ann"
        device = "desk"
        platform = "mac"
        do = "login"
        [[step]]
        user = "ann"
        device = "desk"
        do = "lose_network"
        [[step]]
        at = "10s"
        user = "ann"
        device = "phone"
        platform = "android"
        do = "login"
        [[step]]
        at = "20s"
        user = "ann"
        device = "desk"
        do = "return"
        "#,
    );
    assert_eq!(played.code, Some(0), "{}\n{}", played.out, played.error);
    played.assert_has(&["> return (refused: kicked)", "desk"]);
}

#[test]
fn expectation_that_does_not_hold_fails_with_its_place() {
    let played = play(
        "[[step]]\nuser = \"ann\"\nplatform = \"web\"\ndo = \"login\"\n\n\
         [[step]]\nat = \"1h\"\nuser = \"ann\"\nexpect = \"Offline\"\n",
    );
    assert_eq!(played.code, Some(1), "{}", played.error);
    let expected =
        "scenario.toml:6: at 01:00:00.000: expected ann to be Offline, but ann is Online since ";
    assert!(played.error.contains(expected), "{}", played.error);
    // The timeline is there, so that one sees why.
    played.assert_has(&["Offline -> Online", "login", "web (web)"]);
}

#[test]
fn step_without_a_connection_fails_with_its_place() {
    let played = play(
        "[[step]]\nuser = \"ann\"\nplatform = \"web\"\ndo = \"login\"\n\
         [[step]]\nat = \"1s\"\nuser = \"ann\"\ndo = \"close\"\n\
         [[step]]\nat = \"2s\"\nuser = \"ann\"\ndo = \"background\"\n",
    );
    assert_eq!(played.code, Some(1), "{}", played.error);
    let expected = "scenario.toml:9: at 00:00:02.000: ann's web has no connection";
    assert!(played.error.contains(expected), "{}", played.error);
}

#[test]
fn json_has_an_object_for_each_step_event_and_webhook() {
    let played = play_file(&shipped("phone-push.toml"), &["--json"]);
    assert_eq!(played.code, Some(0), "{}", played.error);
    let lines: Vec<Value> =
        played.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |kind: &str| lines.iter().filter(|line| line.get(kind).is_some()).count();
    assert_eq!((of("step"), of("event")), (5, 5), "{}", played.out);
    let posted = lines.iter().filter_map(|line| line["webhook"]["body"]["events"].as_array());
    assert_eq!(posted.map(Vec::len).sum::<usize>(), 5);
    let expired = lines.iter().find(|line| line["event"]["cause"] == "expired");
    let after = expired.expect("T8")["after_ms"].as_u64().expect("a number");
    let ten_days_and_an_hour = (10 * 24 + 1) * 3_600_000;
    assert!((ten_days_and_an_hour..ten_days_and_an_hour + 2000).contains(&after), "{after}");
}

#[test]
fn invalid_scenarios_are_refused_with_line_and_key() {
    let step = "[[step]]\nuser = \"ann\"\nplatform = \"web\"\ndo = \"login\"\n";
    for (scenario, expected) in [
        (format!("{step}colour = \"red\"\n"), "scenario.toml:5:1: `step[0].colour`"),
        (step.replace("login", "dance"), "scenario.toml:4:6: `step[0].do`: expected "),
        (step.replace("web", "toaster"), "scenario.toml:3:12: `step[0].platform`"),
        (format!("{step}at = \"soon\"\n"), "scenario.toml:5:6: `step[0].at`: expected a duration"),
        (format!("{step}expect = \"Away\"\n"), "`step[0].expect`"),
        (step.replace("platform = \"web\"\n", ""), "scenario.toml:1: step[0]: the first login"),
        (step.replace("user = \"ann\"\n", ""), "step[0]: do = \"login\" needs `user`"),
        (
            format!("{step}at = \"2s\"\n{step}at = \"1s\"\n"),
            "scenario.toml:6: step[1]: `at` is 1s, before the step above, which is at 2s",
        ),
        (format!("{step}text = \"x\"\n"), "`text` has a meaning only with do = \"custom\""),
        (
            format!("{step}[[step]]\nuser = \"bob\"\ndo = \"close\"\n"),
            "scenario.toml:5: step[1]: bob has not logged in before",
        ),
        (
            format!("[hub.liveness]\nweb_silense = \"1m\"\n{step}"),
            "scenario.toml:2: hub.liveness.web_silense: ",
        ),
        (
            format!("[hub]\nserver.listen = \"0.0.0.0:80\"\n{step}"),
            "scenario.toml:2: hub.server.listen: a simulation sets it itself",
        ),
        (
            format!("[hub.store]\nkind = \"redis\"\n{step}"),
            "scenario.toml:2: hub.store.kind: a simulation has one hub",
        ),
        ("[[step]\n".to_owned(), "scenario.toml:1:"),
    ] {
        let played = play(&scenario);
        assert_eq!(played.code, Some(2), "{scenario}: {}{}", played.out, played.error);
        assert!(played.error.contains(expected), "{expected}: {}", played.error);
    }
    let missing = play_file(Path::new("/no/such/scenario.toml"), &[]);
    assert_eq!(missing.code, Some(2));
    assert!(missing.error.starts_with("/no/such/scenario.toml: "), "{}", missing.error);
}
