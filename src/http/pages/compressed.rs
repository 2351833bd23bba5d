//! The files of `static/` as they are sent: each is compressed once, when it is first asked for so.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use brotli::enc::BrotliEncoderParams;
use miniz_oxide::deflate::compress_to_vec;
use parking_lot::Mutex;

use crate::http::net::header_list::weight;

/// How hard gzip tries, of 10.
const GZIP_LEVEL: u8 = 9;
/// How hard brotli tries, of 11, and over how many bytes, as a power of two: as many as the largest
/// file has, for the encoder's memory grows with it.
const BROTLI_QUALITY: i32 = 11;
/// See [`BROTLI_QUALITY`].
const BROTLI_WINDOW: i32 = 16;
/// What a gzip file begins with (RFC 1952): deflate, no flags, no time, tried hard, made wherever.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];

/// How a file is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Coding {
    Plain,
    Gzip,
    Brotli,
}

impl Coding {
    /// The one that a request likes best; of two that it likes the same, the smaller.
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let accepted = |name| weight(headers, header::ACCEPT_ENCODING.as_str(), name);
        let weight = |coding: &Self| accepted(coding.name()).or(accepted("*")).unwrap_or(0);
        let codings = [Self::Gzip, Self::Brotli].into_iter().filter(|coding| weight(coding) > 0);
        codings.max_by_key(weight).unwrap_or(Self::Plain)
    }

    /// Its name in headers.
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
    /// The digest of what it was made of.
    of: [u8; 32],
    bytes: Bytes,
}

impl Compressed {
    /// A file in a coding, compressed where it was not yet.
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
        // It is not made where the hub stops.
        let bytes = made.unwrap_or(plain);
        self.0.lock().insert(key, Made { of: digest, bytes: bytes.clone() });
        bytes
    }
}
