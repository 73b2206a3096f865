//! What a gateway's certificate is held against: the same for HTTP and for the WebSocket.

use std::{error::Error, fs, path::Path};

use anyhow::Context as _;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::failure::Failure;

/// Reads a PEM file with authorities.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let pem = fs::read_to_string(path).map_err(|error| Failure::input(format!("cannot read {shown}: {error}")))?;
    let found = certificates(&pem).is_ok_and(|found| !found.is_empty());
    if found { Ok(pem) } else { Err(Failure::input(format!("{shown} holds no certificates"))) }
}

/// Trusts these authorities alone, or those that the system knows.
pub(super) fn config(authority: Option<&str>) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    let certificates = match authority {
        Some(pem) => certificates(pem)?,
        // Those that cannot be read are as if they were not there.
        None => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(certificates);
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

fn certificates(pem: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().context("cannot read the certificates")
}

/// Whether a connection failed for the certificate at its other end.
pub(crate) fn is_distrust(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        // An I/O error hides what it was made of from the chain.
        cause = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}
