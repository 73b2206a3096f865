//! Lists in pages by key: the cursor is the last row's key, so that rows which come and go between two pages neither
//! repeat nor hide others.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{StoreError, StoreErrorKind};

/// Where a list goes on. Opaque to people; it has no meaning in another list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Cursor {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Cursor {
    pub(crate) fn key<K: FromStr>(&self, query: &'static str) -> Result<K, StoreError> {
        let bad = || StoreError::new(query, StoreErrorKind::BadCursor);
        // No key is longer, and Postgres takes no NUL.
        if self.0.len() > 128 || self.0.contains('\0') {
            return Err(bad());
        }
        self.0.parse().map_err(|_| bad())
    }
}

/// Which way a list runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    #[default]
    Forward,
    /// Newest first.
    Backward,
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// How many rows; held to 1 to [`Self::MOST`].
    pub limit: u64,
    /// Where the page before ended; `None` = from the start.
    pub after: Option<Cursor>,
    /// Which way.
    pub direction: Direction,
}

impl PageRequest {
    /// The longest page.
    pub const MOST: u64 = 1000;

    /// The first `limit` rows, oldest first.
    pub fn first(limit: u64) -> Self {
        Self { limit, ..Self::default() }
    }

    /// How many rows to read: one more than wanted tells whether a page follows.
    pub(crate) fn fetch(&self) -> u64 {
        self.limit.clamp(1, Self::MOST) + 1
    }

    pub(crate) fn page<T, K: ToString>(&self, mut items: Vec<T>, key: impl Fn(&T) -> K) -> Page<T> {
        let wanted = usize::try_from(self.fetch() - 1).unwrap_or(usize::MAX);
        let more = items.len() > wanted;
        items.truncate(wanted);
        let next = if more { items.last().map(|item| Cursor(key(item).to_string())) } else { None };
        Page { items, next }
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page starts; `None` = this is the end.
    pub next: Option<Cursor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_list_has_no_next_page_and_a_longer_one_has() {
        let request = PageRequest::first(2);
        assert_eq!(request.page(vec![1, 2], |key| *key).next, None);
        let page = request.page(vec![1, 2, 3], |key| *key);
        assert_eq!(page.items, [1, 2]);
        assert_eq!(page.next.unwrap().key::<i64>("test").unwrap(), 2);
    }

    #[test]
    fn a_foreign_cursor_is_refused_by_kind() {
        let error = Cursor::from("yesterday".to_owned()).key::<i64>("test").unwrap_err();
        assert_eq!(error.kind(), &StoreErrorKind::BadCursor);
    }
}
