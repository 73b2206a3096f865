//! What people read. Every finder takes a [`Scope`](crate::Scope) and puts it into its condition.

mod account;
mod belongings;
mod data_key;
mod dead_letter;
mod enrolment;
mod event;
mod factor;
mod foreign;
mod host;
mod host_key;
mod login;
mod operation;
mod person;
mod pod;
mod quota;
mod sample;
mod secret;
mod team;
mod token;
mod user;

pub use account::AccountTokenPurpose;
pub use belongings::Belongings;
pub use enrolment::{Claimed, EnrolmentClaim, EnrolmentRefused};
pub use event::{EventFilter, EventRow};
pub use foreign::ForeignIdentity;
pub use host::HostFilter;
pub use operation::{ExecFilter, OperationFilter};
pub use person::Person;
pub use pod::PodFilter;
pub use quota::Holdings;
pub use secret::{NewSecretVersion, SecretFilter};
pub use team::{FULL, LAST_OWNER, MemberRow};
pub use user::{LAST_ADMIN, Population, UserChange, UserFilter};

use sea_orm::{ColumnTrait, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect, Select, Value};

use crate::{Direction, PageRequest};

/// The part of `select` that the page wants, by `key`, which orders the list and is unique.
pub(crate) fn keyset<E: EntityTrait, K: Into<Value>>(
    select: Select<E>,
    page: &PageRequest,
    key: E::Column,
    after: Option<K>,
) -> Select<E> {
    let (select, order) = match (page.direction, after) {
        (Direction::Forward, Some(after)) => (select.filter(key.gt(after)), Order::Asc),
        (Direction::Forward, None) => (select, Order::Asc),
        (Direction::Backward, Some(after)) => (select.filter(key.lt(after)), Order::Desc),
        (Direction::Backward, None) => (select, Order::Desc),
    };
    select.order_by(key, order).limit(page.fetch())
}
