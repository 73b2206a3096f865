//! The tables as the entities have them, for the test that compares them with the migrated schema.

use sea_orm::{ColumnTrait, EntityTrait, IdenStatic, Iterable, sea_query::ColumnType};

use crate::entity::{
    account, account_factor, account_identity, account_token, api_token, audit_entry, data_key, dead_letter, exec_log,
    host, host_enrolment, host_event, host_key, host_metrics, host_metrics_1h, host_metrics_1m, live_ticket, login,
    operation, operation_step, pod, pod_claim, pod_event, pod_metrics, pod_metrics_1h, pod_metrics_1m, quota,
    recovery_code, request, rollup_pending, rollup_pending_hour, secret, secret_version, team, team_invitation,
    team_member,
};

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns, in the order of the entity.
    pub columns: Vec<TableColumn>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// Its type, as Postgres's catalogue spells it.
    pub data_type: String,
    /// Whether it may be null.
    pub nullable: bool,
    /// Whether it belongs to the primary key.
    pub key: bool,
}

/// Every table that has an entity.
pub fn tables() -> Vec<Table> {
    vec![
        table::<account::Entity>(),
        table::<account_factor::Entity>(),
        table::<account_identity::Entity>(),
        table::<account_token::Entity>(),
        table::<api_token::Entity>(),
        table::<data_key::Entity>(),
        table::<audit_entry::Entity>(),
        table::<dead_letter::Entity>(),
        table::<exec_log::Entity>(),
        table::<host::Entity>(),
        table::<host_enrolment::Entity>(),
        table::<host_event::Entity>(),
        table::<host_key::Entity>(),
        table::<host_metrics::Entity>(),
        table::<host_metrics_1h::Entity>(),
        table::<host_metrics_1m::Entity>(),
        table::<live_ticket::Entity>(),
        table::<login::Entity>(),
        table::<operation::Entity>(),
        table::<operation_step::Entity>(),
        table::<pod::Entity>(),
        table::<pod_claim::Entity>(),
        table::<pod_event::Entity>(),
        table::<pod_metrics::Entity>(),
        table::<pod_metrics_1h::Entity>(),
        table::<pod_metrics_1m::Entity>(),
        table::<recovery_code::Entity>(),
        table::<quota::Entity>(),
        table::<request::Entity>(),
        table::<rollup_pending::Entity>(),
        table::<rollup_pending_hour::Entity>(),
        table::<secret::Entity>(),
        table::<secret_version::Entity>(),
        table::<team::Entity>(),
        table::<team_invitation::Entity>(),
        table::<team_member::Entity>(),
    ]
}

fn table<E: EntityTrait>() -> Table {
    let keys: Vec<String> = E::PrimaryKey::iter().map(|key| key.as_str().to_owned()).collect();
    let columns = E::Column::iter().map(|column| {
        let name = column.as_str().to_owned();
        let definition = column.def();
        TableColumn {
            data_type: type_name(definition.get_column_type()),
            nullable: definition.is_null(),
            key: keys.contains(&name),
            name,
        }
    });
    Table { name: E::default().table_name().to_owned(), columns: columns.collect() }
}

fn type_name(column_type: &ColumnType) -> String {
    match column_type {
        ColumnType::Text | ColumnType::String(_) => "text".into(),
        ColumnType::BigInteger => "bigint".into(),
        ColumnType::Integer => "integer".into(),
        ColumnType::Double => "double precision".into(),
        ColumnType::Float => "real".into(),
        ColumnType::Boolean => "boolean".into(),
        ColumnType::TimestampWithTimeZone => "timestamp with time zone".into(),
        ColumnType::JsonBinary => "jsonb".into(),
        ColumnType::Blob | ColumnType::VarBinary(_) => "bytea".into(),
        ColumnType::Array(element) => format!("{}[]", type_name(element)),
        other => format!("{other:?}"),
    }
}
