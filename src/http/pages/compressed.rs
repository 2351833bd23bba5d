//! Compresses the files of `static/`, each once, at the first request for that coding.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use brotli::enc::BrotliEncoderParams;
use miniz_oxide::deflate::compress_to_vec;
use parking_lot::Mutex;

use crate::http::net::header_list::weight;

/// The compression level of gzip, up to 10.
const GZIP_LEVEL: u8 = 9;
/// The compression level of brotli, up to 11.
const BROTLI_QUALITY: i32 = 11;
/// The window of brotli, 2^16 bytes: enough for the largest file. More would cost encoder memory.
const BROTLI_WINDOW: i32 = 16;
/// The gzip header (RFC 1952): deflate, no flags, no time, best compression, unknown system.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Coding {
    Plain,
    Gzip,
    Brotli,
}

impl Coding {
    /// The coding with the highest weight in `Accept-Encoding`; brotli wins a tie.
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let accepted = |name| weight(headers, header::ACCEPT_ENCODING.as_str(), name);
        let weight = |coding: &Self| accepted(coding.name()).or(accepted("*")).unwrap_or(0);
        let codings = [Self::Gzip, Self::Brotli].into_iter().filter(|coding| weight(coding) > 0);
        codings.max_by_key(weight).unwrap_or(Self::Plain)
    }

    /// The name in headers.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "identity",
            Self::Gzip => "gzip",
            Self::Brotli => "br",
        }
    }

    fn encode(self, plain: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => plain.to_vec(),
            Self::Gzip => {
                let mut gzip = GZIP_HEAD.to_vec();
                gzip.extend(compress_to_vec(plain, GZIP_LEVEL));
                gzip.extend(crc32fast::hash(plain).to_le_bytes());
                gzip.extend(u32::try_from(plain.len()).unwrap_or_default().to_le_bytes());
                gzip
            }
            Self::Brotli => {
                let mut brotli = Vec::new();
                let params = BrotliEncoderParams {
                    quality: BROTLI_QUALITY,
                    lgwin: BROTLI_WINDOW,
                    size_hint: plain.len(),
                    ..BrotliEncoderParams::default()
                };
                brotli::BrotliCompress(&mut &*plain, &mut brotli, &params)
                    .unwrap_or_else(|error| unreachable!("a vector takes everything: {error}"));
                brotli
            }
        }
    }
}

/// The compressed files, by path and coding.
#[derive(Default)]
pub(crate) struct Compressed(Mutex<BTreeMap<(String, Coding), Made>>);

struct Made {
    /// The digest of the uncompressed file.
    of: [u8; 32],
    bytes: Bytes,
}

impl Compressed {
    /// A file in a coding, compressed if it is not in the cache.
    pub(crate) async fn get(
        &self,
        path: &str,
        digest: [u8; 32],
        plain: Bytes,
        coding: Coding,
    ) -> Bytes {
        if coding == Coding::Plain {
            return plain;
        }
        let key = (path.to_owned(), coding);
        if let Some(made) = self.0.lock().get(&key).filter(|made| made.of == digest) {
            return made.bytes.clone();
        }
        let copy = plain.clone();
        let made = tokio::task::spawn_blocking(move || Bytes::from(coding.encode(&copy))).await;
        // The task fails only when the hub stops.
        let bytes = made.unwrap_or(plain);
        self.0.lock().insert(key, Made { of: digest, bytes: bytes.clone() });
        bytes
    }
}
