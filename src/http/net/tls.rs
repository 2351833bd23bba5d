//! The certificate of the TLS addresses. It can be replaced while connections are open.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use simple_asn1::ASN1Block;
use tokio_rustls::TlsAcceptor;

use crate::presence::Timestamp;

/// How often the files are checked for changes.
const POLL_EVERY: Duration = Duration::from_secs(2);
/// The protocol that clients are offered (ALPN).
const PROTOCOL: &[u8] = b"http/1.1";

/// A PEM file could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}: {1}")]
pub struct TlsFault(String, String);

/// The certificate with its key, and the files that they are read from.
#[derive(Debug)]
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<Loaded>,
    files: Mutex<Files>,
}

#[derive(Debug)]
struct Loaded {
    key: Arc<CertifiedKey>,
    /// The end of its validity, if it can be read.
    expires: Option<Expiry>,
}

#[derive(Debug)]
struct Expiry {
    at: Timestamp,
    /// For the log.
    date: String,
}

/// What is known about the two files.
#[derive(Debug, Clone, Copy)]
struct Files {
    /// As they were when they were loaded.
    loaded: Stamps,
    /// As they were when a warning was logged.
    warned: Option<Stamps>,
}

/// The stamps of certificate and key; `None` for a file that is not there.
type Stamps = [Option<Stamp>; 2];

/// What differs after a file was written, or replaced by another: device, inode, size, and the times
/// of its last change in seconds and nanoseconds. Links are followed.
type Stamp = (u64, u64, u64, [i64; 4]);

impl Certificate {
    /// Loads the certificate and the key.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or the key does not match the certificate.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsFault> {
        // Taken before the files are read, so that a change made meanwhile is noticed later.
        let files = Files { loaded: stamps(certificate, key), warned: None };
        let current = ArcSwap::from_pointee(load(certificate, key)?);
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        Ok(Self { certificate, key, current, files: Mutex::new(files) })
    }

    /// What accepts TLS connections, each with the certificate of that moment.
    ///
    /// # Errors
    ///
    /// If the cryptography library supports no version of TLS.
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
        let resolver: Arc<Self> = Arc::clone(self);
        let mut config = builder.with_cert_resolver(resolver);
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// When the certificate in use ends to be valid, if that can be read.
    pub fn expires(&self) -> Option<Timestamp> {
        self.current.load().expires.as_ref().map(|end| end.at)
    }

    /// Logs which certificate is in use.
    pub fn log(&self) {
        let certificate = self.certificate.display();
        let current = self.current.load();
        let expires = current.expires.as_ref().map(|end| end.date.as_str());
        tracing::info!(%certificate, expires, "TLS certificate loaded");
    }

    /// Reads the files again. If they cannot be used, the certificate in use stays.
    pub fn reload(&self) {
        let now = self.stamps();
        match load(&self.certificate, &self.key) {
            Ok(loaded) => {
                self.current.store(Arc::new(loaded));
                *self.files.lock() = Files { loaded: now, warned: None };
                self.log();
            }
            Err(fault) => {
                // It is tried again, because the cause may be a lack of file descriptors.
                let warned = self.files.lock().warned.replace(now);
                if warned != Some(now) {
                    tracing::warn!(%fault, "TLS certificate cannot be loaded, the one in use stays");
                }
            }
        }
    }

    /// Reads the files again whenever they have changed; runs for ever.
    pub async fn watch(self: Arc<Self>) {
        let mut seen = self.files.lock().loaded;
        loop {
            tokio::time::sleep(POLL_EVERY).await;
            let this = Arc::clone(&self);
            let poll = tokio::task::spawn_blocking(move || this.poll(seen));
            seen = poll.await.unwrap_or(seen);
        }
    }

    /// Reloads the files if they differ from the loaded ones, and have not changed since they were
    /// last `seen`: the program that writes both has then finished. Returns what it saw.
    fn poll(&self, seen: Stamps) -> Stamps {
        let now = self.stamps();
        if now == seen && now != self.files.lock().loaded {
            self.reload();
        }
        now
    }

    fn stamps(&self) -> Stamps {
        stamps(&self.certificate, &self.key)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().key))
    }
}

fn stamps(certificate: &Path, key: &Path) -> Stamps {
    let stamp = |path| {
        let found = fs::metadata(path).ok()?;
        let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
        Some((found.dev(), found.ino(), found.size(), times))
    };
    [stamp(certificate), stamp(key)]
}

fn load(certificate: &Path, key: &Path) -> Result<Loaded, TlsFault> {
    let fault = |path: &Path, error: String| TlsFault(path.display().to_string(), error);
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| fault(certificate, error.to_string()))?;
    let expires = chain.first().and_then(|first| expiry(first));
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| fault(key, error.to_string()))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = CertifiedKey::from_der(chain, private, &provider)
        .map_err(|error| fault(certificate, error.to_string()))?;
    Ok(Loaded { key: Arc::new(key), expires })
}

/// The end of a certificate's validity (RFC 5280, section 4.1).
fn expiry(certificate: &[u8]) -> Option<Expiry> {
    let certificate = simple_asn1::from_der(certificate).ok()?;
    let fields = parts(parts(certificate.first()?)?.first()?)?;
    // `validity` is the only field of two times.
    let end = fields.iter().filter_map(parts).find_map(|parts| match parts {
        [_, ASN1Block::UTCTime(_, end) | ASN1Block::GeneralizedTime(_, end)] => Some(*end),
        _ => None,
    })?;
    let secs = u64::try_from(end.assume_utc().unix_timestamp()).ok()?;
    let at = Timestamp::from_millis(secs.saturating_mul(1000));
    Some(Expiry { at, date: end.date().to_string() })
}

/// The parts of a sequence.
fn parts(block: &ASN1Block) -> Option<&[ASN1Block]> {
    if let ASN1Block::Sequence(_, parts) = block { Some(parts) } else { None }
}
