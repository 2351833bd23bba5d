//! Requests to other servers: the webhook's receiver and the identity provider's JWK set.
//!
//! Their URLs come from the operator, but a name in them resolves to whatever its zone says at the
//! moment. So each address is checked when it is connected to. No redirect is followed, no proxy of
//! the environment is used, and the answer is bounded in time and in what may come before it.

mod address;
mod client;
mod url;

pub use self::address::{AddressClass, class_of};
pub use self::client::{Answer, Fault, Outgoing};
pub use self::url::{check, without_secrets};
