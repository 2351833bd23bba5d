//! Generates and stores the secret and the keys of development mode.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use data_encoding::HEXLOWER;

/// The file in the store's directory with the secret that signs development tokens.
pub const DEVELOPMENT_SECRET: &str = "dev-secret";
/// The file in the store's directory that keeps how far the development clock was moved.
pub const DEVELOPMENT_CLOCK: &str = "dev-clock";
/// Random bytes in a key.
const KEY_BYTES: usize = 32;

/// The secret and keys of development mode.
pub struct DevelopmentKeys {
    /// Signs tokens.
    pub secret: String,
    /// The key to the server API and the dashboard.
    pub admin_key: String,
    /// The key to the development calls.
    pub dev_key: String,
}

impl DevelopmentKeys {
    /// Reads the keys from a directory, and generates missing ones.
    ///
    /// # Errors
    ///
    /// The path and the error, if the directory or a file in it cannot be written.
    pub fn in_directory(directory: &Path) -> Result<Self, (String, io::Error)> {
        fs::create_dir_all(directory).map_err(|error| (directory.display().to_string(), error))?;
        let key = |name: &str| {
            let path = directory.join(name);
            let known = known_key(&path).map(Ok);
            let key = known.unwrap_or_else(|| make_key(&path));
            key.map_err(|error| (path.display().to_string(), error))
        };
        Ok(Self {
            secret: key(DEVELOPMENT_SECRET)?,
            admin_key: key("admin-key")?,
            dev_key: key("dev-key")?,
        })
    }
}

/// The secret that signs development tokens, if a hub has generated one in this directory.
pub fn development_secret(directory: &Path) -> Option<String> {
    known_key(&directory.join(DEVELOPMENT_SECRET))
}

/// The key in a file. A file with less is taken as missing: a crash may have left it half written.
fn known_key(path: &Path) -> Option<String> {
    let known = fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    (known.len() >= KEY_BYTES).then_some(known)
}

fn make_key(path: &Path) -> io::Result<String> {
    let key = HEXLOWER.encode(&rand::random::<[u8; KEY_BYTES]>());
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // `mode` has no effect on a file that exists.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    writeln!(file, "{key}")?;
    Ok(key)
}
