//! The OpenAPI document: what the handlers say of themselves, and what holds for all of them.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder,
        path::Operation,
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use super::{audit_log::FormatParameter, events::KindParameter, page::OrderParameter, schema};
use crate::{
    live::protocol::{ClientMessage, LiveEventSchema, ServerMessage},
    problem::{Code, FieldError, MEDIA_TYPE, ProblemBody},
};

const SECURITY: &str = "token";

const DESCRIPTION: &str = "\
Every request carries `Authorization: Bearer <token>`. Every error is a problem (RFC 9457) whose `code` never changes its \
meaning; its `request_id` is also in the header `x-request-id` and in the log. Lists come in pages: give `next_cursor` \
back as `cursor` until it is null. Times are RFC 3339 in UTC; `percent` = 100 means one core. Hosts and pods are live and \
answer while Postgres is away; metrics, events and dead letters are the history.";

/// What the document begins with.
pub fn base() -> OpenApi {
    OpenApiBuilder::new()
        .info(InfoBuilder::new().title("Pinacle").version(env!("CARGO_PKG_VERSION")).description(Some(DESCRIPTION)))
        .components(Some(components()))
        .build()
}

fn components() -> utoipa::openapi::Components {
    let mut schemas: Vec<(String, RefOr<utoipa::openapi::Schema>)> = Vec::new();
    ProblemBody::schemas(&mut schemas);
    ClientMessage::schemas(&mut schemas);
    ServerMessage::schemas(&mut schemas);
    let problem = ResponseBuilder::new()
        .description("What went wrong")
        .content(MEDIA_TYPE, ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build())
        .build();
    ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .schema("Problem", ProblemBody::schema())
        .schema("ProblemCode", Code::schema())
        .schema("FieldError", FieldError::schema())
        .schema("ClientMessage", ClientMessage::schema())
        .schema("ServerMessage", ServerMessage::schema())
        .schema("LiveEvent", LiveEventSchema::schema())
        // Parameters name these, and a parameter brings no schema along.
        .schema("HostState", schema::HostState::schema())
        .schema("PodPhase", schema::PodPhase::schema())
        .schema("Progress", schema::Progress::schema())
        .schema("RestartPolicy", schema::RestartPolicy::schema())
        .schema("OrderParameter", OrderParameter::schema())
        .schema("AuditOutcome", schema::AuditOutcome::schema())
        .schema("FormatParameter", FormatParameter::schema())
        .schema("KindParameter", KindParameter::schema())
        .response("Problem", problem)
        .security_scheme(SECURITY, SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)))
        .build()
}

/// Adds what holds for every operation: it needs a token, and ends with a problem if it does not end well.
pub fn complete(mut document: OpenApi) -> OpenApi {
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete] {
            operation.iter_mut().for_each(complete_operation);
        }
    }
    document
}

fn complete_operation(operation: &mut Operation) {
    // What takes nobody's identity says so itself.
    let needs = || vec![SecurityRequirement::new(SECURITY, Vec::<String>::new())];
    operation.security.get_or_insert_with(needs);
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            // OpenAPI wants one.
            response.description = "Done".into();
        }
    }
    operation.responses.responses.insert("default".into(), RefOr::Ref(Ref::from_response_name("Problem")));
}
