//! Stores user records and the transition log: the interfaces and their adapters.
//!
//! | interface | keeps | used by |
//! | --- | --- | --- |
//! | [`Records`] | the users' records, and tells the other nodes of each commit | the hub |
//! | [`WatchLists`] | whom each user watches, as the back end says | the hub |
//! | [`Log`] | the transition log | the hub, webhook and HTTP, which read it |
//! | [`Nodes`] | the nodes' signs of life | the hub |
//! | [`Outbox`] | the progress of webhooks in the log | webhooks |
//! | [`Days`] | the figures of each day | figures |
//! | [`SharedLogins`] | the dashboard's logins, if several hubs share the store | HTTP |
//!
//! An adapter contains no rules: it loads a record, and replaces it if its revision has not changed. A
//! commit is visible to all readers at once. Every adapter passes the contract in
//! `tests/it/store_contract.rs`.

mod days;
mod embedded;
mod error;
mod log;
mod lookout;
mod memory;
mod messages;
mod nodes;
mod outbox;
mod part;
mod records;
mod redis;
mod revision;
mod rules;
mod saved_time;
mod server_counts;
mod shared_logins;
mod watch_lists;

pub use self::days::{Day, Days};
pub use self::embedded::{EmbeddedStore, OpenFault};
pub use self::error::StoreError;
pub use self::log::{
    Backlog, Cursor, Damaged, DamagedEvent, Event, HistoryPart, Log, LogEntry, Retention,
};
pub use self::lookout::{DEAD_AFTER, Lookout};
pub use self::memory::{LOG_ENTRIES_MAX, MemoryStore};
pub use self::messages::{Message, Received, Subscription};
pub use self::nodes::{Lost, NodeCard, Nodes};
pub use self::outbox::{
    Dead, DeadSelection, HeldUser, Outbox, Progress, Save, WebhookName, WebhookNameFault,
};
pub use self::part::Part;
pub use self::records::{Among, Commit, Listed, Records, Stored, Totals};
pub use self::redis::{RedisFault, RedisSettings, RedisStore};
pub use self::revision::Revision;
pub use self::server_counts::ServerCounts;
pub use self::shared_logins::{SharedLogin, SharedLogins};
pub use self::watch_lists::WatchLists;

/// All that the hub needs of a store.
pub trait Store: Records + WatchLists + Log + Nodes {}

impl<T: Records + WatchLists + Log + Nodes> Store for T {}
