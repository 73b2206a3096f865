//! Exchanging the master key while everything goes on: values stay as they are, only the keys over them change.

use chrono::Utc;
use tracing::{error, info};

use super::{Vault, VaultError, WRAPPED};

/// Data keys at a time.
const BATCH: u64 = 200;

/// What an exchange did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrapped {
    /// The master key that all of them are under now.
    pub master_key_id: String,
    /// How many were put under it.
    pub rewrapped: u64,
    /// How many are under a master key that this gateway does not have, and stay there.
    pub unreadable: u64,
    /// How many there are in all.
    pub all: u64,
}

impl Vault {
    /// Reads the master keys again and puts every data key under the first of them. Reads and writes go on meanwhile. Cut
    /// off anywhere, it goes on when it is called again.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub async fn rewrap(&self) -> Result<Rewrapped, VaultError> {
        self.reread()?;
        let master = self.keys.read().current().clone();
        let master_key_id = master.id();
        let (mut rewrapped, mut unreadable, mut after) = (0, 0, String::new());
        loop {
            let rows = self.database.data_key_list_of_others(&master_key_id, &after, BATCH).await?;
            let Some(last) = rows.last() else { break };
            after.clone_from(&last.owner);
            for row in rows {
                let known = self.keys.read().find(&row.master_key_id);
                let Some(former) = known else {
                    error!(owner = row.owner, master_key = row.master_key_id, "no such master key to open a data key");
                    unreadable += 1;
                    continue;
                };
                let context = [WRAPPED, &row.owner];
                let wrapped = master.seal(&context, &former.open(&context, &row.wrapped)?)?;
                // Somebody else who was first did the same.
                if self.database.data_key_rewrap(&row, &master_key_id, wrapped, Utc::now()).await? {
                    rewrapped += 1;
                }
            }
        }
        let all = self.database.data_key_count().await?;
        info!(master_key = master_key_id, rewrapped, unreadable, all, "put data keys under the current master key");
        Ok(Rewrapped { master_key_id, rewrapped, unreadable, all })
    }
}
