//! Requests to providers: no redirects, which would lead the gateway wherever a provider says; deadlines, and a bound on
//! what comes back.

use std::{pin::Pin, time::Duration};

use anyhow::Context as _;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse, http};
use reqwest::{Client, redirect};

const DEADLINE: Duration = Duration::from_secs(10);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const MOST_BYTES: usize = 512 * 1024;

/// See the module.
#[derive(Clone)]
pub struct Fetch(Client);

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The other side, or the way to it.
    #[error("the request failed")]
    Request(#[from] reqwest::Error),
    /// More than anybody has to say.
    #[error("the answer has more than {MOST_BYTES} bytes")]
    TooLarge,
    /// It cannot be put together.
    #[error("the answer is not HTTP")]
    Malformed(#[from] http::Error),
}

impl Fetch {
    /// A client of its own.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> anyhow::Result<Self> {
        // A second call finds the first one's provider in place.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(DEADLINE)
            .connect_timeout(CONNECT_DEADLINE)
            .user_agent(concat!("pinacle/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("make an HTTP client")?;
        Ok(Self(client))
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// See [`FetchError`]; a status of an error is none.
    pub async fn send(&self, request: HttpRequest) -> Result<HttpResponse, FetchError> {
        let (parts, body) = request.into_parts();
        let request = self.0.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body);
        let mut response = request.send().await?;
        let mut answer = http::Response::builder().status(response.status());
        for (name, value) in response.headers() {
            answer = answer.header(name, value);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MOST_BYTES {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(answer.body(body)?)
    }
}

impl<'c> AsyncHttpClient<'c> for Fetch {
    type Error = FetchError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, FetchError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}
