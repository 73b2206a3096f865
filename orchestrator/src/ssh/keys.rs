//! The keys that hosts are logged in to with.

use std::sync::Arc;

use parking_lot::RwLock;
use pinacle_bus::settings::Secret;

/// Private keys in OpenSSH's form, tried in their order. Cheap to clone; all clones change together.
#[derive(Debug, Clone)]
pub struct SshKeys(Arc<RwLock<Arc<[Secret]>>>);

impl SshKeys {
    /// Takes others from the next connection on.
    pub fn set(&self, keys: impl Into<Arc<[Secret]>>) {
        *self.0.write() = keys.into();
    }

    /// As they are now.
    pub fn all(&self) -> Arc<[Secret]> {
        self.0.read().clone()
    }
}

impl From<Secret> for SshKeys {
    fn from(key: Secret) -> Self {
        Self(Arc::new(RwLock::new([key].into())))
    }
}
