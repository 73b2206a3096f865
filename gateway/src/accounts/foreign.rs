//! From who somebody is at a provider to the account that is theirs here: by the identity that was linked before, else by
//! an address that the provider says is proven.

use chrono::{TimeDelta, Utc};
use pinacle_bus::contract::UserId;
use pinacle_store::{AccountRow, AccountTokenPurpose, AccountTokenRow, ForeignIdentity};
use tracing::info;

use super::{
    Accounts, email,
    provider::{Foreigner, Provider},
    token,
};
use crate::{problem::Problem, settings::SignUp};

/// How long somebody may take to find their second factor.
const PENDING: TimeDelta = TimeDelta::minutes(5);

impl Accounts {
    /// The providers that people sign in with.
    pub fn providers(&self) -> &[Provider] {
        &self.providers
    }

    /// Whose account this is, linked now if need be; `None` when it is nobody's who may come in.
    ///
    /// # Errors
    /// When that cannot be told now.
    pub async fn of_foreigner(&self, foreigner: &Foreigner) -> Result<Option<AccountRow>, Problem> {
        let may = |account: &AccountRow| account.suspended_at.is_none();
        if let Some(account) = self.database.account_of_identity(&foreigner.issuer, &foreigner.subject).await? {
            return Ok(Some(account).filter(may));
        }
        let Some(Ok(address)) = foreigner.email.as_deref().map(email::normalize) else { return Ok(None) };
        let now = Utc::now();
        let new = (self.sign_up == SignUp::Open).then(|| AccountRow {
            user_id: UserId::new().to_string(),
            email: address.clone(),
            name: email::name(&foreigner.name).unwrap_or_default(),
            password_hash: None,
            email_verified_at: None,
            is_admin: false,
            suspended_at: None,
            created_at: now,
        });
        let identity =
            ForeignIdentity { issuer: foreigner.issuer.clone(), subject: foreigner.subject.clone(), email: address };
        let linked = self.database.account_link(&identity, new.as_ref(), &self.admins, now).await?;
        let Some(user_id) = linked else { return Ok(None) };
        info!(user_id, issuer = identity.issuer, "somebody's identity was linked");
        Ok(self.database.account_find(&user_id).await?)
    }

    /// What goes on with a sign-in that lacks its second factor; `None` when none is asked for.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub async fn pending_factor(&self, account: &AccountRow) -> Result<Option<String>, Problem> {
        if !self.factor_state(account).await?.is_on {
            return Ok(None);
        }
        let now = Utc::now();
        let secret = token::generate();
        let row = AccountTokenRow {
            token_hash: token::digest(&secret).unwrap_or_default(),
            user_id: account.user_id.clone(),
            purpose: AccountTokenPurpose::Factor.as_str().to_owned(),
            email: account.email.clone(),
            created_at: now,
            expires_at: now + PENDING,
        };
        self.database.account_token_put(row, TimeDelta::zero()).await?;
        Ok(Some(secret))
    }
}
