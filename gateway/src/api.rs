//! The HTTP API, version 1, and its description.

mod accounts;
mod asking;
mod audit_log;
mod commands;
mod dead_letters;
mod enrol;
mod enrolment;
mod events;
mod exec;
mod factor;
mod foreign;
mod grants;
mod hosts;
mod install;
mod live;
mod logs;
mod membership;
mod metrics;
mod openapi;
pub mod operations;
mod overview;
mod own;
mod owners;
mod page;
mod pods;
mod quotas;
mod reconcilers;
pub mod schema;
mod secrets;
mod sessions;
mod ssh_key;
mod teams;
mod terms;
mod tokens;
mod transfer;
mod users;
mod version;
pub mod view;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::DefaultBodyLimit,
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::get,
};
use pinacle_store::Database;
use serde::Serialize;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::SwaggerUi;

use crate::{
    accounts::{Accounts, origin},
    audit, cors,
    identity::{self, Keys},
    install::Install,
    limits::{self, RateLimits},
    live::Live,
    problem::{Code, Problem},
    request::{self, Limits},
    trust::Trust,
    vault::Vault,
    web,
};

/// What handlers work with.
pub struct App {
    /// The live state and the bus.
    pub live: Arc<Live>,
    /// The history.
    pub database: Database,
    /// How often things may be asked.
    pub limits: RateLimits,
    /// What is kept encrypted.
    pub vault: Arc<Vault>,
    /// People.
    pub accounts: Arc<Accounts>,
    /// What people show to be known by.
    pub keys: Arc<Keys>,
    /// What admits and revokes hosts; `None` without `gateway.authority`.
    pub trust: Option<Arc<Trust>>,
    /// What machines are given to join.
    pub install: Install,
}

impl App {
    /// The live state, once it has arrived.
    pub(crate) fn fleet(&self) -> Result<&crate::live::fleet::Fleet, Problem> {
        if self.live.primed.is_complete() {
            Ok(&self.live.fleet)
        } else {
            Err(Problem::new(Code::NotReady, Code::NotReady.explanation()))
        }
    }
}

impl App {
    /// What admits and revokes hosts.
    fn trust(&self) -> Result<&Trust, Problem> {
        let missing = || Problem::new(Code::EnrolmentUnavailable, Code::EnrolmentUnavailable.explanation());
        self.trust.as_deref().ok_or_else(missing)
    }
}

type Shared = axum::extract::State<Arc<App>>;

/// Everything below `/api/v1`. A route that is not registered here is neither served nor documented.
fn v1() -> OpenApiRouter<Arc<App>> {
    fleet().merge(people())
}

/// What runs, and what happened to it.
fn fleet() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(version::version))
        .routes(routes!(hosts::list))
        .routes(routes!(hosts::one, membership::remove))
        .routes(routes!(enrolment::list, enrolment::create))
        .routes(routes!(enrolment::revoke))
        .routes(routes!(membership::disable))
        .routes(routes!(membership::enable))
        .routes(routes!(membership::rotate_key))
        .routes(routes!(membership::note))
        .routes(routes!(membership::maintain))
        .routes(routes!(metrics::host))
        .routes(routes!(events::host))
        .routes(routes!(exec::host))
        .routes(routes!(terms::cordon))
        .routes(routes!(terms::uncordon))
        .routes(routes!(terms::label))
        .routes(routes!(terms::allow))
        .routes(routes!(terms::trust_keys))
        .routes(routes!(commands::ping))
        .routes(routes!(commands::version))
        .routes(routes!(commands::sample))
        .routes(routes!(commands::inventory))
        .routes(routes!(commands::set_interval))
        .routes(routes!(pods::list, pods::create))
        .routes(routes!(pods::one, pods::delete))
        .routes(routes!(pods::start))
        .routes(routes!(pods::stop))
        .routes(routes!(pods::restart))
        .routes(routes!(pods::pause))
        .routes(routes!(pods::resume))
        .routes(routes!(transfer::pod))
        .routes(routes!(transfer::host))
        .routes(routes!(transfer::secret))
        .routes(routes!(metrics::pod))
        .routes(routes!(events::pod))
        .routes(routes!(exec::pod))
        .routes(routes!(logs::pod))
        .routes(routes!(operations::list))
        .routes(routes!(operations::one))
        .routes(routes!(operations::cancel))
        .routes(routes!(exec::list))
        .routes(routes!(reconcilers::list))
        .routes(routes!(audit_log::list))
        .routes(routes!(audit_log::export))
        .routes(routes!(audit_log::one))
        .routes(routes!(events::list))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::one, dead_letters::drop))
        .routes(routes!(dead_letters::resend))
        .routes(routes!(secrets::list))
        .routes(routes!(secrets::put, secrets::delete))
        .routes(routes!(secrets::versions))
        .routes(routes!(secrets::rotate))
        .routes(routes!(ssh_key::show))
        .routes(routes!(ssh_key::rotate))
        .routes(routes!(live::live))
}

/// Who may do something, and how they are known.
fn people() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(sessions::ticket))
        .routes(routes!(sessions::list, sessions::end_others))
        .routes(routes!(sessions::end))
        .routes(routes!(sessions::account))
        .routes(routes!(sessions::change_password))
        .routes(routes!(factor::state, factor::begin))
        .routes(routes!(factor::confirm))
        .routes(routes!(factor::recovery_codes))
        .routes(routes!(factor::switch_off))
        .routes(routes!(own::change_email))
        .routes(routes!(own::delete))
        .routes(routes!(accounts::first))
        .routes(routes!(accounts::invite))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(teams::list, teams::create))
        .routes(routes!(teams::one, teams::rename, teams::delete))
        .routes(routes!(teams::members::set_role, teams::members::remove))
        .routes(routes!(teams::invitations::list, teams::invitations::invite))
        .routes(routes!(teams::invitations::uninvite))
        .routes(routes!(teams::invitations::accept))
        .routes(routes!(teams::invitations::decline))
        .routes(routes!(quotas::one, quotas::set))
        .routes(routes!(users::list))
        .routes(routes!(users::one))
        .routes(routes!(users::suspend))
        .routes(routes!(users::unsuspend))
        .routes(routes!(users::grant_admin, users::revoke_admin))
        .routes(routes!(overview::overview))
}

/// What takes nobody's identity, below `/api/v1`, too. What is done here must tell a stranger nothing.
fn open() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(sessions::sign_in))
        .routes(routes!(sessions::second_factor))
        .routes(routes!(accounts::ways))
        .routes(routes!(accounts::sign_up))
        .routes(routes!(accounts::reset))
        .routes(routes!(accounts::set_password))
        .routes(routes!(own::confirm_email))
}

/// What machines ask for in the course of joining. They are no people: what matters of it has its own entry in the audit
/// log.
fn machines() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(enrol::enrol))
        .routes(routes!(enrol::challenge))
        .routes(routes!(enrol::renewal))
}

/// The OpenAPI document, as at `/api/openapi.json`.
pub fn document() -> utoipa::openapi::OpenApi {
    let (_, document) = OpenApiRouter::with_openapi(openapi::base())
        .nest("/api/v1", v1().merge(open()).merge(machines()))
        .split_for_parts();
    openapi::complete(document)
}

/// The whole router.
pub fn router(app: Arc<App>) -> Router {
    let settings = &app.live.settings;
    let limits = Limits::new(settings);
    let body_limit = DefaultBodyLimit::max(settings.body_limit_bytes);
    // The identity comes before the routing, so that nobody learns without one what exists.
    let document = Arc::new(document());
    let demands = grants::Demands::of(&document);
    let v1 = v1()
        .fallback(not_found)
        .layer(from_fn_with_state(demands, grants::demand))
        .layer(from_fn_with_state(app.clone(), audit::observe))
        .layer(from_fn_with_state(app.clone(), limits::limit))
        .layer(from_fn_with_state(app.keys.clone(), identity::require));
    let public: Arc<str> = app.accounts.public_url().into();
    let open = open().layer(from_fn_with_state(app.clone(), audit::observe)).merge(machines());
    let open = open.layer(from_fn_with_state(public, origin::refuse_foreign));
    let v1: Router<Arc<App>> = v1.merge(open).into();
    let page = SwaggerUi::new("/api/docs")
        .config(utoipa_swagger_ui::Config::from("/api/openapi.json").validator_url("none").with_credentials(false));
    let router = Router::new()
        .nest("/api/v1", v1)
        .route("/api/openapi.json", get(move || std::future::ready(Json(document.clone()))))
        .merge(Router::from(page))
        .merge(web::router())
        .route("/install.sh", get(install::script))
        .route("/agent/{file}", get(install::agent))
        .merge(foreign::router())
        .fallback(not_found)
        .layer(body_limit)
        .layer(CatchPanicLayer::custom(Problem::for_panic));
    // Before the identity: a browser asks for leave without one.
    let router = match cors::layer(settings) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.layer(from_fn_with_state(limits, request::accompany)).with_state(app)
}

async fn not_found() -> Problem {
    Problem::for_status(axum::http::StatusCode::NOT_FOUND)
}

/// A JSON response out of what is borrowed from the live state.
fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => json_bytes(body.into()),
        Err(error) => Problem::internal(Code::Internal, "write a response", &error).into_response(),
    }
}

/// A JSON response that is written already.
fn json_bytes(body: bytes::Bytes) -> Response {
    ([(axum::http::header::CONTENT_TYPE, "application/json")], body).into_response()
}
