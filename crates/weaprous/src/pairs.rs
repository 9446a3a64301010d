//! Text pairs (a query, a form, path parameters) read into a type of the application by serde.
//!
//! Shapes: a struct or map of scalars; `Vec<T>` collects a name that comes more than once, any other type refuses
//! it; an empty value is `None` for an `Option`. Nested structures have no text form and are refused.

use crate::percent::{self, PercentError};
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use smallvec::{SmallVec, smallvec};
use std::fmt;

/// Most pairs read from one query or form.
pub const PAIRS_MAX: usize = 1024;

/// Why text pairs do not fit the wanted type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PairsError(String);

impl fmt::Display for PairsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PairsError {}

impl de::Error for PairsError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Why a query or form is not even a list of pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SyntaxError {
    #[error(transparent)]
    Percent(#[from] PercentError),
    #[error("more than {PAIRS_MAX} fields")]
    TooMany,
}

/// Splits `a=1&b=2` and decodes both sides.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, String)>, SyntaxError> {
    let mut pairs = Vec::new();
    for part in text.split('&').filter(|part| !part.is_empty()) {
        if pairs.len() == PAIRS_MAX {
            return Err(SyntaxError::TooMany);
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        pairs.push((percent::decode_form(name)?, percent::decode_form(value)?));
    }
    Ok(pairs)
}

/// Reads pairs into `T` by name.
pub(crate) fn from_pairs<T: DeserializeOwned>(pairs: &[(String, String)]) -> Result<T, PairsError> {
    T::deserialize(Pairs(pairs))
}

/// Reads path parameters into `T`: one into a scalar, several in order into a tuple, or by name into a struct.
pub(crate) fn from_params<T: DeserializeOwned>(names: &[String], values: &[&str]) -> Result<T, PairsError> {
    T::deserialize(Params { names, values })
}

/// A whole list of pairs; only maps and structs can be read from it.
struct Pairs<'a>(&'a [(String, String)]);

impl<'a> Pairs<'a> {
    /// Each name once, with all its values, in the order of first appearance.
    fn grouped(&self) -> Vec<(&'a str, Values<'a>)> {
        let mut groups: Vec<(&str, Values<'_>)> = Vec::new();
        for (name, value) in self.0 {
            match groups.iter_mut().find(|(known, _)| *known == name.as_str()) {
                Some((_, values)) => values.all.push(value),
                None => groups.push((name, Values::one(name, value))),
            }
        }
        groups
    }
}

impl<'de> Deserializer<'de> for Pairs<'_> {
    type Error = PairsError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PairsError> {
        visitor.visit_map(MapDeserializer::new(self.grouped().into_iter()))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, PairsError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PairsError> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PairsError> {
        if self.0.is_empty() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// All values of one name.
#[derive(Clone)]
struct Values<'a> {
    name: &'a str,
    all: SmallVec<[&'a str; 1]>,
}

impl<'a> Values<'a> {
    fn one(name: &'a str, value: &'a str) -> Self {
        Self { name, all: smallvec![value] }
    }

    fn single(&self) -> Result<&'a str, PairsError> {
        match self.all[..] {
            [value] => Ok(value),
            _ => Err(PairsError(format!("`{}` is given more than once", self.name))),
        }
    }

    fn parse<T: std::str::FromStr<Err: fmt::Display>>(&self) -> Result<T, PairsError> {
        self.single()?.parse().map_err(|error| self.named(&error))
    }

    fn named(&self, error: &dyn fmt::Display) -> PairsError {
        PairsError(format!("`{}`: {error}", self.name))
    }
}

impl IntoDeserializer<'_, PairsError> for Values<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Scalars that are parsed from text.
macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PairsError> {
            visitor.$visit(self.parse::<$type>()?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Values<'_> {
    type Error = PairsError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PairsError> {
        visitor.visit_str(self.single()?).map_err(|error: PairsError| self.named(&error))
    }

    parsed! {
        deserialize_bool visit_bool bool
        deserialize_i8 visit_i8 i8
        deserialize_i16 visit_i16 i16
        deserialize_i32 visit_i32 i32
        deserialize_i64 visit_i64 i64
        deserialize_i128 visit_i128 i128
        deserialize_u8 visit_u8 u8
        deserialize_u16 visit_u16 u16
        deserialize_u32 visit_u32 u32
        deserialize_u64 visit_u64 u64
        deserialize_u128 visit_u128 u128
        deserialize_f32 visit_f32 f32
        deserialize_f64 visit_f64 f64
        deserialize_char visit_char char
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PairsError> {
        if self.all.iter().all(|value| value.is_empty()) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, PairsError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PairsError> {
        let name = self.name;
        let each = self.all.into_iter().map(move |value| Values::one(name, value));
        visitor.visit_seq(SeqDeserializer::new(each))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PairsError> {
        let value: de::value::StrDeserializer<'_, PairsError> = self.single()?.into_deserializer();
        visitor.visit_enum(value).map_err(|error| self.named(&error))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PairsError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier
    }
}

/// Path parameters in the order of the pattern.
struct Params<'a> {
    names: &'a [String],
    values: &'a [&'a str],
}

impl<'a> Params<'a> {
    fn single(&self) -> Result<Values<'a>, PairsError> {
        match (self.names, self.values) {
            ([name], [value]) => Ok(Values::one(name, value)),
            _ => Err(PairsError(format!("the route has {} path parameters, not one", self.values.len()))),
        }
    }

    fn each(&self) -> impl Iterator<Item = (&'a str, Values<'a>)> + use<'a> {
        let values = self.values.iter();
        self.names.iter().zip(values).map(|(name, value)| (name.as_str(), Values::one(name, value)))
    }
}

macro_rules! single {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PairsError> {
            self.single()?.$method(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Params<'_> {
    type Error = PairsError;

    single! {
        deserialize_any deserialize_bool deserialize_char deserialize_str deserialize_string deserialize_bytes
        deserialize_byte_buf deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32
        deserialize_f64 deserialize_option deserialize_identifier
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PairsError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, PairsError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, PairsError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PairsError> {
        visitor.visit_seq(SeqDeserializer::new(self.each().map(|(_, value)| value)))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, PairsError> {
        if len != self.values.len() {
            let message = format!("the route has {} path parameters, the handler wants {len}", self.values.len());
            return Err(PairsError(message));
        }
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, PairsError> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PairsError> {
        visitor.visit_map(MapDeserializer::new(self.each()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PairsError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PairsError> {
        self.single()?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PairsError> {
        visitor.visit_unit()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Order {
        Up,
        Down,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Name(String);

    #[derive(Debug, Deserialize, PartialEq)]
    struct Wanted {
        name: Name,
        limit: Option<u32>,
        #[serde(default)]
        tag: Vec<String>,
        order: Option<Order>,
    }

    fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
        let pairs = parse(text).map_err(|error| error.to_string())?;
        from_pairs(&pairs).map_err(|error| error.to_string())
    }

    fn refuse(text: &str, part: &str) {
        let error = read::<Wanted>(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }

    #[test]
    fn structs_are_read_by_name() {
        let wanted: Wanted = read("name=a+b%26&limit=7&tag=x&other=1&tag=y&order=down").unwrap();
        assert_eq!(wanted.name, Name("a b&".to_owned()));
        assert_eq!((wanted.limit, wanted.order), (Some(7), Some(Order::Down)));
        assert_eq!(wanted.tag, ["x", "y"]);
    }

    #[test]
    fn an_empty_optional_value_is_none() {
        let wanted: Wanted = read("name=&limit=&order=").unwrap();
        assert_eq!(wanted, Wanted { name: Name(String::new()), limit: None, tag: vec![], order: None });
    }

    #[test]
    fn maps_and_nothing_at_all_are_read() {
        let map: BTreeMap<String, String> = read("a=1&b").unwrap();
        assert_eq!(map.get("b").map(String::as_str), Some(""));
        read::<()>("a=1").unwrap();
        assert_eq!(read::<Option<Wanted>>("").unwrap(), None);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        refuse("limit=1", "missing field `name`");
        refuse("name=a&limit=x", "`limit`: invalid digit");
        refuse("name=a&limit=-1", "`limit`");
        refuse("name=a&limit=1&limit=2", "`limit` is given more than once");
        refuse("name=a&order=left", "`order`: unknown variant `left`");
        refuse("name=%zz", "hexadecimal");
        refuse("name=%ff", "UTF-8");
    }

    #[test]
    fn fields_are_counted() {
        assert_eq!(parse(&"a&".repeat(PAIRS_MAX)).unwrap().len(), PAIRS_MAX);
        assert_eq!(parse(&"a&".repeat(PAIRS_MAX + 1)), Err(SyntaxError::TooMany));
    }

    #[test]
    fn path_parameters_are_read_by_place_or_name() {
        #[derive(Deserialize)]
        struct Both {
            b: String,
            a: u8,
        }
        let names = ["a".to_owned(), "b".to_owned()];
        let values = ["7", "x"];
        assert_eq!(from_params::<(u8, String)>(&names, &values), Ok((7, "x".to_owned())));
        let both: Both = from_params(&names, &values).unwrap();
        assert_eq!((both.a, both.b.as_str()), (7, "x"));
        assert_eq!(from_params::<u8>(&names[..1], &values[..1]), Ok(7));
        assert_eq!(from_params::<Name>(&names[1..], &values[1..]), Ok(Name("x".to_owned())));
        let error = from_params::<u8>(&names, &values).unwrap_err().to_string();
        assert!(error.contains("2 path parameters"), "{error}");
        let error = from_params::<u8>(&names[..1], &values[1..]).unwrap_err().to_string();
        assert_eq!(error, "`a`: invalid digit found in string");
        assert!(from_params::<(u8, u8, u8)>(&names, &values).is_err());
    }
}
