//! The gateway's own TLS.

use std::sync::Arc;

use anyhow::Context as _;
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

use crate::settings::Gateway;

/// What connections are taken with.
#[derive(Clone)]
pub struct Tls {
    /// Takes a connection.
    pub acceptor: TlsAcceptor,
    /// The server's public key, as `curl --pinnedpubkey` takes it.
    pub pin: String,
}

impl Tls {
    /// Reads the certificate and the key that the settings name; `None` when they name none.
    ///
    /// # Errors
    /// When they cannot be read, or do not belong together.
    pub fn read(settings: &Gateway) -> anyhow::Result<Option<Self>> {
        let (file, key_file) = (&settings.tls_certificate_file, &settings.tls_key_file);
        if file.is_empty() {
            return Ok(None);
        }
        let certificates = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("read the certificate {file} (gateway.tls_certificate_file)"))?;
        let key = PrivateKeyDer::from_pem_file(key_file)
            .with_context(|| format!("read the key {key_file} (gateway.tls_key_file)"))?;
        let provider = Arc::new(ring::default_provider());
        let signing = provider.key_provider.load_private_key(key.clone_key()).context("read gateway.tls_key_file")?;
        let public = signing.public_key().context("gateway.tls_key_file holds a key of an unknown kind")?;
        let pin = format!("sha256//{}", STANDARD.encode(Sha256::digest(public.as_ref())));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("set TLS up")?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .context("gateway.tls_certificate_file and gateway.tls_key_file do not belong together")?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Self { acceptor: TlsAcceptor::from(Arc::new(config)), pin }))
    }
}
