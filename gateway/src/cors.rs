//! Pages of other origins that may use the API: those of the setting, and no others.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::CorsLayer;

use crate::{request::REQUEST_ID, settings::Gateway};

/// A browser need not ask again for so long.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The layer; `None` when pages of other origins may do nothing, and browsers are to be told nothing.
pub fn layer(settings: &Gateway) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> =
        settings.origins().filter_map(|origin| origin.trim_end_matches('/').parse().ok()).collect();
    if origins.is_empty() {
        return None;
    }
    let own = |name: &'static str| HeaderName::from_static(name);
    Some(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_credentials(true)
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
            .allow_headers([
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                REQUEST_ID,
                own("idempotency-key"),
                own("x-csrf-token"),
            ])
            .expose_headers([REQUEST_ID, header::LOCATION, header::RETRY_AFTER, own("x-next-cursor")])
            .max_age(REMEMBERED),
    )
}
