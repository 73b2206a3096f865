//! Certificates for TLS: an authority of the installation's own, and what it signs.

use chrono::{Datelike, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use super::TrustError;

const AUTHORITY_YEARS: i32 = 20;
/// `pinacle up` makes a new one at each start.
const SERVER_YEARS: i32 = 2;

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Certificate {
    /// The certificate, for everybody.
    pub certificate: String,
    /// The key, which is a secret.
    pub key: String,
}

/// The authority that an installation's servers are known by.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate and key.
    pub own: Certificate,
}

impl CertificateAuthority {
    /// Makes a new one.
    ///
    /// # Errors
    /// When the machine has no random numbers.
    pub fn generate() -> Result<Self, TrustError> {
        let key = KeyPair::generate().map_err(TrustError::Certificate)?;
        let mut params = params(&[], "Pinacle's authority", AUTHORITY_YEARS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(TrustError::Certificate)?;
        let own = Certificate { certificate: certificate.pem(), key: key.serialize_pem() };
        Ok(Self { issuer: Issuer::new(params, key), own })
    }

    /// Reads one that was made before.
    ///
    /// # Errors
    /// When the key is none. The certificate is taken at its word, which servers would find out.
    pub fn parse(own: Certificate) -> Result<Self, TrustError> {
        let key = KeyPair::from_pem(&own.key).map_err(TrustError::Certificate)?;
        // What it signs names its issuer and the issuer's key; both follow from these and the key.
        let mut params = params(&[], "Pinacle's authority", AUTHORITY_YEARS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Ok(Self { issuer: Issuer::new(params, key), own })
    }

    /// A certificate of a server that is reached under these names and addresses.
    ///
    /// # Errors
    /// When a name is none.
    pub fn server(&self, names: &[String]) -> Result<Certificate, TrustError> {
        let key = KeyPair::generate().map_err(TrustError::Certificate)?;
        let mut params = params(names, "Pinacle's bus", SERVER_YEARS)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Servers of a cluster are clients of one another.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(TrustError::Certificate)?;
        Ok(Certificate { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn params(names: &[String], common_name: &str, years: i32) -> Result<CertificateParams, TrustError> {
    let mut params = CertificateParams::new(names).map_err(TrustError::Certificate)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    // From the year before: no clock of a host is so late.
    let year = Utc::now().year();
    params.not_before = date_time_ymd(year - 1, 1, 1);
    params.not_after = date_time_ymd(year + years, 1, 1);
    Ok(params)
}
