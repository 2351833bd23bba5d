//! The rules of presence as pure values and functions: no clock, no socket, no log.
//!
//! ```text
//!              login          close, silence, token expiry          7 days
//!   Offline ─────────▶ Online ──────────────────────▶ PushOnline ─────────▶ Offline
//!      ▲                 │   ▲    (mobile only)            │
//!      │ close, silence, │   └──────────── login, resume ──┤
//!      │ background …    │                                 │ kick
//!      └─────────────────┴─────────────────────────────────┘
//!           logout, kick; platforms without push also on close, silence …
//! ```
//!
//! There are two state machines: [`step()`] applies an event to a user's [`Record`], and
//! [`Liveness`] decides when one connection has fallen silent. Numbers such as T3 or L7 refer to the
//! rules in `README.md` beside this file.

mod activity;
mod draft;
mod effect;
mod entry_size;
mod event;
mod explain;
mod ids;
mod liveness;
mod login;
mod moment;
mod notice;
mod patience;
mod platform;
mod policy;
mod quota;
mod record;
mod status;
mod step;
mod time;
mod unknown;
mod visibility;
mod watch_list;
mod watchable;
mod words;

pub use self::activity::{Activity, ActivityView};
pub use self::effect::{
    Answer, Cause, Effects, End, EndReason, Evidence, Outcome, Refusal, TerminalChange, Transition,
    Victim,
};
pub use self::entry_size::entry_bytes;
pub use self::event::{
    BackgroundReason, Event, EventKind, Intent, Kicker, Login, LostCommit, Origin, Target, Victor,
};
pub use self::explain::{Devices, Explanation, InvalidDevices, KickedCount, explain};
pub use self::ids::{
    ConnectionId, DeviceId, EventId, ID_BYTES_MAX, InvalidDevice, InvalidUser, NodeId, NotAnId,
    SessionId, UserId,
};
pub use self::liveness::{Liveness, LivenessDue};
pub use self::moment::Moment;
pub use self::notice::{Audience, Notice};
pub use self::patience::Patience;
pub use self::platform::{Platform, UnknownPlatform};
pub use self::policy::{
    Groups, INSTANCES_MAX, LogQuota, LoginPolicy, OnConflict, Policy, PolicyFault, Preset,
    SESSIONS_MAX, TABS_MAX, WebTabs, Windows,
};
pub use self::quota::LogUse;
pub use self::record::{
    Background, Census, ENDED_MAX, ENDED_TTL, Edition, Ended, Link, Loss, RECENT_EVENTS_MAX,
    RecentEvent, Record, Rescued, Revocation, Terminal,
};
pub use self::status::{State, Status, UnknownState};
pub use self::step::step;
pub use self::time::{SignOfLife, Stall, Timestamp};
pub use self::unknown::UnknownFields;
pub use self::visibility::{
    BLOCKED_MAX, BlockedChange, Visibility, VisibilityChange, VisibilityView,
};
pub use self::watch_list::{WatchList, WatchListChange};
pub use self::watchable::Watchable;
