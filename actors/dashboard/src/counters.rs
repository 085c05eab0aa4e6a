//! Named counters, cheap to keep: thousands are, four times a second.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

/// Counters by name. In JSON an object.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    names: Names,
    values: Box<[u64]>,
}

/// Connections all count the same, so that one list of names does for them.
#[derive(Clone, Debug)]
enum Names {
    Shared(&'static [&'static str]),
    Own(Box<[String]>),
}

impl Default for Names {
    fn default() -> Self {
        Self::Shared(&[])
    }
}

impl Counters {
    /// Counters of these names, in their order.
    pub fn of_names<const LEN: usize>(names: &'static [&'static str; LEN], values: [u64; LEN]) -> Self {
        Self { names: Names::Shared(names), values: values.into() }
    }

    /// A counter; 0 if there is none of that name.
    pub fn of(&self, name: &str) -> u64 {
        self.iter().find(|(own, _)| *own == name).map_or(0, |(_, count)| count)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        let name = |at: usize| match &self.names {
            Names::Shared(names) => names[at],
            Names::Own(names) => &names[at],
        };
        self.values.iter().enumerate().map(move |(at, count)| (name(at), *count))
    }
}

impl<N: Into<String>, const LEN: usize> From<[(N, u64); LEN]> for Counters {
    fn from(counters: [(N, u64); LEN]) -> Self {
        let (names, values): (Vec<String>, Vec<u64>) =
            counters.into_iter().map(|(name, count)| (name.into(), count)).unzip();
        Self { names: Names::Own(names.into()), values: values.into() }
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
                let (mut names, mut values) = (Vec::new(), Vec::new());
                while let Some((name, count)) = map.next_entry::<String, u64>()? {
                    names.push(name);
                    values.push(count);
                }
                Ok(Counters { names: Names::Own(names.into()), values: values.into() })
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}
