//! Who is who on the bus of this installation: keys, certificates and credentials, made at the first start and found
//! again by later ones.

use std::path::PathBuf;

use pinacle_bus::{
    contract::grant::Role,
    trust::{Certificate, CertificateAuthority, Keys, TrustError},
};

use super::home::{Home, write_private};
use crate::{failure::Failure, local};

/// All keys of the bus.
const KEYS: &str = "nats_keys";
/// What admits hosts and revokes them.
pub(super) const AUTHORITY: &str = "nats_authority";
const CA_KEY: &str = "nats_ca.key";
/// The server's certificate and its key.
pub(super) const CERTIFICATE: &str = "nats_server.pem";
pub(super) const KEY: &str = "nats_server.key";
/// What older releases had instead.
const OLD_PASSWORD: &str = "nats_service_password";

/// Makes what is missing. `names` are the names and addresses under which the server is reached.
pub(super) fn prepare(home: &Home, names: &[String]) -> Result<(), Failure> {
    if home.has_secret(OLD_PASSWORD) && !home.has_secret(KEYS) {
        return Err(Failure::failed(format!(
            "the data folder {} is of an older release, whose bus knew passwords instead of keys: choose another with \
             --data-dir, or remove it to begin anew",
            home.folder.root().display()
        )));
    }
    let made = make(home, names);
    made.map_err(|error| match error {
        Trouble::Failure(failure) => failure,
        Trouble::Trust(error) => {
            Failure::failed(format!("the keys of the bus in {}/secrets: {error}", home.folder.root().display()))
        }
    })
}

/// The file that says to the server who is who.
pub(super) fn configuration(home: &Home) -> PathBuf {
    home.folder.path("trust.conf")
}

enum Trouble {
    Failure(Failure),
    Trust(TrustError),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<TrustError> for Trouble {
    fn from(error: TrustError) -> Self {
        Self::Trust(error)
    }
}

fn make(home: &Home, names: &[String]) -> Result<(), Trouble> {
    let keys = if home.has_secret(KEYS) {
        Keys::parse(local::read_secret(&home.folder.secret(KEYS))?.expose())?
    } else {
        let keys = Keys::generate();
        home.write_secret(KEYS, &keys.to_text()?)?;
        keys
    };
    // Never anew: the server prefers newer claims, and has later ones with the hosts that were revoked.
    if !configuration(home).exists() {
        write_private(&configuration(home), &keys.server_configuration()?)?;
    }
    if !home.has_secret(AUTHORITY) {
        home.write_secret(AUTHORITY, &keys.authority()?.to_text()?)?;
    }
    // Anew at each start: what a release may do is said in its code.
    for role in Role::ALL {
        home.write_secret(&local::credentials(role), &keys.role(role)?.to_text()?)?;
    }
    let authority = if home.has_secret(CA_KEY) {
        let read = |name: &str| local::read_secret(&home.folder.secret(name)).map(|secret| secret.expose().to_owned());
        CertificateAuthority::parse(Certificate { certificate: read(local::BUS_CA)?, key: read(CA_KEY)? })?
    } else {
        let authority = CertificateAuthority::generate()?;
        home.write_secret(local::BUS_CA, &authority.own.certificate)?;
        home.write_secret(CA_KEY, &authority.own.key)?;
        authority
    };
    // Anew at each start, so that it never expires on an installation that is started now and then.
    let server = authority.server(names)?;
    home.write_secret(CERTIFICATE, &server.certificate)?;
    home.write_secret(KEY, &server.key)?;
    Ok(())
}
