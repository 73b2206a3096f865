//! Signing in with GitHub: OAuth 2 with PKCE and state, then its API for who somebody is and which address is proven.

use anyhow::Context as _;
use axum::http::{Method, header};
use openidconnect::{
    HttpRequest, PkceCodeChallenge, http,
    url::{Url, form_urlencoded},
};
use pinacle_bus::settings::Secret;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    fetch::Fetch,
    provider::{Challenge, Foreigner, ProviderError},
};
use crate::settings::Gateway;

const SCOPES: &str = "read:user user:email";

/// See the module.
pub struct GitHub {
    url: Url,
    api_url: String,
    client_id: String,
    client_secret: Secret,
    redirect: String,
    fetch: Fetch,
}

#[derive(Deserialize)]
struct Token {
    access_token: Secret,
}

#[derive(Deserialize)]
struct User {
    id: u64,
    login: String,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Email {
    email: String,
    primary: bool,
    verified: bool,
}

impl GitHub {
    /// From the settings.
    pub fn new(settings: &Gateway, public_url: &str, fetch: Fetch) -> anyhow::Result<Self> {
        Ok(Self {
            url: settings.github_url.parse().context("gateway.github_url: is no address")?,
            api_url: settings.github_api_url.trim_end_matches('/').to_owned(),
            client_id: settings.github_client_id.clone(),
            client_secret: settings.github_client_secret.clone(),
            redirect: format!("{public_url}/auth/github/callback"),
            fetch,
        })
    }

    /// Where somebody goes to say who they are.
    pub fn begin(&self, challenge: &Challenge) -> String {
        let mut url = self.at("/login/oauth/authorize");
        let hashed = PkceCodeChallenge::from_code_verifier_sha256(&challenge.verifier);
        url.query_pairs_mut()
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", &self.redirect)
            .append_pair("scope", SCOPES)
            .append_pair("state", &challenge.state)
            .append_pair("code_challenge", hashed.as_str())
            .append_pair("code_challenge_method", "S256");
        url.into()
    }

    /// Who came back with this code.
    pub async fn finish(&self, code: &str, challenge: Challenge) -> Result<Foreigner, ProviderError> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("client_id", &self.client_id)
            .append_pair("client_secret", self.client_secret.expose())
            .append_pair("code", code)
            .append_pair("redirect_uri", &self.redirect)
            .append_pair("code_verifier", challenge.verifier.secret())
            .finish();
        let request = http::Request::builder()
            .method(Method::POST)
            .uri(self.at("/login/oauth/access_token").as_str())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(form.into_bytes());
        let token: Token = self.read(request).await?;
        let user: User = self.ask("/user", &token).await?;
        let emails: Vec<Email> = self.ask("/user/emails", &token).await?;
        Ok(Foreigner {
            issuer: self.url.as_str().trim_end_matches('/').to_owned(),
            // Logins may be given up and taken by others; numbers are not.
            subject: user.id.to_string(),
            email: emails.into_iter().find(|email| email.primary && email.verified).map(|email| email.email),
            name: user.name.unwrap_or(user.login),
        })
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str, token: &Token) -> Result<T, ProviderError> {
        let request = http::Request::builder()
            .uri(format!("{}{path}", self.api_url))
            .header(header::AUTHORIZATION, format!("Bearer {}", token.access_token.expose()))
            .header(header::ACCEPT, "application/vnd.github+json")
            .body(Vec::new());
        self.read(request).await
    }

    async fn read<T: DeserializeOwned>(&self, request: Result<HttpRequest, http::Error>) -> Result<T, ProviderError> {
        let request = request.map_err(|error| ProviderError::Refused(format!("no request can be made: {error}")))?;
        let answer = self.fetch.send(request).await.map_err(ProviderError::Unavailable)?;
        if !answer.status().is_success() {
            return Err(ProviderError::Refused(format!("GitHub answers {}", answer.status())));
        }
        // Not serde's own words, which quote what came.
        serde_json::from_slice(answer.body())
            .map_err(|_| ProviderError::Refused("GitHub's answer is not what it should be".into()))
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", self.url.path().trim_end_matches('/')));
        url
    }
}
