//! The door: what answers HTTP, and where WebSockets come in.
//!
//! [`Door`] is what every request shares, `routes` says which address answers what. Rooms: `net` lets
//! requests in, `access` says who calls, `extract` reads what they ask, `calls` answers under `/v1`,
//! `tencent` under `/v4`, `probes` what monitors ask, `pages` the files of `static/`.

mod access;
mod calls;
mod dev;
mod door;
mod extract;
mod net;
mod openapi;
mod pages;
mod points;
mod probes;
mod problem;
mod routes;
mod settings;
mod tencent;
mod undelivered;

pub use self::access::cookie::cookie_name;
pub use self::calls::operation::keep_points;
pub use self::door::Door;
pub use self::net::forwarded::TrustedProxies;
pub use self::net::listen::{ListenFault, Listener, bind, serve};
pub use self::net::origin::OriginRule;
pub use self::net::tls::{TlsFault, tls};
pub use self::routes::{Face, router};
pub use self::settings::{Development, Settings};
pub use self::tencent::application::Tencent;
