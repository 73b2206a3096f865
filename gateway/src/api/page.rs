//! Lists in pages: `limit` and `cursor` in, `next_cursor` out.

use pinacle_store::{Cursor, Direction, PageRequest};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::{Code, Problem};

const USUAL: u64 = 100;

/// A part of a list.
#[derive(Serialize, ToSchema)]
pub struct Page<T> {
    /// In the list's order.
    pub items: Vec<T>,
    /// For the next page; null = this was the last one.
    pub next_cursor: Option<String>,
}

/// Which part of a list. Each query spells both itself, because serde cannot flatten and refuse unknown names at once.
pub struct PageQuery {
    /// Most items; `None` = as many as usual.
    pub limit: Option<u64>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl PageQuery {
    /// Checks the limit.
    ///
    /// # Errors
    /// When it is no length of a page.
    pub fn limit(&self) -> Result<u64, Problem> {
        let limit = self.limit.unwrap_or(USUAL);
        if (1..=PageRequest::MOST).contains(&limit) {
            Ok(limit)
        } else {
            let message = format!("must be from 1 to {}", PageRequest::MOST);
            Err(Problem::field(Code::InvalidParameter, "limit", message))
        }
    }

    /// For the live state: the key that the page before ended with.
    ///
    /// # Errors
    /// When the cursor is none of ours.
    pub fn after<K: std::str::FromStr>(&self) -> Result<Option<K>, Problem> {
        let parse = |cursor: &String| {
            cursor.parse().map_err(|_| Problem::field(Code::InvalidCursor, "cursor", "is not a cursor of this list"))
        };
        self.cursor.as_ref().map(parse).transpose()
    }

    /// For the store.
    ///
    /// # Errors
    /// As for [`Self::limit`].
    pub fn request(&self, direction: Direction) -> Result<PageRequest, Problem> {
        Ok(PageRequest { limit: self.limit()?, after: self.cursor.clone().map(Cursor::from), direction })
    }
}

/// Which way a list runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderParameter {
    /// Oldest first.
    #[default]
    Asc,
    /// Newest first.
    Desc,
}

impl From<OrderParameter> for Direction {
    fn from(order: OrderParameter) -> Self {
        match order {
            OrderParameter::Asc => Self::Forward,
            OrderParameter::Desc => Self::Backward,
        }
    }
}
