//! What is kept encrypted in the database: people's secrets, and secrets about people.
//!
//! Each owner has a data key, which encrypts their values; it lies in the database wrapped by a master key, which does not.
//! A value is bound to its owner, its purpose and its row, so that whoever can write to the database cannot have one value
//! opened in the place of another. Master keys are `gateway.master_key`: the first one wraps, the others are former ones
//! that still open. A copy that meets a data key under a master key that it does not know reads its file again, so that
//! keys are exchanged while all copies run; [`Vault::rewrap`] does that.

mod master;
mod rewrap;

use chrono::Utc;
use parking_lot::RwLock;
use pinacle_bus::{
    crypto::{Key, NotOpened},
    settings::Secret,
};
use pinacle_store::{DataKeyRow, Database, StoreError};
use tracing::info;
use zeroize::Zeroizing;

use crate::problem::{Code, Problem};

pub use master::MasterKeys;
pub use rewrap::Rewrapped;

const WRAPPED: &str = "data key";

/// See the module.
pub struct Vault {
    keys: RwLock<MasterKeys>,
    setting: Secret,
    database: Database,
}

/// Why something was not sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was altered, or is not of this owner, purpose and row.
    #[error(transparent)]
    NotOpened(#[from] NotOpened),
    /// The owner has no data key, so nothing was ever sealed for them.
    #[error("the owner has no data key")]
    NoDataKey,
    /// A master key that this gateway does not have.
    #[error("a data key is wrapped by the master key {0}, which is not in gateway.master_key")]
    UnknownMasterKey(String),
    /// The master keys' file.
    #[error("gateway.master_key cannot be read again: {0}")]
    MasterKeys(String),
}

impl From<VaultError> for Problem {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Store(error) => error.into(),
            other => Self::internal(Code::Internal, "use the vault", &other),
        }
    }
}

impl Vault {
    /// Keeps data keys in `database`, under the master keys of `setting`; see [`MasterKeys::parse`].
    ///
    /// # Errors
    /// When the setting holds no keys.
    pub fn new(setting: Secret, database: Database) -> Result<Self, String> {
        Ok(Self { keys: RwLock::new(MasterKeys::parse(&setting)?), setting, database })
    }

    /// Encrypts a value of an owner's. `purpose` is what it is for, such as `totp`; `row` is where it is kept, such as a
    /// row's id.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub async fn seal(&self, owner: &str, purpose: &str, row: &str, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        let key = match self.data_key(owner).await {
            Err(VaultError::NoDataKey) => {
                self.make_data_key(owner).await?;
                self.data_key(owner).await?
            }
            other => other?,
        };
        Ok(key.seal(&[owner, purpose, row], plain)?)
    }

    /// What was sealed for this owner, purpose and row. Wiped from memory when it is dropped.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub async fn open(
        &self,
        owner: &str,
        purpose: &str,
        row: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        Ok(self.data_key(owner).await?.open(&[owner, purpose, row], sealed)?)
    }

    async fn data_key(&self, owner: &str) -> Result<Key, VaultError> {
        let row = self.database.data_key_get(owner).await?.ok_or(VaultError::NoDataKey)?;
        self.unwrap(&row)
    }

    /// Makes an owner's data key. Of two made at once the first stays.
    async fn make_data_key(&self, owner: &str) -> Result<(), VaultError> {
        let master = self.keys.read().current().clone();
        let row = DataKeyRow {
            owner: owner.to_owned(),
            master_key_id: master.id(),
            wrapped: master.seal(&[WRAPPED, owner], Key::random().as_bytes())?,
            created_at: Utc::now(),
            rewrapped_at: None,
        };
        Ok(self.database.data_key_insert(row).await?)
    }

    fn unwrap(&self, row: &DataKeyRow) -> Result<Key, VaultError> {
        let known = self.keys.read().find(&row.master_key_id);
        let master = match known {
            Some(master) => master,
            None => {
                self.reread()?;
                let found = self.keys.read().find(&row.master_key_id);
                found.ok_or_else(|| VaultError::UnknownMasterKey(row.master_key_id.clone()))?
            }
        };
        let key = master.open(&[WRAPPED, &row.owner], &row.wrapped)?;
        Ok(Key::from_bytes(&key).ok_or(NotOpened)?)
    }

    /// Takes the master keys as their file has them now.
    fn reread(&self) -> Result<(), VaultError> {
        let setting = self.setting.reread().map_err(|error| VaultError::MasterKeys(error.to_string()))?;
        if let Some(exposure) = setting.exposure() {
            return Err(VaultError::MasterKeys(exposure));
        }
        let keys = MasterKeys::parse(&setting).map_err(VaultError::MasterKeys)?;
        info!(master_key = keys.current().id(), "read the master keys again");
        *self.keys.write() = keys;
        Ok(())
    }
}
