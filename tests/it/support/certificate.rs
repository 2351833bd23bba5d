//! Generates certificates for TLS tests.

use std::path::Path;
use std::process::Command;

/// Generates a certificate for localhost and its key, as PEM files in a directory.
pub(crate) fn make_certificate(directory: &Path) -> (String, String) {
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| directory.join(name));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-out"])
        .args([certificate.as_os_str(), "-keyout".as_ref(), key.as_os_str()])
        .output();
    let output = output.expect("openssl to run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (certificate.display().to_string(), key.display().to_string())
}
