//! The actor of a connection over a socket in memory, on paused time: windows have their real length.

mod activity;
mod background;
mod closing;
mod costs;
mod idle_cuts;
mod patience;
mod silence;
mod stalls;
mod tokens;
mod unfinished;
mod watching;
