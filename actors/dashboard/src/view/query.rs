//! Filtering, sorting and paging of lists.

use serde::Deserialize;

use crate::api::Page;

/// Rows an answer has, unless told otherwise.
const DEFAULT_LIMIT: u64 = 100;
/// And at most: half a megabyte of JSON.
const MAX_LIMIT: u64 = 1000;

/// What a list is asked for, as it stands in the URL.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Query {
    /// The field to sort by; unknown ones are a mistake of the asker.
    pub(crate) sort: Option<String>,
    /// Largest first.
    #[serde(default)]
    pub(crate) desc: bool,
    /// Rows that contain this, whatever the case.
    #[serde(default)]
    pub(crate) filter: String,
    /// Actors: only this kind.
    pub(crate) kind: Option<String>,
    /// Traces: only this way (`rx`, `tx`).
    pub(crate) direction: Option<String>,
    /// Traces: only this path.
    pub(crate) path: Option<String>,
    /// Traces: only of this connection or through this actor.
    pub(crate) actor: Option<String>,
    /// The first row.
    #[serde(default)]
    pub(crate) offset: u64,
    /// How many.
    pub(crate) limit: Option<u64>,
    /// The recording to answer from.
    pub(crate) source: Option<String>,
    /// The time in it.
    pub(crate) at: Option<u64>,
}

impl Query {
    pub(super) fn limit(&self) -> u64 {
        self.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT)
    }

    /// A stretch of a list: what matches the filter, sorted. Only the rows of that stretch are made.
    ///
    /// # Errors
    /// The name of a field that no row has.
    pub(super) fn page<C, T>(
        &self,
        candidates: impl Iterator<Item = C>,
        total_unfiltered: usize,
        list: &impl List<Candidate = C, Row = T>,
    ) -> Result<Page<T>, String> {
        let filter = self.filter.to_lowercase();
        let matches = |it: &C| filter.is_empty() || list.text(it).to_lowercase().contains(&filter);
        let mut found: Vec<C> = candidates.filter(matches).collect();
        if let Some(field) = &self.sort {
            let unknown = || format!("there is no field {field:?} to sort by");
            let mut keyed = Vec::with_capacity(found.len());
            for it in found {
                keyed.push((list.key(&it, field).ok_or_else(unknown)?, it));
            }
            keyed.sort_by(|(a, _), (b, _)| {
                let order = a.compare(b);
                if self.desc { order.reverse() } else { order }
            });
            found = keyed.into_iter().map(|(_, it)| it).collect();
        }
        let (total, limit) = (found.len() as u64, self.limit());
        let rows =
            found.iter().skip(self.offset as usize).take(limit as usize).map(|it| list.row(it)).collect();
        Ok(Page { total, total_unfiltered: total_unfiltered as u64, offset: self.offset, limit, rows })
    }
}

/// A list that is filtered, sorted and paged.
pub(super) trait List {
    type Candidate;
    type Row;

    /// What the filter looks in.
    fn text(&self, it: &Self::Candidate) -> String;

    /// What it is sorted by; `None` for a field that rows don't have.
    fn key(&self, it: &Self::Candidate, field: &str) -> Option<Key>;

    /// Its row.
    fn row(&self, it: &Self::Candidate) -> Self::Row;
}

/// What rows are sorted by: numbers before text.
#[derive(Debug)]
pub(super) enum Key {
    Number(f64),
    Text(String),
}

impl Key {
    pub(super) fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    fn compare(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(_), Self::Text(_)) => std::cmp::Ordering::Less,
            (Self::Text(_), Self::Number(_)) => std::cmp::Ordering::Greater,
        }
    }
}
