//! Filtering, sorting and paging of lists.

use serde::{Deserialize, Serialize};
use serde_json::Value;

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

    /// A stretch of `rows`. `text` gives what the filter looks in.
    ///
    /// # Errors
    /// The name of a field that no row has.
    pub(super) fn page<T: Serialize + Clone>(
        &self,
        mut rows: Vec<T>,
        total_unfiltered: usize,
        text: impl Fn(&T) -> String,
    ) -> Result<Page<T>, String> {
        let filter = self.filter.to_lowercase();
        if !filter.is_empty() {
            rows.retain(|row| text(row).to_lowercase().contains(&filter));
        }
        if let Some(field) = &self.sort {
            rows = self.sorted(rows, field)?;
        }
        let (total, limit) = (rows.len() as u64, self.limit());
        let rows = rows.into_iter().skip(self.offset as usize).take(limit as usize).collect();
        Ok(Page { total, total_unfiltered: total_unfiltered as u64, offset: self.offset, limit, rows })
    }

    fn sorted<T: Serialize>(&self, rows: Vec<T>, field: &str) -> Result<Vec<T>, String> {
        let mut keyed = Vec::with_capacity(rows.len());
        for row in rows {
            let key = match serde_json::to_value(&row).map(|mut value| value.get_mut(field).map(Value::take))
            {
                Ok(Some(key)) => Key::of(key),
                _ => return Err(format!("there is no field {field:?} to sort by")),
            };
            keyed.push((key, row));
        }
        keyed.sort_by(|(a, _), (b, _)| {
            let order = a.compare(b);
            if self.desc { order.reverse() } else { order }
        });
        Ok(keyed.into_iter().map(|(_, row)| row).collect())
    }
}

/// What rows are sorted by: numbers (ids are numbers in strings) before text.
enum Key {
    Number(f64),
    Text(String),
}

impl Key {
    fn of(value: Value) -> Self {
        match value {
            Value::Number(number) => Self::Number(number.as_f64().unwrap_or(0.0)),
            Value::Bool(yes) => Self::Number(f64::from(u8::from(yes))),
            Value::String(text) => match text.parse::<u64>() {
                Ok(number) => Self::Number(number as f64),
                Err(_) => Self::Text(text),
            },
            _ => Self::Text(String::new()),
        }
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
