//! Rows of a reading: thousands of them, of which most are as they were at the reading before.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is listed by id.
pub trait Listed {
    /// Bytes one takes, about, in the list and on the heap.
    const MEMORY: usize;

    /// Unique in its list.
    fn id(&self) -> u64;

    /// Bytes this one takes beyond that.
    fn beyond(&self) -> usize {
        0
    }
}

/// Rows by id. A row that has not changed is shared with the reading before: it takes memory, and is made, once.
#[derive(Clone, Debug)]
pub struct Rows<T> {
    rows: Vec<(u64, Arc<T>)>,
    beyond: usize,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), beyond: 0 }
    }
}

impl<T: Listed> Rows<T> {
    /// With room for so many.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { rows: Vec::with_capacity(capacity), beyond: 0 }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator + Clone {
        self.rows.iter().map(|(_, row)| &**row)
    }

    /// The same, to be shared.
    pub fn shared(&self) -> impl Iterator<Item = &Arc<T>> {
        self.rows.iter().map(|(_, row)| row)
    }

    /// The one of this id.
    pub fn find(&self, id: u64) -> Option<&Arc<T>> {
        let at = self.rows.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.rows.get(at).map(|(_, row)| row)
    }

    /// Adds one whose id is larger than all others.
    pub fn push(&mut self, row: Arc<T>) {
        debug_assert!(self.rows.last().is_none_or(|(last, _)| *last < row.id()), "rows come by id");
        self.beyond += row.beyond();
        self.rows.push((row.id(), row));
    }

    /// Each row, and the one of its id in another list.
    pub fn beside<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = (&'a Arc<T>, Option<&'a Arc<T>>)> {
        let mut others = earlier.rows.iter().peekable();
        self.rows.iter().map(move |(id, row)| {
            while others.next_if(|(other, _)| other < id).is_some() {}
            (row, others.next_if(|(other, _)| other == id).map(|(_, other)| other))
        })
    }

    /// Replaces those rows that are not shared with `earlier` for which there is something better.
    pub(crate) fn revise(&mut self, earlier: &Self, mut better: impl FnMut(&T) -> Option<T>) {
        let mut others = earlier.rows.iter().peekable();
        for (id, row) in &mut self.rows {
            while others.next_if(|(other, _)| other < id).is_some() {}
            let is_shared = others.peek().is_some_and(|(_, other)| Arc::ptr_eq(other, row));
            if let Some(better) = (!is_shared).then(|| better(row)).flatten() {
                *row = Arc::new(better);
            }
        }
    }

    /// Bytes they take.
    pub fn memory(&self) -> usize {
        self.rows.len() * T::MEMORY + self.beyond
    }

    /// Bytes they take beside an earlier list, with which most are shared.
    pub fn memory_beside(&self, earlier: &Self) -> usize {
        let shared = |(row, other): &(&Arc<T>, Option<&Arc<T>>)| other.is_some_and(|it| Arc::ptr_eq(it, row));
        let own = self.len() - self.beside(earlier).filter(shared).count();
        own * T::MEMORY + self.len() * size_of::<(u64, Arc<T>)>() + self.beyond
    }
}

impl<T: Listed> FromIterator<Arc<T>> for Rows<T> {
    fn from_iter<I: IntoIterator<Item = Arc<T>>>(rows: I) -> Self {
        let mut rows: Vec<_> = rows.into_iter().map(|row| (row.id(), row)).collect();
        rows.sort_by_key(|(id, _)| *id);
        let beyond = rows.iter().map(|(_, row)| row.beyond()).sum();
        Self { rows, beyond }
    }
}

impl<T: Listed> FromIterator<T> for Rows<T> {
    fn from_iter<I: IntoIterator<Item = T>>(rows: I) -> Self {
        rows.into_iter().map(Arc::new).collect()
    }
}

impl<T: Listed> From<Vec<T>> for Rows<T> {
    fn from(rows: Vec<T>) -> Self {
        rows.into_iter().collect()
    }
}

impl<T: Listed + Serialize> Serialize for Rows<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// Whatever their order was.
impl<'de, T: Listed + Deserialize<'de>> Deserialize<'de> for Rows<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<T>::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Row(u64, u32);

    impl Listed for Row {
        const MEMORY: usize = 100;

        fn id(&self) -> u64 {
            self.0
        }
    }

    fn rows(list: &[(u64, u32)]) -> Rows<Row> {
        list.iter().map(|(id, value)| Row(*id, *value)).collect()
    }

    #[test]
    fn rows_are_found_and_paired_by_id_and_what_is_shared_is_counted_once() {
        let earlier = rows(&[(9, 0), (1, 0), (4, 0), (6, 0)]);
        assert_eq!(earlier.iter().map(|it| it.0).collect::<Vec<_>>(), [1, 4, 6, 9]);
        let mut now = Rows::default();
        now.push(earlier.find(4).expect("it is there").clone());
        now.push(Arc::new(Row(6, 1)));
        now.push(Arc::new(Row(12, 1)));
        let pairs: Vec<_> = now.beside(&earlier).map(|(row, other)| (row.0, other.map(|it| it.1))).collect();
        assert_eq!(pairs, [(4, Some(0)), (6, Some(0)), (12, None)]);
        assert!(now.find(1).is_none());
        assert_eq!(now.memory(), 300);
        assert_eq!(now.memory_beside(&earlier), 200 + 3 * 16);
        now.revise(&earlier, |row| Some(Row(row.0, 7)));
        assert_eq!(now.iter().map(|it| it.1).collect::<Vec<_>>(), [0, 7, 7], "what is shared stays");
    }
}
