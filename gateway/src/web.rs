//! The pages about people: files of ours, in the program. All that they know they ask of the API.

use axum::{
    Router,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};

/// What a page may load and do: its own style and script, and requests to this gateway.
pub const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
                          form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A page: what all have around what it has itself.
macro_rules! page {
    ($name:literal, $title:literal) => {
        concat!(
            include_str!("../web/frame/head.html"),
            "<title>",
            $title,
            " · Pinacle</title>\n</head>\n<body data-page=\"",
            $name,
            "\">\n",
            include_str!("../web/frame/top.html"),
            include_str!(concat!("../web/", $name, ".html")),
            include_str!("../web/frame/end.html"),
        )
    };
}

/// Each page and file: its path, its media type, itself.
const FILES: [(&str, &str, &str); 11] = [
    ("/", HTML, page!("account", "Your account")),
    ("/sign-in", HTML, page!("sign-in", "Sign in")),
    ("/set-password", HTML, page!("set-password", "Set a password")),
    ("/confirm-email", HTML, page!("confirm-email", "Your new address")),
    ("/join", HTML, page!("join", "Join a team")),
    ("/reset", HTML, page!("reset", "Lost password")),
    ("/sign-up", HTML, page!("sign-up", "Make an account")),
    ("/web/style.css", "text/css; charset=utf-8", include_str!("../web/style.css")),
    ("/web/people.js", SCRIPT, include_str!("../web/people.js")),
    ("/web/account.js", SCRIPT, include_str!("../web/account.js")),
    ("/web/call.js", SCRIPT, include_str!("../web/call.js")),
];
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// All of them.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(move || std::future::ready(file(kind, text))))
    })
}

/// Whether this is a page's path, which has [`POLICY`].
pub fn is_page(path: &str) -> bool {
    FILES.iter().any(|(page, _, _)| *page == path)
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_page_has_a_script_or_a_style_of_its_own_which_the_policy_would_stop() {
        for (path, kind, text) in FILES {
            if kind == HTML {
                let handles = |word: &str| word.starts_with("on") && word.contains('=');
                assert!(!text.split_whitespace().any(handles), "{path}");
                assert!(!text.contains("style=") && !text.contains("<style"), "{path}");
                assert_eq!(
                    text.matches("<script").count(),
                    text.matches("<script type=\"module\" src=\"/web/").count()
                );
                assert!(text.contains("<html lang=") && text.contains("viewport"), "{path}");
            }
        }
        assert!(is_page("/") && is_page("/web/people.js") && !is_page("/api/v1/hosts") && !is_page("/web/"));
    }
}
