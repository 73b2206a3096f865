//! What every request goes through, whatever its route: an id, limits, one line in the log, headers that keep browsers
//! from mischief, and a problem as the body of every error.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use pinacle_bus::{
    client::{MessageContext, TraceParent, in_context},
    contract::{RequestId, header as bus_header},
};
use tokio::{sync::Semaphore, time::Instant};
use tracing::{info, warn};

use crate::{
    audit::Note,
    connection::Peer,
    problem::{Code, MEDIA_TYPE, Problem},
    proxies::{Origin, TrustedProxies},
    settings::Gateway,
    web,
};

/// The header with a request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const LONGEST_ADDRESS: usize = 8192;
const LONGEST_REQUEST_ID: usize = 64;

/// The request at hand.
#[derive(Debug)]
pub struct RequestInfo {
    /// Its id: the caller's, if that is harmless, else a new one.
    pub id: String,
    /// The path, without the query, which may hold what nobody should log.
    pub path: String,
    /// From where it comes.
    pub origin: Origin,
    /// Who asks, once that is known.
    pub identity: OnceLock<String>,
    /// What the audit log is to say of it.
    pub note: Mutex<Note>,
}

impl Default for RequestInfo {
    fn default() -> Self {
        Self {
            id: String::new(),
            path: String::new(),
            origin: NOWHERE,
            identity: OnceLock::new(),
            note: Mutex::default(),
        }
    }
}

const NOWHERE: Origin = Origin { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), secure: false };

tokio::task_local! {
    static CURRENT: Arc<RequestInfo>;
}

/// The request that the caller works on; `None` outside of any.
pub fn current() -> Option<Arc<RequestInfo>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// Works on behalf of a request after its answer, such as on its WebSocket.
pub async fn on_behalf_of<T>(info: Option<Arc<RequestInfo>>, work: impl Future<Output = T>) -> T {
    match info {
        Some(info) => CURRENT.scope(info, work).await,
        None => work.await,
    }
}

/// The caller's address; unspecified outside of any request.
pub fn address() -> IpAddr {
    current().map_or(NOWHERE.address, |info| info.origin.address)
}

/// The limits of all requests together and of each.
#[derive(Clone)]
pub struct Limits {
    requests: Arc<Semaphore>,
    max_headers: usize,
    timeout: Duration,
    proxies: TrustedProxies,
    /// Whether the gateway itself speaks TLS.
    has_tls: bool,
}

impl Limits {
    /// From the settings.
    pub fn new(settings: &Gateway) -> Self {
        Self {
            has_tls: !settings.tls_certificate_file.is_empty(),
            // Looked at when the settings were read.
            proxies: TrustedProxies::parse(&settings.trusted_proxies).unwrap_or_default(),
            requests: Arc::new(Semaphore::new(settings.max_requests)),
            max_headers: settings.max_headers,
            timeout: settings.request_timeout(),
        }
    }
}

/// The outermost layer.
pub async fn accompany(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer.0.ip());
    let mut origin = peer.map_or(NOWHERE, |peer| limits.proxies.origin(peer, request.headers()));
    origin.secure |= limits.has_tls;
    let info = Arc::new(RequestInfo {
        origin,
        id: request_id(request.headers()),
        path: request.uri().path().chars().take(LONGEST_ADDRESS).collect(),
        identity: OnceLock::new(),
        note: Mutex::default(),
    });
    let method = request.method().clone();
    // The route, not the path, so that the figures have one series a route.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let trace = request.headers().get(bus_header::TRACE_PARENT).and_then(|value| value.to_str().ok());
    let trace = trace.and_then(|text| text.parse().ok()).unwrap_or_else(TraceParent::root);
    let context = MessageContext { trace, cause: None };

    let within = in_context(context, CURRENT.scope(info.clone(), limited(limits, request, next)));
    let mut response = within.await;
    secure(response.headers_mut(), &info);
    if let Ok(id) = HeaderValue::from_str(&info.id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let status = response.status();
    let duration = began.elapsed();
    info!(
        request_id = info.id,
        trace_id = trace.trace_id(),
        address = %info.origin.address,
        identity = info.identity.get().map_or("none", String::as_str),
        %method,
        route,
        path = info.path,
        status = status.as_u16(),
        duration_ms = duration.as_secs_f64() * 1e3,
        "request"
    );
    let labels = [("method", method.to_string()), ("route", route), ("status", status.as_u16().to_string())];
    metrics::counter!("pinacle_gateway_requests_total", &labels).increment(1);
    metrics::histogram!("pinacle_gateway_request_seconds").record(duration.as_secs_f64());
    response
}

async fn limited(limits: Limits, request: Request, next: Next) -> Response {
    if request.uri().path_and_query().is_some_and(|address| address.as_str().len() > LONGEST_ADDRESS) {
        return problem(Code::AddressTooLong);
    }
    if request.headers().contains_key(header::TRANSFER_ENCODING)
        && request.headers().contains_key(header::CONTENT_LENGTH)
    {
        // A proxy in front may see another end of this request than the server here: what follows would be a second one.
        let mut refusal = problem(Code::BadRequest);
        refusal.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return refusal;
    }
    if request.headers().len() > limits.max_headers {
        return problem(Code::TooManyHeaders);
    }
    let Ok(_permit) = limits.requests.try_acquire() else {
        warn!("as many requests are under way as may be; refusing one");
        return problem(Code::Overloaded);
    };
    match tokio::time::timeout(limits.timeout, next.run(request)).await {
        Ok(response) => as_problem(response),
        Err(_) => problem(Code::RequestTimeout),
    }
}

/// What axum and its extractors answer on their own is text; people get one kind of error only.
fn as_problem(response: Response) -> Response {
    let status = response.status();
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == MEDIA_TYPE);
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let allow = response.headers().get(header::ALLOW).cloned();
    let mut replaced = Problem::for_status(status).into_response();
    if let Some(allow) = allow {
        replaced.headers_mut().insert(header::ALLOW, allow);
    }
    replaced
}

fn problem(code: Code) -> Response {
    Problem::new(code, code.explanation()).into_response()
}

/// The caller's id, if it is harmless in a log, a header and a file name; else a new one.
fn request_id(headers: &HeaderMap) -> String {
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| (1..=LONGEST_REQUEST_ID).contains(&id.len()))
        .filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)))
        .map_or_else(|| RequestId::new().to_string(), str::to_owned)
}

/// For browsers: nothing is sniffed, framed, referred or kept. The documentation's page brings its own styles inline.
fn secure(headers: &mut HeaderMap, info: &RequestInfo) {
    let policy = if info.path.starts_with("/api/docs") {
        "default-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; \
         img-src 'self' data:; frame-ancestors 'none'"
    } else if web::is_page(&info.path) {
        web::POLICY
    } else {
        "default-src 'none'; frame-ancestors 'none'"
    };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if info.origin.secure {
        let year = HeaderValue::from_static("max-age=31536000; includeSubDomains");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harmless_request_id_is_kept_and_any_other_replaced() {
        let id = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
            request_id(&headers)
        };
        assert_eq!(id(b"abc-1.2_3"), "abc-1.2_3");
        let long = "x".repeat(65);
        for harmful in [&b""[..], b"a b", b"\"quoted\"", b"\xff", b"../..//", long.as_bytes()] {
            assert!(id(harmful).starts_with("req_"), "{harmful:?}");
        }
        assert!(request_id(&HeaderMap::new()).starts_with("req_"));
    }
}
