//! The service's own small HTTP server: `/healthz`, `/readyz`, `/metrics`. For operators; it listens on loopback unless
//! told otherwise, and says nothing secret.

use std::time::Duration;

use anyhow::Context as _;
use axum::{Json, Router, http::StatusCode, response::IntoResponse, routing::get};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};
use tracing::info;

use super::{Context, telemetry};
use crate::settings::AdminSettings;

/// Binds and serves until the returned set is dropped, which the end of the process does: the server answers during the
/// drain, too.
pub(super) async fn serve(
    settings: &AdminSettings,
    name: &'static str,
    context: &Context,
) -> anyhow::Result<JoinSet<std::io::Result<()>>> {
    let mut tasks = JoinSet::new();
    tasks.spawn(async {
        let mut timer = tokio::time::interval(Duration::from_secs(10));
        loop {
            timer.tick().await;
            telemetry::upkeep();
        }
    });
    if settings.listen.is_empty() {
        return Ok(tasks);
    }
    let listener = TcpListener::bind(&settings.listen)
        .await
        .with_context(|| format!("listen on {} (admin.listen); is it taken?", settings.listen))?;
    info!(address = %listener.local_addr()?, "{name} admin server listens");
    let router = router(context.clone());
    tasks.spawn(async move { axum::serve(listener, router).await });
    Ok(tasks)
}

fn router(context: Context) -> Router {
    let health = context.supervisor.failures();
    Router::new()
        .route(
            "/healthz",
            get(move || {
                let failed = health.borrow().clone();
                async move {
                    match failed {
                        None => (StatusCode::OK, Json(json!({ "status": "ok" }))),
                        Some(task) => {
                            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "failed", "task": task })))
                        }
                    }
                }
            }),
        )
        .route("/readyz", get(move || std::future::ready(ready(&context))))
        .route("/metrics", get(|| async { ([("content-type", "text/plain; version=0.0.4")], telemetry::figures()) }))
}

fn ready(context: &Context) -> impl IntoResponse + use<> {
    let stopping = context.shutdown.is_cancelled();
    let ready = context.readiness.is_ready() && !stopping;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let conditions = context.readiness.conditions();
    (
        status,
        Json(
            json!({ "ready": ready, "stopping": stopping, "conditions": conditions, "tasks": context.supervisor.running() }),
        ),
    )
}
