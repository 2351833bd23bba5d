//! Checks the source itself: imports between modules, access to the clock, file sizes and names.

mod imports;

use std::fs;
use std::path::{Path, PathBuf};

use self::imports::{Modules, circles, code_of, paths};
use presence_hub::wire::Close;

/// Each module with the other modules it may import, in reading order.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("presence", &[]),
    ("clock", &["presence"]),
    ("causes", &[]),
    ("duration", &[]),
    ("heavy", &[]),
    ("panics", &[]),
    ("temporary", &[]),
    ("throttle", &["presence"]),
    ("wire", &["presence"]),
    ("outgoing", &["causes"]),
    ("traces", &["outgoing"]),
    ("auth", &["presence", "clock", "causes", "heavy", "outgoing"]),
    ("store", &["presence", "clock", "panics"]),
    ("figures", &["presence", "clock", "throttle", "store"]),
    ("hub", &["presence", "clock", "panics", "throttle", "wire", "store"]),
    ("session", &["presence", "clock", "duration", "throttle", "wire", "traces", "auth", "hub"]),
    (
        "webhook",
        &[
            "presence", "clock", "panics", "causes", "throttle", "wire", "outgoing", "traces",
            "store",
        ],
    ),
    (
        "http",
        &[
            "presence", "clock", "duration", "heavy", "throttle", "wire", "traces", "auth",
            "store", "figures", "hub", "session", "webhook",
        ],
    ),
];

/// Modules that may import everything.
const COMPOSES: &[&str] = &["lib", "main", "app", "config", "follow", "bench", "simulate"];

/// Allowed import cycles: the files or their folder, and the reason.
const CIRCLES: &[(&[&str], &str)] = &[
    (
        &["src/presence/effect.rs", "src/presence/event.rs", "src/presence/record.rs"],
        "values that hold each other: a record keeps the effects of its latest events",
    ),
    (
        &[
            "src/hub/mod.rs",
            "src/hub/advance.rs",
            "src/hub/connection.rs",
            "src/hub/apply.rs",
            "src/hub/drain.rs",
        ],
        "each task of the hub has a file of its own, and so have its connections, which act on it",
    ),
    (
        &["src/hub/mailbox.rs", "src/hub/registry.rs", "src/hub/subscriptions.rs"],
        "a watched user lists its watchers' mailboxes, and a mailbox the users it watches",
    ),
    (
        &["src/webhook/format.rs", "src/webhook/tencent.rs"],
        "one of the formats has a file of its own, and makes the same requests",
    ),
    (
        &["src/webhook/mod.rs", "src/webhook/webhooks.rs", "src/webhook/worker.rs"],
        "the webhook's worker has a file of its own, and so has the list of webhooks",
    ),
];

/// Words that the rules must not contain: I/O, async, time, logs and global state.
const NOT_IN_RULES: &[&str] = &[
    "tokio",
    "async ",
    ".await",
    "futures",
    "std::io",
    "std::fs",
    "TcpStream",
    "Instant",
    "SystemTime",
    "tracing",
    "println!",
    "rand::",
    "Mutex",
    "static mut",
    "OnceLock",
    "LazyLock",
];

/// The ways to read time, and the only file that may use them.
const READS_TIME: &[&str] = &["Instant::now", "SystemTime::now", "UNIX_EPOCH", ".elapsed()"];
const TIME_READER: &str = "src/clock.rs";

const CLOSE_CODES: &str = "src/wire/close.rs";

/// File names that do not say what the file is for.
const BANNED_NAMES: &[&str] =
    &["util", "utils", "helper", "helpers", "common", "misc", "types", "shared", "base", "core"];

const LINES_MAX: usize = 500;

/// One line of code without comments.
struct Line {
    file: String,
    number: usize,
    code: String,
}

#[test]
fn imports_point_one_way() {
    let modules = modules();
    let mut wrong = Vec::new();
    for (file, line, path) in modules.named() {
        let (module, Some(imported)) = (module_of(file), path.first()) else { continue };
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            assert!(COMPOSES.contains(&&*module), "{module} has no line in the table");
            continue;
        };
        if *imported != module && !allowed.contains(&imported.as_str()) {
            wrong.push(format!("{file}:{line}: {module} imports {imported}"));
        }
    }
    assert_clean(&wrong);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let modules = modules();
    let found = circles(&modules.uses());
    let is_within = |circle: &[String], listed: &[&str]| {
        let is_listed = |file: &String, place: &str| {
            file == place || place.ends_with('/') && file.starts_with(place)
        };
        circle.iter().all(|file| listed.iter().any(|place| is_listed(file, place)))
    };
    let new = found.iter().filter(|circle| !CIRCLES.iter().any(|(is, _)| is_within(circle, is)));
    let new: Vec<_> = new.map(|circle| format!("a circle: {}", circle.join(", "))).collect();
    assert_clean(&new);
    let gone = CIRCLES.iter().filter(|(is, _)| !found.iter().any(|circle| is_within(circle, is)));
    let gone: Vec<_> = gone.map(|(is, _)| format!("not a circle any more: {is:?}")).collect();
    assert_clean(&gone);
}

/// A module may import modules above it in `lib.rs`, never modules below.
#[test]
fn modules_are_listed_after_what_they_import() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("lib.rs");
    let listed: Vec<_> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")).collect();
    let listed: Vec<_> = listed.iter().map(|name| name.trim_end_matches(';')).collect();
    for (place, module) in listed.iter().enumerate() {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| name == module) else {
            assert!(COMPOSES.contains(module), "{module} has no line in the table");
            continue;
        };
        let below = allowed.iter().filter(|known| listed[place..].contains(*known));
        assert_eq!(
            below.collect::<Vec<_>>(),
            [&""; 0],
            "{module} is listed above modules that it imports"
        );
    }
}

#[test]
fn the_rules_are_pure() {
    let mut wrong = Vec::new();
    for line in lines_of("src/presence") {
        for word in NOT_IN_RULES.iter().filter(|word| line.code.contains(**word)) {
            wrong.push(complaint(&line, &format!("the rules have no {word}")));
        }
    }
    assert_clean(&wrong);
}

#[test]
fn only_the_clock_reads_time() {
    let mut wrong = Vec::new();
    for line in lines_of("src").into_iter().filter(|line| line.file != TIME_READER) {
        for word in READS_TIME.iter().filter(|word| line.code.contains(**word)) {
            wrong.push(complaint(&line, &format!("{word} belongs to {TIME_READER}")));
        }
    }
    assert_clean(&wrong);
}

/// `step` is called in one place, so that all changes of users take the same path.
#[test]
fn only_the_hub_applies_the_rules() {
    let mut callers = Vec::new();
    for line in lines_of("src") {
        let calls = line.code.contains(" step(") && !line.code.contains("fn step(");
        if calls && module_of(&line.file) != "presence" {
            callers.push(line.file);
        }
    }
    assert_eq!(callers, ["src/hub/apply.rs"]);
}

/// Metrics have a label for each named close code, so `Close::ALL` must be complete.
#[test]
fn close_codes_are_named_in_one_file() {
    let is_own = |code: &str| matches!(code.parse(), Ok(4000..=4029 | 4500..=4529));
    let mut codes: Vec<u16> = Vec::new();
    for line in lines_of("src").into_iter().filter(|line| module_of(&line.file) != "bench") {
        for code in line.code.split(|c: char| !c.is_alphanumeric()).filter(|code| is_own(code)) {
            assert_eq!(line.file, CLOSE_CODES, "{}: {code}", line.number);
            codes.push(code.parse().expect("a number"));
        }
    }
    let listed = Close::ALL.map(Close::code).into_iter().filter(|code| *code >= 4000);
    assert_eq!(codes, listed.collect::<Vec<_>>(), "Close::ALL is not complete");
}

#[test]
fn files_are_short_and_named_for_what_they_hold() {
    let mut wrong = Vec::new();
    for path in files_under("src").into_iter().chain(files_under("tests/it")) {
        let text = fs::read_to_string(root().join(&path)).expect("a source file");
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{path} has {lines} lines: split it"));
        }
        let parts = Path::new(&path).with_extension("");
        let parts = parts.iter().filter_map(|part| part.to_str());
        if let Some(name) = parts.into_iter().find(|part| BANNED_NAMES.contains(part)) {
            wrong.push(format!("{path}: `{name}` says nothing"));
        }
    }
    assert_clean(&wrong);
}

#[test]
fn the_checks_detect_violations() {
    let imported = |code: &str| -> Vec<_> {
        let found = paths(code, &["parts".to_owned()]);
        found.into_iter().map(|named| named.names.join("::")).collect()
    };
    assert_eq!(
        imported("use crate::hub::{Hub, WriteHalf as W};"),
        ["crate::hub::Hub", "crate::hub::WriteHalf"]
    );
    let lines = "use crate::{\n    hub,\n    store::{self, log::Cursor},\n};\nuse super::a::B;";
    assert_eq!(
        imported(lines),
        ["crate::hub", "crate::store::self", "crate::store::log::Cursor", "super::a::B"]
    );
    assert_eq!(paths(lines, &[]).last().map(|named| named.line), Some(5));
    assert_eq!(
        imported("pub(crate) fn a(b: crate::wire::Close) -> crate::store::Stored {"),
        ["crate::wire::Close", "crate::store::Stored"]
    );
    assert_eq!(imported("let x = presence_hub::app::run();"), ["presence_hub::app::run"]);
    assert_eq!(imported("routes!(parts::all); mod crates;"), ["parts::all"]);
    let handed = |code| paths(code, &[]).first().map(|named| named.is_handed_on);
    assert_eq!(handed("pub use self::a::B;"), Some(true));
    assert_eq!(handed("pub(crate) use self::a::B;"), Some(true));
    assert_eq!(handed("use self::a::B;"), Some(false));

    let files = [
        ("src/a/mod.rs", "mod b;\nmod c;\npub use self::b::B;\npub use self::c::C;"),
        ("src/a/b.rs", "use super::C;\npub struct B;"),
        ("src/a/c.rs", "pub struct C(crate::d::D);"),
        ("src/d.rs", "use crate::a::{\n    B,\n};\npub struct D(Option<Box<B>>);"),
    ];
    let files = files.map(|(file, text)| (file.to_owned(), text.to_owned()));
    let circle = ["src/a/b.rs", "src/a/c.rs", "src/d.rs"].map(str::to_owned).to_vec();
    assert_eq!(circles(&Modules::read(files).uses()), [circle], "handing on closes no circle");

    assert_eq!(
        imported("const TARGET: &str = \"presence_hub::hub\";"),
        [""; 0],
        "a string is not an import"
    );
    assert_eq!(code_of("let a = 1; // crate::hub"), "let a = 1; ");
    assert_eq!(code_of("let a = \"http://b\";"), "let a = \"http://b\";");
    assert_eq!(module_of("src/hub/mod.rs"), "hub");
    assert_eq!(module_of("src/clock.rs"), "clock");
    assert!(lines_of("src").len() > 1000 && lines_of("src/presence").len() > 500);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The modules of the crate.
fn modules() -> Modules {
    let text = |file: &String| fs::read_to_string(root().join(file)).expect("a source file");
    Modules::read(files_under("src").into_iter().map(|file| (file.clone(), text(&file))))
}

/// The top-level module of a file: `hub` for `src/hub/mailbox.rs`.
fn module_of(file: &str) -> String {
    let inside = file.strip_prefix("src/").expect("a file of the source");
    let first = inside.split('/').next().expect("a name");
    first.trim_end_matches(".rs").to_owned()
}

fn lines_of(folder: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for file in files_under(folder) {
        let text = fs::read_to_string(root().join(&file)).expect("a source file");
        for (number, code) in (1..).zip(code_of(&text).lines()) {
            lines.push(Line { file: file.clone(), number, code: code.to_owned() });
        }
    }
    lines
}

/// The Rust files of a folder and its subfolders, as paths from the root.
fn files_under(folder: &str) -> Vec<String> {
    let mut folders = vec![root().join(folder)];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    let inside = files.iter().map(|file| file.strip_prefix(root()).expect("a file of this crate"));
    inside.map(|file| file.to_str().expect("a UTF-8 path").to_owned()).collect()
}

fn complaint(line: &Line, what: &str) -> String {
    format!("{}:{}: {what}", line.file, line.number)
}

fn assert_clean(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
