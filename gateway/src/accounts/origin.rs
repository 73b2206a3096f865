//! Which page a request comes from. A browser says so itself; programs say nothing and are welcome.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::problem::{Code, Problem};

const FETCH_SITE: &str = "sec-fetch-site";

/// Refuses what a page of elsewhere has a browser send, unless it only looks: the layer around what needs no identity.
pub async fn refuse_foreign(State(public): State<Arc<str>>, request: Request, next: Next) -> Response {
    if is_safe(request.method()) || is_own(request.headers(), &public) {
        return next.run(request).await;
    }
    Problem::new(Code::CrossSite, Code::CrossSite.explanation()).into_response()
}

/// Whether a request with this method changes nothing.
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether a request comes from a page of our own, or from no page at all. `public` is the gateway's public origin.
pub fn is_own(headers: &HeaderMap, public: &str) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if text(FETCH_SITE).is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return false;
    }
    let Some(origin) = text(header::ORIGIN.as_str()) else { return true };
    let host = text(header::HOST.as_str());
    let of_host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    origin == public || (of_host.is_some() && of_host == host)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn pages_of_elsewhere_are_told_from_our_own_and_from_programs() {
        let own = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("127.0.0.1:8080"));
            for (name, value) in pairs {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            is_own(&headers, "https://pinacle.example.org")
        };
        assert!(own(&[]));
        assert!(own(&[("origin", "http://127.0.0.1:8080")]));
        assert!(own(&[("origin", "https://pinacle.example.org"), ("sec-fetch-site", "same-origin")]));
        for foreign in ["null", "http://evil.example", "127.0.0.1:8080", "https://pinacle.example.org.evil.example", ""]
        {
            assert!(!own(&[("origin", foreign)]), "{foreign}");
        }
        for site in ["cross-site", "same-site", ""] {
            assert!(!own(&[("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", site)]), "{site}");
        }
    }
}
