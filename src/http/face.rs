//! What a listening address serves.

/// What a listening address serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// Everything.
    Whole,
    /// What clients need, if the server API has its own address.
    Clients,
    /// The server API and the dashboard.
    Admin,
    /// Only `/metrics`, without authentication.
    Metrics,
}
