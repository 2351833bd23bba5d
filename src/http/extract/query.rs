//! Extracts a request's query parameters, in the same way for all calls.
//!
//! A parameter without a value is absent. An unknown parameter is an error: it is most likely mistyped.

use std::borrow::Cow;
use std::fmt;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::value::{Error as Fault, MapDeserializer};
use serde::de::{DeserializeOwned, Error, IntoDeserializer, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};
use serde_json::{Map, Value};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::http::problem::Problem;
use crate::presence::UserId;
use crate::wire::explain;

/// The default page size.
const LIMIT: usize = 100;
/// The largest page size.
const LIMIT_MAX: u64 = 1000;

/// The query parameters of a request.
pub(crate) struct QueryParams<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for QueryParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        read(parts.uri.query().unwrap_or_default()).map(Self).map_err(Problem::bad_request)
    }
}

fn read<T: DeserializeOwned>(query: &str) -> Result<T, String> {
    let pairs = form_urlencoded::parse(query.as_bytes()).filter(|(_, value)| !value.is_empty());
    let pairs = pairs.map(|(name, value)| (name.into_owned(), Text(value)));
    let read = serde_path_to_error::deserialize(MapDeserializer::new(pairs));
    read.map_err(|error| {
        let given = form_urlencoded::parse(query.as_bytes());
        let given = given.map(|(name, value)| (name.into_owned(), Value::from(value)));
        let given = Value::Object(Map::from_iter(given));
        explain(error.path(), &error.inner().to_string(), Some(&given), "the query")
    })
}

/// The value of a parameter, deserialized as a text, or as the number in it.
struct Text<'a>(Cow<'a, str>);

impl<'de> IntoDeserializer<'de, Fault> for Text<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Text<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_str(&self.0)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        // Digits only: `parse` would also accept a sign.
        let is_number = self.0.bytes().all(|byte| byte.is_ascii_digit());
        match self.0.parse().ok().filter(|_| is_number) {
            Some(number) => visitor.visit_u64(number),
            None => Err(Fault::invalid_type(Unexpected::Str(&self.0), &visitor)),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.0.into_deserializer().deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// Deserializes a user id.
pub(crate) fn user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UserId>, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    text.parse().map(Some).map_err(D::Error::custom)
}

/// The page size: 1 to 1,000, 100 by default.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit(usize);

impl Limit {
    pub(crate) const fn get(self) -> usize {
        self.0
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(LIMIT)
    }
}

impl PartialSchema for Limit {
    fn schema() -> RefOr<Schema> {
        UpTo(LIMIT_MAX).schema()
    }
}

impl ToSchema for Limit {}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limit = deserializer.deserialize_u64(UpTo(LIMIT_MAX))?;
        Ok(Self(usize::try_from(limit).unwrap_or(LIMIT)))
    }
}

/// A visitor for a whole number from 1 to this maximum.
pub(crate) struct UpTo(pub(crate) u64);

impl UpTo {
    /// The number's schema in the OpenAPI document.
    pub(crate) fn schema(&self) -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Integer);
        number.minimum(Some(1_u64)).maximum(Some(self.0)).into()
    }
}

impl Visitor<'_> for UpTo {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from 1 to {}", self.0)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        match number {
            1.. if number <= self.0 => Ok(number),
            _ => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
        }
    }
}
