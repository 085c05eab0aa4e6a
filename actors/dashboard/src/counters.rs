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
    /// Seven bits a byte, the lowest ones first, the highest bit set where more follow: most counters are small.
    values: Box<[u8]>,
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
        Self { names: Names::Shared(names), values: pack(&values) }
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
        self.values().enumerate().map(move |(at, count)| (name(at), count))
    }

    /// The counts, in the order of their names.
    pub fn values(&self) -> impl Iterator<Item = u64> {
        let mut bytes = self.values.iter();
        std::iter::from_fn(move || {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = *bytes.next()?;
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    return Some(value);
                }
                shift += 7;
            }
        })
    }
}

fn pack(values: &[u64]) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(2 * values.len());
    for value in values {
        let mut left = *value;
        while left >= 0x80 {
            bytes.push(left as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
    }
    bytes.into()
}

impl<N: Into<String>, const LEN: usize> From<[(N, u64); LEN]> for Counters {
    fn from(counters: [(N, u64); LEN]) -> Self {
        let (names, values): (Vec<String>, Vec<u64>) =
            counters.into_iter().map(|(name, count)| (name.into(), count)).unzip();
        Self { names: Names::Own(names.into()), values: pack(&values) }
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
                Ok(Counters { names: Names::Own(names.into()), values: pack(&values) })
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_every_size_come_back() {
        let counts = [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX];
        let counters = Counters::of_names(&["a", "b", "c", "d", "e", "f", "g", "h", "i"], counts);
        assert_eq!(counters.values().collect::<Vec<_>>(), counts);
        assert_eq!((counters.of("d"), counters.of("i"), counters.of("j")), (128, u64::MAX, 0));
        let text = serde_json::to_string(&counters).expect("plain data");
        let read: Counters = serde_json::from_str(&text).expect("its own form");
        assert_eq!(read.iter().collect::<Vec<_>>(), counters.iter().collect::<Vec<_>>());
    }
}
