//! Deserializes `login.max_instances` so that the error for an invalid count names the range.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::presence::{INSTANCES_MAX, Platform};

/// Deserializes the maximum number of devices for each slot.
pub(super) fn read<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<Platform, u8>, D::Error> {
    let read = BTreeMap::<Platform, Instances>::deserialize(deserializer)?;
    Ok(read.into_iter().map(|(platform, Instances(count))| (platform, count)).collect())
}

/// The maximum number of devices in a slot.
struct Instances(u8);

impl<'de> Deserialize<'de> for Instances {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u8(InstancesVisitor).map(Self)
    }
}

struct InstancesVisitor;

impl Visitor<'_> for InstancesVisitor {
    type Value = u8;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from 1 to {INSTANCES_MAX}")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u8, E> {
        let count = u8::try_from(number).ok().filter(|count| (1..=INSTANCES_MAX).contains(count));
        count.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u8, E> {
        self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
    }
}
