use std::sync::Arc;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::Door;
use super::problem::Problem;

/// How many of anything a page has, and may have at most.
const LIMIT: usize = 100;
/// See [`LIMIT`].
const LIMIT_MAX: usize = 1000;

/// What a request asks for after the question mark.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Door>> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Result<Self, Problem> {
        let asked = Query::from_request_parts(parts, door).await;
        asked.map(|Query(asked)| Self(asked)).map_err(|e| Problem::bad_request(e.body_text()))
    }
}

/// How much of a list is wanted: 1 to 1,000, 100 where it is not said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit(usize);

impl Limit {
    pub(super) const fn get(self) -> usize {
        self.0
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(LIMIT)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limit = usize::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom(format!("`limit` must be 1 to {LIMIT_MAX}"));
        (1..=LIMIT_MAX).contains(&limit).then_some(Self(limit)).ok_or_else(wrong)
    }
}

/// A field whose text stands for a value; left empty, it is not there.
pub(super) fn unless_empty<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
    D: Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(serde::de::Error::custom)
}
