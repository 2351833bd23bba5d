//! A disk that fails to sync: the kernel may have dropped what was written, so nothing is built on it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::{Server, now_millis, until};

/// A library that is loaded before the C library: while the file `FAILING_SYNC` exists, a sync of the file
/// whose path ends as its text says fails with EIO.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
    const char *flag = getenv("FAILING_SYNC");
    FILE *file = flag ? fopen(flag, "r") : NULL;
    if (!file) return 0;
    char end[256], link[64], path[4096];
    int found = fscanf(file, "%255s", end);
    fclose(file);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (found != 1 || length < (ssize_t)strlen(end)) return 0;
    path[length] = 0;
    return strcmp(path + length - strlen(end), end) == 0;
}

static int sync_by(const char *name, int fd) {
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}

int fdatasync(int fd) { return sync_by("fdatasync", fd); }
int fsync(int fd) { return sync_by("fsync", fd); }
"#;

const UNLIMITED: [(&str, &str); 3] = [
    ("limits.changes_per_user_per_minute", "1000000"),
    ("limits.messages_per_second", "100000"),
    ("limits.message_burst", "100000"),
];

/// Compiles the library; returns its path.
fn library(directory: &Path) -> String {
    let (source, library) = (directory.join("sync.c"), directory.join("sync.so"));
    fs::write(&source, LIBRARY).expect("to write");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl");
    assert!(compiler.status().expect("a C compiler").success(), "the library does not compile");
    library.display().to_string()
}

#[tokio::test]
async fn store_stops_at_a_sync_that_fails_and_nothing_that_was_answered_is_lost() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let flag = directory.path().join("flag");
    let preload = format!("LD_PRELOAD={}", library(directory.path()));
    let failing = format!("FAILING_SYNC={}", flag.display());
    // The hub syncs the write-ahead log, and a checkpoint the database.
    for file in ["/presence.db-wal", "/presence.db"] {
        let mut server = Server::under(&["env", &preload, &failing], &UNLIMITED);
        let (mut ana, _) = server.login("ana", "mac").await;
        ana.ok(json!({ "type": "set", "custom": "answered" })).await;
        fs::write(&flag, file).expect("to write");
        let status =
            async || server.http("GET", "/ready").send().await.expect("an answer").status();
        until("the store to stop", async || {
            // A change to sync; it may still be answered.
            server.call("PUT", "/v1/users/ana/custom", Some(json!({ "custom": "late" }))).await;
            status().await == 503
        })
        .await;
        let log = server.until_logged(&["the store has stopped until the hub is restarted"]).await;
        assert!(log.contains("could not be synced"), "{log}");

        // The disk works again, but what the kernel dropped does not come back.
        fs::remove_file(&flag).expect("to remove");
        let (signs, begin) = (server.log().len(), now_millis());
        until("two signs of life", async || {
            let refused = ana.error(json!({ "type": "set", "custom": "lost" })).await;
            assert_eq!((&*refused, status().await.as_u16()), ("unavailable", 503), "{file}");
            now_millis() > begin + 2200
        })
        .await;
        assert!(!server.log()[signs..].contains("store available again"), "{file}");
        server.restart(&[]);
        let custom = server.user("ana").await["custom"].clone();
        assert!(custom == "answered" || custom == "late", "{file}: {custom}");
        let (_bo, ok) = server.login("bo", "mac").await;
        assert_eq!(ok["status"]["state"], "Online");
    }
}
