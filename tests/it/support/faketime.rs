//! Runs a hub whose wall clock shows another time.

use std::process::Command;

/// The words that go before a command so that its wall clock follows faketime: `options` are variables of
/// libfaketime, such as `FAKETIME=+180`. The monotonic clock stays as it is.
pub(crate) fn faketime(options: &[&str]) -> Vec<String> {
    // Not through `faketime` itself: it would stay as a process between the test and the hub.
    let library = Command::new("faketime").args(["-f", "+0", "printenv", "LD_PRELOAD"]).output();
    let library = library.unwrap_or_else(|error| {
        panic!(
            "cannot run faketime: {error}; install it, for example with `apt-get install faketime`"
        )
    });
    let library = String::from_utf8(library.stdout).expect("a path");
    let library = format!("LD_PRELOAD={}", library.trim());
    let words = ["env", &library, "FAKETIME_DONT_FAKE_MONOTONIC=1"];
    words.iter().chain(options).map(|word| (*word).to_owned()).collect()
}
