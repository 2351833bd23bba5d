//! The rules: a random life of a user, against the model and the invariants of `tests/it/rules`.

use super::engine::fuzz;
use crate::rules::live;

#[test]
fn events() {
    fuzz("events", "", live);
}
