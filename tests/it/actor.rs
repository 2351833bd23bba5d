//! One connection's actor over a socket in memory, on paused time: every window at its real length.

mod background;
mod closing;
mod idle_cuts;
mod patience;
mod silence;
mod stalls;
mod tokens;
mod watching;
