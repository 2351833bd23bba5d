//! All integration tests, in one binary.

mod actor;
mod bench;
mod certificates;
mod crash;
mod embedded;
mod fuzz;
mod heavy;
mod hub;
mod lab;
mod operation;
mod outgoing;
mod protocol;
mod real_time;
mod receiver;
mod redis;
mod restarts;
mod rules;
mod server_api;
mod several_hubs;
mod simulation;
mod store_contract;
mod support;
mod throttle;
mod tidy;
mod usersig;
mod webhook;
