//! Runs a target on the files of its corpus, and then on random variations of them.
//!
//! It needs no nightly toolchain: what a target returns stands in for coverage. An input with a new
//! outcome joins the corpus of this run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crc32fast::hash;
use parking_lot::Mutex;
use presence_hub::panics::caught_now;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// How long a target varies its corpus in a plain `cargo test`.
const SECONDS: u64 = 1;
/// The seed of a plain `cargo test`: it finds what a change broke, not what a new seed would find.
const SEED: u64 = 1;
/// The most inputs in the corpus of a run.
const CORPUS_MAX: usize = 2000;
const INPUT_BYTES_MAX: usize = 4096;
const CHANGES_MAX: usize = 6;
/// How long one input may take, also on a busy machine: longer is an endless loop.
const STUCK: Duration = Duration::from_secs(60);
/// Values at which parsers have their limits.
const EDGES: [u8; 8] = [0, 1, 0x1f, 0x7d, 0x7e, 0x7f, 0x80, 0xff];

/// Checks a target: its corpus first, then random variations for `FUZZ_SECONDS`. `check` panics if it
/// finds a fault, and returns a short outcome. `words`, with spaces between them, are inserted into inputs
/// now and then.
///
/// An input that fails is kept in the corpus, and named in the failure.
#[expect(clippy::print_stdout, reason = "the seed repeats a run")]
pub(super) fn fuzz(target: &str, words: &str, mut check: impl FnMut(&[u8]) -> String) {
    let words: Vec<_> = words.split_whitespace().chain([" ", "\n"]).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let watchdog = Watchdog::start(folder.clone());
    let mut outcomes = BTreeSet::new();
    let mut corpus = Vec::new();
    for (file, input) in files(&folder) {
        watchdog.begin(&input);
        match caught_now(|| check(&input)) {
            Ok(outcome) => drop(outcomes.insert(outcome)),
            Err(fault) => panic!("{}: {fault}", file.display()),
        }
        corpus.push(input);
    }

    let seed = setting("FUZZ_SEED").unwrap_or(SEED);
    let seconds = setting("FUZZ_SECONDS").unwrap_or(SECONDS);
    let keeps = setting("FUZZ_KEEP").is_some_and(|keep: u8| keep != 0);
    println!("fuzz {target}: {} files, then {seconds} s with FUZZ_SEED={seed}", corpus.len());
    let mut random = StdRng::seed_from_u64(seed);
    let until = now() + Duration::from_secs(seconds);
    let mut runs = 0_u64;
    while now() < until {
        let input = vary(&mut random, &corpus, &words);
        runs += 1;
        watchdog.begin(&input);
        match caught_now(|| check(&input)) {
            Ok(outcome) => {
                if corpus.len() < CORPUS_MAX && outcomes.insert(outcome) {
                    if keeps {
                        keep(&folder, "found", &input);
                    }
                    corpus.push(input);
                }
            }
            Err(fault) => {
                let file = keep(&folder, "failed", &input);
                panic!("input {runs} of FUZZ_SEED={seed}, kept in {}: {fault}", file.display());
            }
        }
    }
    println!("fuzz {target}: {runs} inputs, {} outcomes", outcomes.len());
    assert!(!corpus.is_empty() && (runs > 0 || seconds == 0), "{target} ran on nothing");
}

/// The corpus: every file of a folder, in the order of the names.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("the folder of the corpus");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let read = |file: PathBuf| {
        let input = fs::read(&file).expect("a file of the corpus");
        (file, input)
    };
    files.into_iter().map(read).collect()
}

/// Writes an input into the corpus; returns the file.
fn keep(folder: &Path, kind: &str, input: &[u8]) -> PathBuf {
    let file = folder.join(format!("{kind}-{:08x}", hash(input)));
    fs::write(&file, input).expect("to write into the corpus");
    file
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

#[expect(clippy::disallowed_methods, reason = "the time that a run takes is real")]
fn now() -> Instant {
    Instant::now()
}

/// Makes an input from those of the corpus.
fn vary(random: &mut StdRng, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = corpus.choose(random).cloned().unwrap_or_default();
    for _ in 0..random.random_range(1..=CHANGES_MAX) {
        change(random, &mut input, corpus, words);
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}

/// Changes an input in one place.
fn change(random: &mut StdRng, input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&str]) {
    let at = random.random_range(0..=input.len());
    let end = random.random_range(at..=input.len().min(at + 64));
    let word = words.choose(random).map(|word| word.as_bytes()).unwrap_or_default();
    match random.random_range(0..10) {
        0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
        1 if at < input.len() => input[at] = *EDGES.choose(random).expect("a value"),
        2 if at < input.len() => input[at] = input[at].wrapping_add(random.random_range(1..4)),
        3 => input.truncate(at),
        4 => drop(input.drain(at..end)),
        5 => {
            let again = input[at..end].repeat(random.random_range(1..8));
            insert(input, at, &again);
        }
        6 => drop(input.splice(at..end, word.iter().copied())),
        7 => {
            let other = corpus.choose(random).map(Vec::as_slice).unwrap_or_default();
            let from = random.random_range(0..=other.len());
            let until = random.random_range(from..=other.len());
            insert(input, at, &other[from..until]);
        }
        8 => {
            let bytes: Vec<u8> = (0..random.random_range(1..8)).map(|_| random.random()).collect();
            insert(input, at, &bytes);
        }
        _ => insert(input, at, word),
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

/// Ends the process if an input takes too long, and keeps that input.
struct Watchdog {
    current: Arc<Mutex<Vec<u8>>>,
    begun: SyncSender<()>,
}

impl Watchdog {
    #[expect(clippy::print_stderr, reason = "the process ends without a panic")]
    fn start(folder: PathBuf) -> Self {
        let (begun, begins) = sync_channel(1);
        let current = Arc::new(Mutex::new(Vec::new()));
        let stuck = Arc::clone(&current);
        std::thread::spawn(move || {
            loop {
                match begins.recv_timeout(STUCK) {
                    Ok(()) => (),
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        let file = keep(&folder, "failed", &stuck.lock());
                        eprintln!("an input took over {STUCK:?}, kept in {}", file.display());
                        std::process::exit(101);
                    }
                }
            }
        });
        Self { current, begun }
    }

    fn begin(&self, input: &[u8]) {
        input.clone_into(&mut self.current.lock());
        // Full: the thread has not taken the last one yet, so it is not waiting.
        self.begun.try_send(()).ok();
    }
}

#[test]
fn a_failing_input_is_named_and_the_same_seed_makes_the_same_inputs() {
    let made = |seed| {
        let mut random = StdRng::seed_from_u64(seed);
        let corpus = [b"{\"type\":\"ping\"}".to_vec(), b"x".to_vec()];
        (0..200).map(|_| vary(&mut random, &corpus, &["id", "null"])).collect::<Vec<_>>()
    };
    assert_eq!(made(1), made(1));
    assert_ne!(made(1), made(2));
    assert!(made(1).iter().any(|input| input.windows(4).any(|part| part == b"null")));

    let fault = caught_now(|| {
        fuzz("requests", "}", |input| {
            assert!(input.len() < 4, "too long");
            String::new()
        });
    });
    let fault = fault.expect_err("an input of the corpus fails").to_string();
    assert!(fault.contains("tests/fuzz/corpus/requests/") && fault.contains("too long"), "{fault}");
}
