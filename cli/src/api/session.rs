//! Signing in, for a moment: by a session of its own a person makes a token. And who somebody is.

use pinacle_bus::settings::Secret;
use reqwest::{
    Method, RequestBuilder, StatusCode,
    header::{COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, Refusal, Whole};
use crate::failure::Failure;

/// A person with an account.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Account {
    pub user_id: String,
    pub email: String,
    pub name: String,
    pub is_admin: bool,
}

impl Api {
    /// Signs in; the session is what asks from then on. `None` when the second factor is needed, too.
    pub async fn sign_in(&self, email: &str, password: &Secret, code: Option<&str>) -> Result<Option<Self>, Failure> {
        let body = json!({ "email": email, "password": password.expose(), "code": code });
        let sent = self.request(Method::POST, "/sessions").json(&body).send().await;
        let response = sent.map_err(|lost| self.unreachable(&lost))?;
        if !response.status().is_success() {
            return match self.refusal(response).await {
                Refusal { code, .. } if code == "second_factor_needed" => Ok(None),
                Refusal { status: StatusCode::UNAUTHORIZED, said, .. } => Err(Failure::failed(format!(
                    "{said}; who signs in elsewhere, such as with GitHub, logs in with --token-file"
                ))),
                Refusal { said, .. } => Err(Failure::failed(said)),
            };
        }
        let cookies: Vec<&str> = response
            .headers()
            .get_all(SET_COOKIE)
            .iter()
            .filter_map(|cookie| cookie.to_str().ok()?.split(';').next())
            .collect();
        // The token against foreign pages stands in a cookie, too, which only pages read.
        let csrf = cookies.iter().find_map(|cookie| cookie.split_once('=').filter(|(name, _)| name.ends_with("_csrf")));
        let mut shown = HeaderMap::new();
        for (name, value) in
            [(COOKIE.as_str(), cookies.join("; ")), ("x-csrf-token", csrf.unwrap_or_default().1.into())]
        {
            let value = HeaderValue::try_from(value);
            let mut value =
                value.map_err(|_| Failure::failed(format!("{} does not speak Pinacle's API", self.base)))?;
            value.set_sensitive(true);
            shown.insert(HeaderName::from_static(name), value);
        }
        Ok(Some(Self { shown, ..self.clone() }))
    }

    /// Who asks; `None` = the installation itself, which is nobody.
    pub async fn account(&self) -> Result<Option<Whole<Account>>, Failure> {
        match self.reply(self.request(Method::GET, "/account")).await? {
            Ok(account) => Whole::read(account).map(Some),
            Err(refusal) if refusal.code == "no_account" => Ok(None),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Ends the token that asks. Returns whether it has ended: not, when it may not end itself.
    pub async fn end_token(&self) -> Result<bool, Failure> {
        match self.reply(self.request(Method::DELETE, "/tokens/current")).await? {
            Ok(_) => Ok(true),
            // Revoked before, or past its end.
            Err(refusal) if refusal.status == StatusCode::UNAUTHORIZED => Ok(true),
            Err(refusal) if refusal.status == StatusCode::FORBIDDEN => Ok(false),
            Err(refusal) => Err(refusal.into()),
        }
    }

    async fn reply(&self, request: RequestBuilder) -> Result<Result<Value, Refusal>, Failure> {
        let response = request.send().await.map_err(|lost| self.unreachable(&lost))?;
        if !response.status().is_success() {
            return Ok(Err(self.refusal(response).await));
        }
        let body = response.bytes().await.map_err(|lost| self.unreachable(&lost))?;
        Ok(Ok(serde_json::from_slice(&body).unwrap_or_default()))
    }
}
