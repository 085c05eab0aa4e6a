//! Named counters, cheap to make: thousands are, four times a second.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

type Name = Cow<'static, str>;

/// Counters by name. In JSON an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(Box<[(Name, u64)]>);

impl Counters {
    /// A counter; 0 if there is none of that name.
    pub fn of(&self, name: &str) -> u64 {
        self.0.iter().find(|(own, _)| own == name).map_or(0, |(_, count)| *count)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, count)| (&**name, *count))
    }
}

impl<N: Into<Name>> FromIterator<(N, u64)> for Counters {
    fn from_iter<I: IntoIterator<Item = (N, u64)>>(counters: I) -> Self {
        Self(counters.into_iter().map(|(name, count)| (name.into(), count)).collect())
    }
}

impl<N: Into<Name>, const LEN: usize> From<[(N, u64); LEN]> for Counters {
    fn from(counters: [(N, u64); LEN]) -> Self {
        counters.into_iter().collect()
    }
}

impl Serialize for Counters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Counters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Counters;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("counters by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Counters, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, count)) = map.next_entry::<String, u64>()? {
                    pairs.push((name, count));
                }
                Ok(pairs.into_iter().collect())
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}
