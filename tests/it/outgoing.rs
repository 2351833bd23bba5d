//! Requests that the hub sends: which addresses they may go to, and what may come back.

mod addresses;
mod broken;
mod endless;
mod requests;
