//! The one JSON form of a value: compact, strings escaped as `JSON.stringify` does, integers alone, no key twice.
//!
//! Keys keep the order they were written in. Floats are refused because languages print them differently; integers
//! beyond 2^53 - 1 because JavaScript cannot hold them.

use crate::envelope::NUMBER_MAX;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use std::collections::HashSet;
use std::fmt;

/// Whether `text` is a JSON object in canonical form, nested at most `depth_max` deep.
pub(crate) fn is_canonical_object(text: &str, depth_max: usize) -> bool {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let Ok(value) = (Node { depth_left: depth_max }).deserialize(&mut deserializer) else { return false };
    matches!(value, Json::Object(_))
        && deserializer.end().is_ok()
        && serde_json::to_string(&value).is_ok_and(|again| again == text)
}

enum Json {
    Null,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Negative(value) => serializer.serialize_i64(*value),
            Self::String(value) => serializer.serialize_str(value),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Object(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

/// Reads one value, with a budget for nesting.
#[derive(Clone, Copy)]
struct Node {
    depth_left: usize,
}

impl Node {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth_left = self.depth_left.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))?;
        Ok(Self { depth_left })
    }
}

impl<'de> DeserializeSeed<'de> for Node {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value without floats")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Json, E> {
        if value <= NUMBER_MAX { Ok(Json::Unsigned(value)) } else { Err(E::custom("number too large")) }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Json, E> {
        if value.unsigned_abs() <= NUMBER_MAX { Ok(Json::Negative(value)) } else { Err(E::custom("number too small")) }
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let inner = self.inner()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let inner = self.inner()?;
        let mut seen = HashSet::new();
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom("a key appears twice"));
            }
            entries.push((key, access.next_value_seed(inner)?));
        }
        Ok(Json::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_form_passes() {
        let good = [
            "{}",
            r#"{"b":1,"a":[null,true,false,-1,9007199254740991],"c":{"d":"é\n\u0001\\\""}}"#,
            "{\"a\":\"\u{7f}/\"}",
        ];
        for text in good {
            assert!(is_canonical_object(text, 8), "{text}");
        }
        let bad = [
            "",
            "[]",
            "1",
            "null",
            "\"a\"",
            "{} ",
            " {}",
            "{ }",
            r#"{"a": 1}"#,
            r#"{"a":1,}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":1.0}"#,
            r#"{"a":1e3}"#,
            r#"{"a":-0}"#,
            r#"{"a":01}"#,
            r#"{"a":9007199254740992}"#,
            r#"{"a":-9007199254740992}"#,
            r#"{"a":18446744073709551616}"#,
            r#"{"a":"\u0041"}"#,
            r#"{"a":"\/"}"#,
            r#"{"a":"\u000A"}"#,
            r#"{"a":"\u001F"}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":NaN}"#,
            "{\"a\":\"\n\"}",
        ];
        for text in bad {
            assert!(!is_canonical_object(text, 8), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(is_canonical_object(&nested(8), 8));
        assert!(!is_canonical_object(&nested(9), 8));
        assert!(!is_canonical_object(&nested(10_000), 8));
    }
}
