//! The shape of the source itself: who may know whom, who may read time, how long a file may be.

use std::fs;
use std::path::{Path, PathBuf};

use presence_hub::wire::Close;

/// Each module with all that it may import, itself aside, in reading order; what is not named here
/// may import anything.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("presence", &[]),
    ("clock", &["presence"]),
    ("panics", &[]),
    ("throttle", &["presence"]),
    ("wire", &["presence"]),
    ("auth", &["presence", "clock"]),
    ("store", &["presence", "panics"]),
    ("bus", &["presence", "wire"]),
    ("hub", &["presence", "clock", "panics", "throttle", "wire", "store", "bus"]),
    ("session", &["presence", "clock", "wire", "auth", "hub"]),
    ("webhook", &["presence", "clock", "panics", "throttle", "wire", "store"]),
    ("http", &["presence", "clock", "wire", "auth", "store", "hub", "session", "webhook"]),
];

/// Where everything comes together.
const COMPOSES: &[&str] = &["lib", "main", "app", "config", "bench"];

/// What the rules do without: words of I/O, of async, of time and of logs.
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

/// How time is read, and where that may be.
const READS_TIME: &[&str] = &["Instant::now", "SystemTime::now", "UNIX_EPOCH", ".elapsed()"];
const TIME_READER: &str = "src/clock.rs";

const CLOSE_CODES: &str = "src/wire/close.rs";

/// What no file may be called: a name that says where code ended up, not what it is.
const BANNED_NAMES: &[&str] =
    &["util", "utils", "helper", "helpers", "common", "misc", "types", "shared", "base", "core"];

const LINES_MAX: usize = 500;

/// One line of code, comments aside, and where it stands.
struct Line {
    file: String,
    number: usize,
    code: String,
}

#[test]
fn imports_point_one_way() {
    let mut wrong = Vec::new();
    for line in lines_of("src") {
        let module = module_of(&line.file);
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            assert!(COMPOSES.contains(&&*module), "{module} has no line in the table");
            continue;
        };
        for imported in imports(&line.code) {
            if imported != module && !allowed.contains(&imported) {
                wrong.push(complaint(&line, &format!("{module} imports {imported}")));
            }
        }
    }
    assert_clean(&wrong);
}

/// A module knows those above it in `lib.rs`, never those below.
#[test]
fn the_list_of_modules_is_in_reading_order() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("lib.rs");
    let listed: Vec<_> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")).collect();
    let listed: Vec<_> = listed.iter().map(|name| name.trim_end_matches(';')).collect();
    for (place, module) in listed.iter().enumerate() {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| name == module) else {
            assert!(COMPOSES.contains(module), "{module} has no line in the table");
            continue;
        };
        let below = allowed.iter().filter(|known| listed[place..].contains(*known));
        assert_eq!(below.collect::<Vec<_>>(), [&""; 0], "{module} stands above what it knows");
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

/// `step` is called in one place, so that everything that changes a user goes the same way.
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

/// Metrics tell apart the codes that have a name, so the list must have them all.
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
fn these_checks_see_what_they_look_for() {
    let imported = |code| imports(code).collect::<Vec<_>>();
    assert_eq!(imported("use crate::hub::{Hub, WriteHalf};"), ["hub"]);
    assert_eq!(imported("use crate::{hub, store::Store};"), ["hub", "store"]);
    assert_eq!(
        imported("pub(crate) fn a(b: crate::wire::Close) -> crate::bus::Ear {"),
        ["wire", "bus"]
    );
    assert_eq!(imported("let x = presence_hub::app::run();"), ["app"]);
    assert_eq!(imported("mod crates;"), [""; 0]);
    assert_eq!(code_of("let a = 1; // crate::hub"), "let a = 1; ");
    assert_eq!(module_of("src/hub/mod.rs"), "hub");
    assert_eq!(module_of("src/clock.rs"), "clock");
    assert!(lines_of("src").len() > 1000 && lines_of("src/presence").len() > 500);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The modules of this crate that a line names.
fn imports(code: &str) -> impl Iterator<Item = &str> {
    let paths = code.split("presence_hub::").flat_map(|part| part.split("crate::")).skip(1);
    paths.flat_map(|path| {
        let group = path.strip_prefix('{').and_then(|group| group.split('}').next());
        let names: Vec<_> = match group {
            Some(group) => group.split(',').map(leading_name).collect(),
            None => vec![leading_name(path)],
        };
        names.into_iter().filter(|name| !name.is_empty())
    })
}

fn leading_name(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The top-level module that a file belongs to: `src/hub/mailbox.rs` is of `hub`.
fn module_of(file: &str) -> String {
    let inside = file.strip_prefix("src/").expect("a file of the source");
    let first = inside.split('/').next().expect("a name");
    first.trim_end_matches(".rs").to_owned()
}

fn code_of(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

fn lines_of(folder: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for file in files_under(folder) {
        let text = fs::read_to_string(root().join(&file)).expect("a source file");
        for (number, line) in (1..).zip(text.lines()) {
            lines.push(Line { file: file.clone(), number, code: code_of(line).to_owned() });
        }
    }
    lines
}

/// The Rust files of a folder and those in it, as paths from the root.
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
