//! Loads and checks the configuration, and turns it into the settings of each part of the hub.
//!
//! The repository's `config.toml` is built in as the default; a file and the environment override it.

mod at_start;
mod check;
mod development;
mod fault;
mod instances;
mod keys;
mod read;
mod secret;
mod sections;
mod settings;

pub use self::at_start::AtStart;
pub use self::development::{
    DEVELOPMENT_CLOCK, DEVELOPMENT_SECRET, DevelopmentKeys, development_secret,
};
pub use self::fault::{Fault, Faults};
pub(crate) use self::read::position;
pub use self::read::{Loaded, load};
pub use self::secret::Secret;
pub use self::sections::{
    Auth, Config, DEFAULT, Limits, Liveness, Log, LogFormat, Login, NamedWebhook, OutgoingRequests,
    PolicyName, Server, Store, StoreKind, Tencent, Traces, VisibilitySection, Webhook,
    WebhookFormat,
};
pub use self::settings::{SettingFault, Settings};
