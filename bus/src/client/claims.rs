//! Pushing an account's claims to the servers, by which users are revoked.

use serde::Deserialize;

use super::{Bus, BusError, BusErrorKind};

const UPDATE: &str = "$SYS.REQ.CLAIMS.UPDATE";

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    error: Option<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    description: String,
}

impl Bus {
    /// Pushes an account's claims: the servers keep them and end the connections of users that they revoke. For a
    /// connection with the credentials of a user of the system account, see
    /// [`Authority::system_user`](crate::trust::Authority).
    ///
    /// # Errors
    /// When the server refuses the claims or does not answer.
    pub async fn push_account_jwt(&self, jwt: &str) -> Result<(), BusError> {
        if !self.is_connected() {
            return Err(BusError::not_connected());
        }
        let answer = self
            .client()
            .request(UPDATE, jwt.to_owned().into())
            .await
            .map_err(BusError::from_source("push an account's claims"))?;
        let answer: Answer =
            serde_json::from_slice(&answer.payload).map_err(BusError::from_source("push an account's claims"))?;
        match answer.error {
            None => Ok(()),
            Some(problem) => Err(BusError::new(BusErrorKind::Refused, "push an account's claims", problem.description)),
        }
    }
}
