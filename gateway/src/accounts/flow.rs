//! A sign-in that is under way at a provider. All of it is in one cookie of the browser that began it: a random secret,
//! out of which state, nonce and PKCE's verifier are derived, so that an answer counts in that browser alone.

use axum::http::{HeaderMap, HeaderValue};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use openidconnect::PkceCodeVerifier;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{provider::Challenge, session, token};

const LONGEST_NEXT: usize = 512;
/// How long somebody may take at the provider.
const SECONDS: u32 = 600;

/// See the module.
pub struct Flow {
    secret: String,
    provider: String,
    /// Where to go afterwards: a path of ours.
    pub next: String,
}

impl Flow {
    /// A new one. What is no path of ours becomes `/`.
    pub fn begin(provider: &str, next: Option<&str>) -> Self {
        let next = next.filter(|next| is_local(next)).unwrap_or("/");
        Self { secret: token::generate(), provider: provider.to_owned(), next: next.to_owned() }
    }

    /// The one of this browser at this provider.
    pub fn find(headers: &HeaderMap, is_secure: bool, provider: &str) -> Option<Self> {
        let mut parts = session::cookie(headers, cookie_name(is_secure))?.split('.');
        let (secret, found, next) = (parts.next()?, parts.next()?, parts.next()?);
        let next = String::from_utf8(URL_SAFE_NO_PAD.decode(next).ok()?).ok()?;
        let fits = secret.len() == token::LENGTH && found == provider && is_local(&next);
        fits.then(|| Self { secret: secret.to_owned(), provider: provider.to_owned(), next })
    }

    /// Whether this state is the flow's.
    pub fn is_state(&self, state: &str) -> bool {
        self.derive("state").as_bytes().ct_eq(state.as_bytes()).into()
    }

    /// What goes to the provider.
    pub fn challenge(&self) -> Challenge {
        Challenge {
            state: self.derive("state"),
            nonce: self.derive("nonce"),
            verifier: PkceCodeVerifier::new(self.derive("verifier")),
        }
    }

    /// The cookie that keeps it. It comes back from the provider's page, so `Lax`.
    pub fn cookie(&self, is_secure: bool) -> HeaderValue {
        let value = format!("{}.{}.{}", self.secret, self.provider, URL_SAFE_NO_PAD.encode(&self.next));
        set(is_secure, &value, SECONDS)
    }

    fn derive(&self, what: &str) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(format!("pinacle {what} {}", self.secret)))
    }
}

/// What takes the cookie away: an answer counts once.
pub fn farewell(is_secure: bool) -> HeaderValue {
    set(is_secure, "", 0)
}

fn cookie_name(is_secure: bool) -> &'static str {
    if is_secure { "__Host-pinacle_flow" } else { "pinacle_flow" }
}

fn set(is_secure: bool, value: &str, seconds: u32) -> HeaderValue {
    let secure = if is_secure { "; Secure" } else { "" };
    let text = format!("{}={value}; Path=/; Max-Age={seconds}; SameSite=Lax{secure}; HttpOnly", cookie_name(is_secure));
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Whether this is a path of ours, and can be nothing else to any browser: no other host, no backslash that some take for
/// a slash, nothing that ends a header.
fn is_local(next: &str) -> bool {
    let mut letters = next.bytes();
    letters.next() == Some(b'/')
        && letters.next().is_none_or(|second| second != b'/')
        && next.len() <= LONGEST_NEXT
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use axum::http::header;

    use super::*;

    #[test]
    fn only_paths_of_ours_are_gone_to() {
        for local in ["/", "/pods?phase=running#top", "/a/b"] {
            assert_eq!(Flow::begin("oidc", Some(local)).next, local);
        }
        let long = format!("/{}", "x".repeat(600));
        for elsewhere in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "\\\\evil",
            "/a\r\nset-cookie: x",
            "/a b",
            &long,
        ] {
            assert_eq!(Flow::begin("oidc", Some(elsewhere)).next, "/", "{elsewhere:?}");
        }
    }

    #[test]
    fn a_flow_is_found_again_in_its_browser_at_its_provider_only() {
        let flow = Flow::begin("oidc", Some("/pods"));
        let cookie = flow.cookie(false);
        let pair = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, pair.parse().unwrap());
        let found = Flow::find(&headers, false, "oidc").unwrap();
        assert_eq!((found.challenge().nonce, found.next.as_str()), (flow.challenge().nonce, "/pods"));
        assert!(
            found.is_state(&flow.challenge().state) && !found.is_state(&flow.challenge().nonce) && !found.is_state("")
        );
        assert!(Flow::find(&headers, false, "github").is_none() && Flow::find(&headers, true, "oidc").is_none());
        assert!(!pair.contains(&flow.challenge().state), "the state is in addresses, and must not tell the cookie");
        for forged in ["pinacle_flow=", "pinacle_flow=a.oidc.Lw", "pinacle_flow=x.y", "pinacle_flow=....."] {
            headers.insert(header::COOKIE, forged.parse().unwrap());
            assert!(Flow::find(&headers, false, "oidc").is_none(), "{forged}");
        }
    }
}
