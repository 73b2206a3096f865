//! The gateway's API as the commands need it. Answers are kept whole, so that `--json` hands on all that came.

mod session;
pub(crate) mod tls;
mod view;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use pinacle_bus::settings::Secret;
use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER},
};
use rustls::ClientConfig;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::sleep;

pub(crate) use view::{
    Accepted, DeadLetter, Disk, Event, ExecRecord, Host, HostDetail, LogChunk, LogLine, Operation, OperationStep, Pod,
    Reconciler, Sample,
};

use crate::{args::Global, failure::Failure, place::Place};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const ANSWER_DEADLINE: Duration = Duration::from_secs(40);
/// Pauses before a request that may be sent twice is sent again, when the connection was lost.
const AGAIN_AFTER: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// A page's length that every list of the gateway takes.
const PAGE: usize = 100;

/// A gateway, and who asks.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client,
    base: String,
    tls: Option<Arc<ClientConfig>>,
    /// What is shown with each request: a token, a session's cookies, or nothing.
    shown: HeaderMap,
}

/// Something that came, and its JSON.
#[derive(Debug, Clone)]
pub(crate) struct Whole<T> {
    /// As the commands use it.
    pub view: T,
    /// As it came.
    pub json: Value,
}

impl<T> std::ops::Deref for Whole<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.view
    }
}

impl<T: DeserializeOwned> Whole<T> {
    /// Reads what came.
    pub fn read(json: Value) -> Result<Self, Failure> {
        let view = T::deserialize(&json).context("the gateway's answer is not as this release expects it")?;
        Ok(Self { view, json })
    }
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Value>,
    next_cursor: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Problem {
    code: String,
    detail: Option<String>,
    title: Option<String>,
}

/// What the gateway refuses.
struct Refusal {
    status: StatusCode,
    /// The stable name of the reason; empty when it is none of ours.
    code: String,
    /// The reason for people.
    said: String,
}

impl From<Refusal> for Failure {
    fn from(Refusal { status, said, .. }: Refusal) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::failed(format!(
                "{said}; pinacle login makes a new token, or name another with --token-file or in PINACLE_TOKEN"
            )),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Self::input(said),
            _ => Self::failed(said),
        }
    }
}

impl Api {
    /// The gateway that is meant, and the token for it: see [`Place`].
    pub fn open(global: &Global) -> Result<Self, Failure> {
        let place = Place::find(global)?;
        let (token, _) = place.token(global)?;
        Self::of(&place)?.with_token(&token)
    }

    /// A gateway as nobody.
    pub fn of(place: &Place) -> Result<Self, Failure> {
        // A second call finds the first one's provider in place.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder()
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(ANSWER_DEADLINE)
            .no_proxy()
            .user_agent(concat!("pinacle/", env!("CARGO_PKG_VERSION")));
        let tls = match place.gateway.starts_with("https://") {
            true => Some(Arc::new(tls::config(place.authority.as_deref())?)),
            false => None,
        };
        if let Some(tls) = &tls {
            client = client.tls_backend_preconfigured(ClientConfig::clone(tls));
        }
        let client = client.build().context("cannot make an HTTP client")?;
        Ok(Self { client, base: place.gateway.clone(), tls, shown: HeaderMap::new() })
    }

    /// The same as the holder of this token.
    pub fn with_token(mut self, token: &Secret) -> Result<Self, Failure> {
        let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
        let mut value = value.map_err(|_| Failure::input("the token holds what no token does"))?;
        value.set_sensitive(true);
        self.shown = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        Ok(self)
    }

    /// A file that the gateway serves to everybody.
    pub async fn download(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let answer = self.client.get(format!("{}{path}", self.base)).send().await;
        let response = answer.map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await.into());
        }
        Ok(response.bytes().await.map_err(|error| self.unreachable(&error))?.to_vec())
    }

    /// The gateway's address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// What is shown to the gateway, for the WebSocket.
    pub fn shown(&self) -> &HeaderMap {
        &self.shown
    }

    /// What its certificate is held against, for the WebSocket; none without TLS.
    pub fn tls(&self) -> Option<Arc<ClientConfig>> {
        self.tls.clone()
    }

    /// All hosts, or those in one state.
    pub async fn hosts(&self, state: Option<&str>) -> Result<Vec<Whole<Host>>, Failure> {
        let query = state.map(|state| ("state", state.to_owned())).into_iter().collect();
        self.all("/hosts", query, usize::MAX).await
    }

    /// One host by its name or id.
    pub async fn host(&self, host: &str) -> Result<Whole<HostDetail>, Failure> {
        Whole::read(self.get(&format!("/hosts/{}", segment(host)), &[]).await?)
    }

    /// All pods, or those of one host.
    pub async fn pods(&self, host: Option<&str>) -> Result<Vec<Whole<Pod>>, Failure> {
        let query = host.map(|host| ("host", host.to_owned())).into_iter().collect();
        self.all("/pods", query, usize::MAX).await
    }

    /// One pod by its name or id.
    pub async fn pod(&self, pod: &str) -> Result<Whole<Pod>, Failure> {
        Whole::read(self.get(&format!("/pods/{}", segment(pod)), &[]).await?)
    }

    /// One operation with its steps.
    pub async fn operation(&self, id: &str) -> Result<Whole<Operation>, Failure> {
        Whole::read(self.get(&format!("/operations/{}", segment(id)), &[]).await?)
    }

    /// A list to its end, or to `most` entries.
    pub async fn all<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Vec<(&str, String)>,
        most: usize,
    ) -> Result<Vec<Whole<T>>, Failure> {
        let mut found = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = query.clone();
            query.push(("limit", PAGE.min(most - found.len()).to_string()));
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let page = Page::deserialize(self.get(path, &query).await?)
                .context("the gateway's answer is not as this release expects it")?;
            for item in page.items {
                found.push(Whole::read(item)?);
            }
            cursor = page.next_cursor;
            if cursor.is_none() || found.len() >= most {
                return Ok(found);
            }
        }
    }

    /// `GET` below `/api/v1`.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
        self.send(Method::GET, path, query).await
    }

    /// A text below `/api/v1`, and what the answer's header of this name says.
    pub async fn text(
        &self,
        path: &str,
        query: &[(&str, String)],
        header: &str,
    ) -> Result<(String, Option<String>), Failure> {
        let sent = self.request(Method::GET, path).query(query).send().await;
        let response = sent.map_err(|lost| self.unreachable(&lost))?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await.into());
        }
        let value = response.headers().get(header).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let text = response.text().await.map_err(|lost| self.unreachable(&lost))?;
        Ok((text, value))
    }

    /// A request below `/api/v1`; null when the answer has no body.
    pub async fn send(&self, method: Method, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
        let request = self.request(method, path).query(query);
        match self.attempt(request).await {
            Ok(answer) => answer,
            Err(lost) => Err(self.unreachable(&lost)),
        }
    }

    /// A change that says something in its body.
    pub async fn change(&self, method: Method, path: &str, body: &Value) -> Result<Value, Failure> {
        match self.attempt(self.request(method, path).json(body)).await {
            Ok(answer) => answer,
            Err(lost) => Err(self.unreachable(&lost)),
        }
    }

    /// A `POST` that the key makes safe to send again: when the connection is lost after the request went out, nobody
    /// knows whether it was heard.
    pub async fn post_once(&self, path: &str, body: &Value, key: &str) -> Result<Value, Failure> {
        let mut pauses = AGAIN_AFTER.into_iter();
        let mut heard = false;
        loop {
            let request = self.request(Method::POST, path).header("idempotency-key", key).json(body);
            let lost = match self.attempt(request).await {
                Ok(answer) => return answer,
                Err(lost) => lost,
            };
            heard |= !lost.is_connect() && !lost.is_builder();
            match pauses.next() {
                Some(pause) if heard => sleep(pause).await,
                _ => return Err(self.unreachable(&lost)),
            }
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}/api/v1{path}", self.base)).headers(self.shown.clone())
    }

    /// What the gateway answers; the outer error when no whole answer came.
    async fn attempt(&self, request: RequestBuilder) -> Result<Result<Value, Failure>, reqwest::Error> {
        let response = request.send().await?;
        if !response.status().is_success() {
            return Ok(Err(self.refusal(response).await.into()));
        }
        let body = response.bytes().await?;
        if body.is_empty() {
            return Ok(Ok(Value::Null));
        }
        let read = serde_json::from_slice(&body).with_context(|| format!("{} does not speak Pinacle's API", self.base));
        Ok(read.map_err(Failure::from))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        if tls::is_distrust(error) {
            return Failure::failed(format!(
                "the certificate of the gateway at {} is not to be trusted: name its authority with --gateway-ca",
                self.base
            ));
        }
        let why = if error.is_timeout() { "does not answer in time" } else { "cannot be reached" };
        Failure::failed(format!(
            "the gateway at {} {why}: start everything with make up, or name another with --gateway",
            self.base
        ))
    }

    async fn refusal(&self, response: Response) -> Refusal {
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER).and_then(|seconds| seconds.to_str().ok()).map(str::to_owned);
        let body = response.bytes().await.unwrap_or_default();
        let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
        let said = match wait.filter(|_| status == StatusCode::TOO_MANY_REQUESTS) {
            Some(seconds) => Some(format!("this was asked too often: wait {seconds} seconds")),
            None => problem.detail.or(problem.title),
        };
        let said = said.unwrap_or_else(|| format!("{} answers {status}; is that Pinacle's gateway?", self.base));
        Refusal { status, code: problem.code, said: said.trim_end_matches('.').to_owned() }
    }
}

/// A gateway's address as it is kept and compared.
pub(crate) fn address(text: &str) -> Result<String, Failure> {
    if !text.starts_with("http://") && !text.starts_with("https://") {
        return Err(Failure::input(format!("--gateway: {text:?} must begin with http:// or https://")));
    }
    let url: Url = text.parse().map_err(|_| Failure::input(format!("--gateway: {text:?} is no address")))?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// A text as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    // These two would be resolved away.
    if matches!(text, "." | "..") { encoded.replace('.', "%2E") } else { encoded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_within_its_segment() {
        assert_eq!(segment("web-1.local"), "web-1.local");
        assert_eq!(segment("../a b?c=ü"), "..%2Fa%20b%3Fc%3D%C3%BC");
    }
}
