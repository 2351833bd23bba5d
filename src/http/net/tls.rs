//! Loads the certificate and the key for TLS.

use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// A PEM file could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}: {1}")]
pub struct TlsFault(String, String);

/// Loads the certificate and the key.
///
/// # Errors
///
/// If a file cannot be read, or the key does not match the certificate.
pub fn tls(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsFault> {
    let fault = |path: &Path, error: String| TlsFault(path.display().to_string(), error);
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| fault(certificate, error.to_string()))?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| fault(key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| fault(certificate, error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
