//! The gateway's HTTP API, as far as an agent needs it: small questions, each on a connection of its own.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response, StatusCode, Uri, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// For a whole question. Joining waits for the orchestrator.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
const LONGEST_ANSWER: usize = 64 * 1024;

/// Where the gateway is, and how it is known.
pub struct Gateway {
    address: String,
    host: String,
    authority: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// What the gateway said no to.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// For programs, such as `host_disabled`.
    pub code: String,
    /// For people.
    pub detail: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be asked, or did not answer as it should.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    title: Option<String>,
}

impl Gateway {
    /// The gateway at this address. `ca_file` is what its certificate is held against; empty = the system's authorities.
    ///
    /// # Errors
    /// When the address is none, is not `https` and leads off this machine, or the file cannot be read.
    pub fn new(url: &str, ca_file: &Path) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url:?} is no address"))?;
        let host = uri.host().with_context(|| format!("{url:?} names no host"))?.to_owned();
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (port, tls) = match uri.scheme_str() {
            Some("https") => {
                let name = ServerName::try_from(bare.clone()).with_context(|| format!("{host} is no name"))?;
                (443, Some((TlsConnector::from(Arc::new(client(ca_file)?)), name)))
            }
            Some("http") => {
                let here = bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
                ensure!(here, "{url} is not https: a token goes in the clear to this machine itself only");
                (80, None)
            }
            _ => bail!("{url:?} must begin with https://"),
        };
        let port = uri.port_u16().unwrap_or(port);
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        Ok(Self { address: format!("{host}:{port}"), host, authority, tls })
    }

    /// Asks with a JSON body for a JSON answer.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, AskError> {
        let body = serde_json::to_vec(body).context("write a question")?;
        let answered = timeout(ANSWERED_WITHIN, self.exchange(path, body)).await;
        let (status, body) = answered.map_err(|_| anyhow::anyhow!("{} does not answer in time", self.host))??;
        if status.is_success() {
            let read = serde_json::from_slice(&body).with_context(|| format!("{} answers something else", self.host));
            return Ok(read?);
        }
        let problem: Option<Problem> = serde_json::from_slice(&body).ok();
        let (code, said) =
            problem.map_or((String::new(), None), |problem| (problem.code, problem.detail.or(problem.title)));
        let detail = said.unwrap_or_else(|| format!("{} answers {status}", self.host));
        Err(Refusal { status: status.as_u16(), code, detail }.into())
    }

    async fn exchange(&self, path: &str, body: Vec<u8>) -> anyhow::Result<(StatusCode, Bytes)> {
        let stream = TcpStream::connect(&self.address).await.with_context(|| format!("connect to {}", self.address))?;
        let request = Request::post(format!("/api/v1{path}"))
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("pinacle-agent/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(body)))
            .context("write a question")?;
        let response = match &self.tls {
            None => send(stream, request).await?,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                send(stream.with_context(|| format!("trust {}", self.host))?, request).await?
            }
        };
        Ok(response)
    }
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("speak HTTP")?;
    let answer = async {
        let response: Response<Incoming> = sender.send_request(request).await.context("ask")?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("read the answer: {error}"))?.to_bytes();
        anyhow::Ok((status, body))
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        // cancel-safe: dropped only with the connection.
        answer = &mut answer => answer,
        // cancel-safe: as above.
        ended = &mut connection => {
            ended.context("speak HTTP")?;
            // It may have ended right behind the answer.
            answer.await
        }
    }
}

fn client(ca_file: &Path) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if ca_file.as_os_str().is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        let shown = ca_file.display();
        let certificates = CertificateDer::pem_file_iter(ca_file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("read {shown} (agent.gateway_ca_file)"))?;
        for certificate in certificates {
            roots.add(certificate).with_context(|| format!("{shown} holds no authority's certificate"))?;
        }
    }
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("set TLS up")?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_in_the_clear_to_this_machine_only() {
        let refused = |url: &str| Gateway::new(url, Path::new("")).is_err();
        assert!(!refused("http://127.0.0.1:8080") && !refused("http://localhost") && !refused("http://[::1]:80"));
        for url in ["http://10.0.0.1:8080", "http://127.0.0.1.example.org", "ftp://localhost", "localhost", ""] {
            assert!(refused(url), "{url}");
        }
        assert!(!refused("https://pinacle.example.org"));
    }
}
