//! Which gateway this is.

use axum::response::Response;
use pinacle_bus::contract::SCHEMA_VERSION;
use serde::Serialize;
use utoipa::ToSchema;

use super::json;
use crate::identity::Identity;

/// Which gateway this is, and who asks.
#[derive(Serialize, ToSchema)]
pub struct VersionView<'a> {
    /// Its release.
    #[schema(value_type = String, example = "0.1.0")]
    version: &'a str,
    /// The version of the API.
    #[schema(value_type = String, example = "v1")]
    api: &'a str,
    /// The newest schema of the bus's messages that it reads.
    schema: u32,
    /// Who the token says you are.
    #[schema(value_type = String, example = "admin")]
    identity: &'a str,
}

/// Which gateway this is
#[utoipa::path(get, path = "/version", operation_id = "version", tag = "gateway", responses((status = 200, body = VersionView)))]
pub async fn version(identity: Identity) -> Response {
    json(&VersionView {
        version: env!("CARGO_PKG_VERSION"),
        api: "v1",
        schema: SCHEMA_VERSION,
        identity: identity.name(),
    })
}
