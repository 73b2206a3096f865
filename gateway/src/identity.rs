//! Who asks. Every request below `/api/v1` has an [`Identity`], put there by one layer around all of it; a handler takes
//! it as an argument and turns it into the store's [`Scope`], so that a handler which forgets to ask who it is cannot
//! read anything, and a route outside of the layer refuses.
//!
//! For now there is one: whoever holds the admin token. Accounts come later, and come through here.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use pinacle_store::Scope;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    live::{fleet::PodLive, operations::OperationLive, protocol::Topic},
    problem::{Code, Problem},
    request,
};

/// What browsers offer as a WebSocket's subprotocol besides their token, since they cannot set headers.
pub const SUBPROTOCOL: &str = "pinacle.v1";
const BEARER_SUBPROTOCOL: &str = "bearer.";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    name: Arc<str>,
    scope: Scope,
}

impl Identity {
    fn of_admin_token() -> Self {
        Self { name: "admin".into(), scope: Scope::All }
    }

    /// For logs and records.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What they may see of the history.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Whether they may see and do what belongs to the installation: hosts, events, dead letters, commands.
    pub fn is_admin(&self) -> bool {
        self.scope == Scope::All
    }

    /// For what only admins may see and do.
    ///
    /// # Errors
    /// When they are none.
    pub fn admin(&self) -> Result<(), Problem> {
        if self.is_admin() { Ok(()) } else { Err(Problem::new(Code::Forbidden, Code::Forbidden.explanation())) }
    }

    /// Whether they may see a pod.
    pub fn may_see(&self, pod: &PodLive) -> bool {
        match self.scope.owner() {
            None => true,
            Some(owner) => pod.owner() == Some(owner),
        }
    }

    /// Whether they may see an operation: whose pod it works on may.
    pub fn may_see_operation(&self, operation: &OperationLive) -> bool {
        match self.scope.owner() {
            None => true,
            Some(owner) => operation.owner.as_deref() == Some(owner),
        }
    }

    /// Whether they may follow a topic at all; of pods they are shown their own.
    pub fn may_follow(&self, topic: Topic) -> bool {
        match topic {
            Topic::Pods | Topic::Pod(_) | Topic::Operations | Topic::Operation(_) => true,
            Topic::Exec(_) | Topic::Logs(_) => true,
            Topic::Hosts | Topic::Host(_) | Topic::Events => self.is_admin(),
        }
    }
}

/// What tokens are held against. Only their digests are kept.
#[derive(Clone)]
pub struct Tokens {
    admin: [u8; 32],
}

impl Tokens {
    /// From the admin token.
    pub fn new(admin_token: &str) -> Self {
        Self { admin: Sha256::digest(admin_token.as_bytes()).into() }
    }

    /// Whose token this is. Takes as long for a wrong one as for the right one.
    fn identify(&self, token: &str) -> Option<Identity> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        bool::from(digest.ct_eq(&self.admin)).then(Identity::of_admin_token)
    }
}

/// The layer around `/api/v1`.
pub async fn require(State(tokens): State<Tokens>, mut request: Request, next: Next) -> Response {
    match token(request.headers()).and_then(|token| tokens.identify(token)) {
        Some(identity) => {
            if let Some(info) = request::current() {
                // Set once a request: this layer is passed once.
                let _ = info.identity.set(identity.name().to_owned());
            }
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        None => {
            metrics::counter!("pinacle_gateway_unauthorized_total").increment(1);
            unauthorized().into_response()
        }
    }
}

fn unauthorized() -> Problem {
    Problem::new(Code::Unauthorized, Code::Unauthorized.explanation())
}

/// The token that a request carries: in the header `Authorization`, or for a WebSocket among the subprotocols. Never in
/// the address, which ends up in logs and histories.
fn token(headers: &HeaderMap) -> Option<&str> {
    if let Some(given) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = given.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim());
    }
    if !headers.get(header::UPGRADE)?.as_bytes().eq_ignore_ascii_case(b"websocket") {
        return None;
    }
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    offered
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|protocol| protocol.trim().strip_prefix(BEARER_SUBPROTOCOL))
}

impl<S: Sync> FromRequestParts<S> for Identity {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(unauthorized)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_token_comes_in_the_header_or_as_a_websockets_subprotocol_only() {
        assert_eq!(token(&headers(&[(header::AUTHORIZATION, "Bearer abc")])), Some("abc"));
        assert_eq!(token(&headers(&[(header::AUTHORIZATION, "bearer abc")])), Some("abc"));
        assert_eq!(token(&headers(&[(header::AUTHORIZATION, "Basic abc")])), None);
        assert_eq!(token(&headers(&[(header::AUTHORIZATION, "abc")])), None);
        let offered = (header::SEC_WEBSOCKET_PROTOCOL, "pinacle.v1, bearer.abc");
        assert_eq!(token(&headers(&[(header::UPGRADE, "websocket"), offered.clone()])), Some("abc"));
        assert_eq!(token(&headers(&[offered])), None);
        assert_eq!(token(&HeaderMap::new()), None);
    }

    #[test]
    fn only_the_right_token_is_somebody() {
        let tokens = Tokens::new("0123456789abcdef0123456789abcdef");
        assert!(tokens.identify("0123456789abcdef0123456789abcdef").is_some_and(|who| who.is_admin()));
        for wrong in ["", "0123456789abcdef0123456789abcde", "0123456789abcdef0123456789abcdef0"] {
            assert!(tokens.identify(wrong).is_none(), "{wrong}");
        }
    }
}
