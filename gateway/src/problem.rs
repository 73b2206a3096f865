//! Every error that a person can get, as RFC 9457 `application/problem+json`.
//!
//! Each has a stable [`Code`]. What went wrong inside goes to the log with the request's id; a response says no more
//! than whoever asked can use, so nothing here prints the text of a source.

mod code;
mod conversion;

use std::{any::Any, borrow::Cow, fmt::Write as _, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use serde::Serialize;
use tracing::{error, warn};
use utoipa::ToSchema;

pub use code::Code;

use crate::request::{self, RequestInfo};

/// The media type of every error.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// An error on its way to the person who asked.
#[derive(Debug)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
}

/// What is wrong with one part of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The parameter's or the field's name.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// The body of every error: RFC 9457, with a stable code and the request's id.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// A name for the kind of error; the same for the same `code`.
    #[serde(rename = "type")]
    #[schema(example = "urn:pinacle:problem:host_not_found")]
    type_uri: String,
    /// The kind of error, for people.
    #[schema(example = "There is no such host")]
    title: &'static str,
    /// The HTTP status.
    #[schema(example = 404)]
    status: u16,
    /// The kind of error, for programs. It never changes its meaning.
    code: Code,
    /// What happened this time.
    detail: &'a str,
    /// The path that was asked for.
    #[schema(value_type = String, example = "/api/v1/hosts/nowhere")]
    instance: &'a str,
    /// The id of the request, as in the header `x-request-id` and in the log.
    request_id: &'a str,
    /// What is wrong with each part of the request, if that is the reason.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<FieldError>, required = false)]
    errors: &'a [FieldError],
}

impl Problem {
    /// An error with what happened this time: a sentence for people, without anything internal.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), retry_after: None }
    }

    /// A parameter or field that is not as it must be.
    pub fn field(code: Code, field: impl Into<String>, message: impl Into<String>) -> Self {
        let error = FieldError { field: field.into(), message: message.into() };
        let detail = format!("{}: {}", error.field, error.message);
        Self { code, detail: detail.into(), errors: vec![error], retry_after: None }
    }

    /// An error of the inside: logged whole with the request's id, told as `code` alone.
    pub fn internal(code: Code, doing: &str, source: &(dyn std::error::Error + 'static)) -> Self {
        let mut chain = source.to_string();
        let mut next = source.source();
        while let Some(source) = next {
            let _ = write!(chain, ": {source}");
            next = source.source();
        }
        let request_id = request::current().map(|info| info.id.clone()).unwrap_or_default();
        if code.status().is_server_error() && code.retry_after().is_none() {
            error!(request_id, code = code.as_str(), "cannot {doing}: {chain}");
        } else {
            warn!(request_id, code = code.as_str(), "cannot {doing}: {chain}");
        }
        Self::new(code, code.explanation())
    }

    /// Another attempt makes sense after so long.
    pub fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What happened this time.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What stands for a response that something else than ours made, if it is an error.
    pub fn for_status(status: StatusCode) -> Self {
        let code = match status {
            StatusCode::UNAUTHORIZED => Code::Unauthorized,
            StatusCode::NOT_FOUND => Code::RouteNotFound,
            StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
            StatusCode::REQUEST_TIMEOUT => Code::RequestTimeout,
            StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
            StatusCode::TOO_MANY_REQUESTS => Code::RateLimited,
            StatusCode::UPGRADE_REQUIRED => Code::UpgradeRequired,
            status if status.is_client_error() => Code::BadRequest,
            _ => Code::Internal,
        };
        Self::new(code, code.explanation())
    }

    /// For the layer that catches panics.
    pub fn for_panic(_panic: Box<dyn Any + Send + 'static>) -> Response<Body> {
        // What it said is in the log already: the service's panic hook puts it there.
        Self::for_status(StatusCode::INTERNAL_SERVER_ERROR).into_response()
    }

    fn respond(&self, info: &RequestInfo) -> Response<Body> {
        let body = ProblemBody {
            type_uri: format!("urn:pinacle:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            code: self.code,
            detail: &self.detail,
            instance: &info.path,
            request_id: &info.id,
            errors: &self.errors,
        };
        let mut response = Response::new(Body::from(serde_json::to_vec(&body).unwrap_or_default()));
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        // Whole seconds, rounded up: who comes earlier is refused again.
        let told = self.retry_after.map(|wait| wait.as_millis().div_ceil(1000));
        let told = told.map(|seconds| u64::try_from(seconds).unwrap_or(u64::MAX));
        if let Some(seconds) = told.or(self.code.retry_after()) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pinacle\""));
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        match request::current() {
            Some(info) => self.respond(&info),
            None => self.respond(&RequestInfo::default()),
        }
    }
}

#[cfg(test)]
mod tests;
