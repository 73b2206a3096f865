//! The door to the WebSocket.

use axum::{
    extract::ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    http::{HeaderMap, header},
    response::Response,
};

use super::Shared;
use crate::{
    identity::{Identity, SUBPROTOCOL},
    live::{self, protocol::FULL_FRAME_BYTES},
    problem::{Code, Problem},
    request,
};

/// Follow hosts, pods and events
///
/// A WebSocket of JSON texts: see the schemas `ClientMessage` and `ServerMessage`. A page in a browser, which cannot set
/// headers, offers the subprotocols `pinacle.v1` and `bearer.<ticket>`, with a ticket of `POST /live/ticket`. State comes as it is now, and again whenever it
/// changes; who reads slowly skips what is old by then. Events come each once and in order; after a reconnect go on with
/// `after`, the last `position` that you have. Close code 1001 means: connect again.
#[utoipa::path(get, path = "/live", operation_id = "live", tag = "live",
    responses((status = 101, description = "the WebSocket is open")))]
pub async fn live(
    app: Shared,
    identity: Identity,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|_| Problem::new(Code::UpgradeRequired, Code::UpgradeRequired.explanation()))?;
    let shared = &app.live;
    if !is_welcome(&headers, shared.settings.origins()) {
        return Err(Problem::new(Code::OriginForbidden, Code::OriginForbidden.explanation()));
    }
    app.fleet()?;
    if shared.shutdown.is_cancelled() {
        return Err(Problem::new(Code::NotReady, "the gateway stops; connect again"));
    }
    let Some(place) = shared.place() else {
        return Err(Problem::new(Code::Overloaded, Code::Overloaded.explanation()));
    };
    // Above what the session takes, so that a message which is a little too long gets an answer instead of the end.
    let most = shared.settings.live_message_bytes.saturating_mul(4);
    let (session, keys) = (shared.clone(), app.keys.clone());
    let token = shared.sessions.token();
    let info = request::current();
    Ok(upgrade
        .protocols([SUBPROTOCOL])
        .max_message_size(most)
        .max_frame_size(most)
        .max_write_buffer_size(FULL_FRAME_BYTES * 8)
        .on_upgrade(async move |socket| {
            let _token = token;
            request::on_behalf_of(info, live::run(socket, session, keys, identity, place)).await;
        }))
}

/// Whether a page of this origin may connect. Programs send no origin. A token is needed all the same; this keeps a page
/// of elsewhere from using one that it got hold of.
fn is_welcome<'a>(headers: &HeaderMap, mut allowed: impl Iterator<Item = &'a str>) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let own = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host_of = origin.split_once("://").map(|(_, host)| host);
    (host_of.is_some() && host_of == own) || allowed.any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn pages_of_our_own_and_of_allowed_origins_are_welcome() {
        let welcome = |origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:8080"));
            headers.extend(origin.map(|origin| (header::ORIGIN, HeaderValue::from_static(origin))));
            is_welcome(&headers, ["https://console.example.org"].into_iter())
        };
        for origin in [None, Some("http://127.0.0.1:8080"), Some("https://console.example.org")] {
            assert!(welcome(origin), "{origin:?}");
        }
        for origin in ["null", "http://evil.example", "http://127.0.0.1:8081", "https://console.example.org.evil"] {
            assert!(!welcome(Some(origin)), "{origin}");
        }
    }
}
