use subtle::{Choice, ConstantTimeEq};

/// What the bearer of a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read: the GET calls and `POST /v1/status`.
    Viewer,
    /// Everything that app back ends may do.
    Api,
    /// Everything.
    Admin,
}

/// The keys to the server API.
#[derive(Clone, Default)]
pub struct ApiKeys {
    keys: Vec<(String, Role)>,
}

impl ApiKeys {
    /// Collects the keys of each role.
    pub fn new(viewer: &[String], api: &[String], admin: &[String]) -> Self {
        let with =
            |keys: &[String], role| keys.iter().map(move |key| (key.clone(), role)).collect();
        let all: [Vec<_>; 3] =
            [with(viewer, Role::Viewer), with(api, Role::Api), with(admin, Role::Admin)];
        Self { keys: all.concat() }
    }

    /// Finds what a key's bearer may do, in a time that does not tell how much of it was right.
    pub fn role(&self, offered: &str) -> Option<Role> {
        let mut role = None;
        for (key, grants) in &self.keys {
            let same: Choice = key.as_bytes().ct_eq(offered.as_bytes());
            if bool::from(same) {
                role = role.max(Some(*grants));
            }
        }
        role
    }
}
