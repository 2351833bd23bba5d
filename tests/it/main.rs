//! The one integration-test binary.

mod actor;
mod hub;
mod lab;
mod operation;
mod protocol;
mod real_time;
mod rules;
mod server_api;
mod store_contract;
mod support;
mod tidy;
mod usersig;
