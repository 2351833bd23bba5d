//! Fields of a record that this version does not know, kept for hubs that do.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// The fields that a later version of the hub has written. They are written back unchanged, because hubs of two
/// versions run side by side during an upgrade.
///
/// Nearly always empty, and then it has the size of a pointer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnknownFields(Option<Box<Map<String, Value>>>);

impl UnknownFields {
    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Serialize for UnknownFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = self.0.as_deref();
        let mut map = serializer.serialize_map(fields.map(Map::len))?;
        for (name, value) in fields.into_iter().flatten() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for UnknownFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = UnknownFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Map::new();
                while let Some((name, value)) = map.next_entry()? {
                    fields.insert(name, value);
                }
                Ok(UnknownFields((!fields.is_empty()).then(|| Box::new(fields))))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json, to_value};

    use crate::presence::Record;

    #[test]
    fn unknown_fields_of_record_and_terminal_are_written_back() {
        let stored: Value = json!({
            "version": 7,
            "custom": "here",
            "hidden": true,
            "terminals": [{
                "session": "00000000000000000000000000000001",
                "platform": "web",
                "device": "d",
                "connection": {"node": 1, "serial": 1},
                "link": "Connected",
                "since": 1,
                "heard": 2,
                "token_until": 3,
                "mood": {"words": ["good", 1.5, null]},
            }],
        });
        let record: Record = from_value(stored.clone()).expect("a record");
        assert!(!record.unknown.is_empty());
        assert_eq!(to_value(&record).expect("JSON"), stored);
    }

    #[test]
    fn known_record_has_no_unknown_fields() {
        let record: Record = from_value(json!({ "version": 7 })).expect("a record");
        assert!(record.unknown.is_empty());
        assert_eq!(to_value(&record).expect("JSON"), json!({ "version": 7 }));
    }
}
