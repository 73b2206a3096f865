//! The settings about people.

use serde::{Deserialize, Serialize};

use super::Gateway;

/// Two years: longer than anything should be good for.
const LONGEST_MS: u64 = 63_072_000_000;

/// Who may have an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignUp {
    /// Whom an admin makes one for.
    Closed,
    /// Whom somebody with an account invites.
    Invited,
    /// Anybody who proves an address.
    Open,
}

impl Gateway {
    /// The address that people reach the gateway at, without a slash at its end: an origin.
    pub fn public_url(&self) -> String {
        let given = self.public_url.trim_end_matches('/');
        if given.is_empty() {
            let scheme = if self.tls_certificate_file.is_empty() { "http" } else { "https" };
            format!("{scheme}://{}", self.listen.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:"))
        } else {
            given.to_owned()
        }
    }

    /// Whose people are admins once they have proven them, as addresses are kept.
    pub fn admins(&self) -> Vec<String> {
        self.admin_emails
            .split(',')
            .map(|email| email.trim().to_lowercase())
            .filter(|email| !email.is_empty())
            .collect()
    }
}

/// What the types cannot say.
pub(super) fn faults(settings: &Gateway) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |key: &str, holds: bool, rule: &str| {
        if !holds {
            faults.push(format!("gateway.{key}: {rule}"));
        }
    };
    check(
        "public_url",
        is_origin(&settings.public_url()),
        "must be such as https://pinacle.example.org, without a path",
    );
    check(
        "admin_emails",
        settings.admins().iter().all(|email| email.contains('@')),
        "must be e-mail addresses, separated by commas",
    );
    for (key, value) in [
        ("session_idle_ms", settings.session_idle_ms),
        ("session_max_ms", settings.session_max_ms),
        ("invite_link_ms", settings.invite_link_ms),
        ("reset_link_ms", settings.reset_link_ms),
    ] {
        check(key, (100..=LONGEST_MS).contains(&value), "must be from 100 to 63072000000");
    }
    for (key, url) in [
        ("oidc_issuer", &settings.oidc_issuer),
        ("github_url", &settings.github_url),
        ("github_api_url", &settings.github_api_url),
    ] {
        let is_url = url.starts_with("https://") || url.starts_with("http://");
        check(key, url.is_empty() || is_url, "must begin with https://");
    }
    check(
        "oidc_client_id",
        settings.oidc_issuer.is_empty() || !settings.oidc_client_id.is_empty(),
        "must be given with gateway.oidc_issuer",
    );
    check(
        "github_client_secret",
        settings.github_client_id.is_empty() || !settings.github_client_secret.is_empty(),
        "must be given with gateway.github_client_id",
    );
    check("mail_from", settings.mail_from.contains('@'), "must be such as Pinacle <pinacle@example.org>");
    faults
}

fn is_origin(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    rest.is_some_and(|host| !host.is_empty() && host.bytes().all(is_host))
}
