//! Public keys in PEM, and the algorithms that they verify.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use serde::{Deserialize, Serialize};

/// A text that every PEM file with a private key contains.
const PRIVATE: &[u8] = b"PRIVATE KEY-----";
/// The sizes of RSA keys that the library accepts when it verifies a token.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// The size of a coordinate on P-256, and of an Ed25519 key.
const CURVE_BYTES: usize = 32;

/// The algorithm that tokens are signed with (`auth.algorithm`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    #[default]
    HS256,
    /// RSA PKCS #1 with SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

impl Algorithm {
    pub(super) const fn of_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::HS256 => jsonwebtoken::Algorithm::HS256,
            Self::RS256 => jsonwebtoken::Algorithm::RS256,
            Self::ES256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// Why a configured key is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// The PEM is not a public key for the algorithm.
    #[error("not a public key for {0:?}: {1}")]
    Key(Algorithm, String),
    /// The URL of the JWK set is invalid.
    #[error("{0}")]
    Url(String),
}

/// Reads a public key from a PEM file.
///
/// # Errors
///
/// If it is not a public key for this algorithm.
pub(super) fn from_pem(algorithm: Algorithm, pem: &[u8]) -> Result<DecodingKey, KeyFault> {
    let wrong = |message: String| KeyFault::Key(algorithm, message);
    if pem.windows(PRIVATE.len()).any(|window| window == PRIVATE) {
        let message = "the file has a private key, which only the signer should have: write the \
                       public key with `openssl pkey -in private.pem -pubout -out public.pem`";
        return Err(wrong(message.into()));
    }
    let key = match algorithm {
        Algorithm::HS256 => {
            return Err(wrong("this algorithm uses a secret: set auth.secrets".into()));
        }
        Algorithm::RS256 => DecodingKey::from_rsa_pem(pem),
        Algorithm::ES256 => DecodingKey::from_ec_pem(pem),
        Algorithm::EdDSA => DecodingKey::from_ed_pem(pem),
    };
    let expected =
        || format!("expected {} in PEM (-----BEGIN PUBLIC KEY-----)", key_name(algorithm));
    let key = key.map_err(|_| wrong(expected()))?;
    let jwk = Jwk::from_decoding_key(&key, None).map_err(|_| wrong(expected()))?;
    if verifies(&jwk, algorithm) { Ok(key) } else { Err(wrong(expected())) }
}

/// The kind of key that verifies an algorithm, for error messages.
const fn key_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HS256 => "a secret",
        Algorithm::RS256 => "an RSA public key of 2048 to 8192 bits",
        Algorithm::ES256 => "an EC public key on the curve P-256",
        Algorithm::EdDSA => "an Ed25519 public key",
    }
}

/// Whether a key can verify this algorithm.
pub(super) fn verifies(jwk: &Jwk, algorithm: Algorithm) -> bool {
    let bytes = |text: &String| URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    match (&jwk.algorithm, algorithm) {
        (AlgorithmParameters::RSA(key), Algorithm::RS256) => {
            RSA_BITS.contains(&bits(&bytes(&key.n)))
        }
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES256) => {
            key.curve == EllipticCurve::P256
                && [&key.x, &key.y].into_iter().all(|part| bytes(part).len() == CURVE_BYTES)
        }
        (AlgorithmParameters::OctetKeyPair(key), Algorithm::EdDSA) => {
            key.curve == EllipticCurve::Ed25519 && bytes(&key.x).len() == CURVE_BYTES
        }
        _ => false,
    }
}

/// The number of significant bits in a big-endian number.
fn bits(bytes: &[u8]) -> usize {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let first = bytes.get(zeros).map_or(0, |first| first.leading_zeros() as usize);
    (bytes.len() - zeros) * 8 - first
}
