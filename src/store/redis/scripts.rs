//! The Lua scripts. Each is one file, and is sent by its digest.

use std::sync::LazyLock;

use redis::Script;

/// A script that changes a partition's log begins with `place.lua`. `#!lua` makes Redis refuse the script
/// before its first write if memory is full.
macro_rules! script {
    ($(#[$doc:meta])* $name:ident: $($file:literal)+) => {
        $(#[$doc])*
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!("#!lua\n", $(include_str!($file)),+)));
    };
    ($(#[$doc:meta])* $name:ident reads $file:literal) => {
        $(#[$doc])*
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!("#!lua flags=no-writes\n", include_str!($file))));
    };
}

script!(COMMIT: "place.lua" "commit.lua");
script!(TICK: "place.lua" "tick.lua");
script!(TRIM: "place.lua" "trim.lua");
script!(WATCH_LIST: "place.lua" "watch_list.lua");
script!(READ reads "read.lua");
script!(OLDEST reads "oldest.lua");
script!(HISTORY reads "history.lua");
script!(SIGN: "sign.lua");
script!(FENCE: "fence.lua");
script!(LEAVE: "leave.lua");
script!(SEAT: "seat.lua");
script!(SAVE: "save.lua");
script!(SAVE_DAY: "days.lua");
script!(LETTERS: "letters.lua");
script!(LOGIN_SAVE: "login_save.lua");
script!(LOGIN_FIND reads "login_find.lua");
