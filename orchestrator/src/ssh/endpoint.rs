//! Where a host takes SSH, and by which keys it is known.

use pinacle_bus::contract::host::HostRecord;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey};

use super::ConnectError;

/// Where a host takes SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// An address or a name.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// As whom we log in.
    pub user: String,
    /// The keys by which the host is known, as OpenSSH's lines: algorithm and base64. Any other is refused.
    pub host_keys: Vec<String>,
    /// The Lima machine that it is; then address and port are asked of `limactl` at each connect.
    pub lima_name: Option<String>,
}

impl Endpoint {
    /// Where a host takes SSH, by its record; `None` when it does not say.
    pub fn of(host: &HostRecord, default_user: &str) -> Option<Self> {
        let ssh = host.facts.ssh.as_ref()?;
        Some(Self {
            address: ssh.address.clone().or_else(|| host.facts.addresses.first().cloned())?,
            port: ssh.port,
            user: ssh.user.clone().unwrap_or_else(|| default_user.to_owned()),
            host_keys: host.pinned_host_keys.clone(),
            lima_name: host.facts.lima_name.clone(),
        })
    }
}

/// What a server may prove its identity with.
const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
];

/// The keys by which a host is known.
#[derive(Clone)]
pub struct PinnedKeys(Vec<PublicKey>);

impl PinnedKeys {
    /// Those of `lines` that can be checked.
    pub fn read(lines: &[String]) -> Result<Self, ConnectError> {
        let keys = lines.iter().filter_map(|line| PublicKey::from_openssh(line).ok());
        let keys: Vec<PublicKey> = keys.filter(|key| ALGORITHMS.contains(&key.algorithm())).collect();
        if keys.is_empty() { Err(ConnectError::NoPinnedKey) } else { Ok(Self(keys)) }
    }

    /// All algorithms, those of the pinned keys first: a host with several keys shows one that we know, and a host
    /// without any of them shows what it has, to be named in the refusal.
    pub fn algorithms(&self) -> Vec<Algorithm> {
        let is_pinned = |algorithm: &Algorithm| self.0.iter().any(|key| key.algorithm() == *algorithm);
        let (pinned, others): (Vec<_>, Vec<_>) = ALGORITHMS.into_iter().partition(is_pinned);
        [pinned, others].concat()
    }

    /// Whether the host is who it was.
    pub fn check(&self, offered: &PublicKey) -> Result<(), ConnectError> {
        if self.0.iter().any(|key| key.key_data() == offered.key_data()) {
            return Ok(());
        }
        Err(ConnectError::HostKeyChanged {
            offered: offered.to_openssh().unwrap_or_default(),
            fingerprint: offered.fingerprint(HashAlg::Sha256).to_string(),
        })
    }
}

/// The fingerprint `SHA256:…` of a key in OpenSSH's form; `None` when it is no key.
pub fn fingerprint(key: &str) -> Option<String> {
    PublicKey::from_openssh(key).ok().map(|key| key.fingerprint(HashAlg::Sha256).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAeMVgkvZPfmgdQ6uJQXI0VdXkqhzqOYhMnXTVkxQZPy";
    const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=";

    fn pinned(lines: &[&str]) -> Result<PinnedKeys, ConnectError> {
        PinnedKeys::read(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_host_without_a_key_that_can_be_checked_is_refused() {
        for lines in [&[][..], &["nonsense"], &["ssh-ed25519 AAAA"]] {
            assert_eq!(pinned(lines).err(), Some(ConnectError::NoPinnedKey), "{lines:?}");
        }
    }

    #[test]
    fn the_algorithms_of_pinned_keys_are_asked_for_first() {
        let keys = pinned(&[ECDSA]).unwrap();
        assert_eq!(keys.algorithms().len(), ALGORITHMS.len());
        assert_eq!(keys.algorithms()[0], Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 });
    }

    #[test]
    fn another_key_is_named_in_the_refusal() {
        let keys = pinned(&[ED25519]).unwrap();
        keys.check(&PublicKey::from_openssh(&format!("{ED25519} with a comment")).unwrap()).unwrap();
        let refused = keys.check(&PublicKey::from_openssh(ECDSA).unwrap()).unwrap_err();
        let fingerprint = fingerprint(ECDSA).unwrap();
        assert!(fingerprint.starts_with("SHA256:"));
        assert_eq!(refused, ConnectError::HostKeyChanged { offered: ECDSA.into(), fingerprint });
    }
}
