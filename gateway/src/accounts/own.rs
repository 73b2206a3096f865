//! One's own account: another address, proven by a link that goes there, and the account's end.

use chrono::Utc;
use pinacle_store::{AccountRow, AccountTokenPurpose, Belongings, LAST_ADMIN, LAST_OWNER, StoreErrorKind};
use tracing::info;

use super::{APART, Accounts, Errand, email, mail::Letter, token};
use crate::problem::{Code, Problem};

/// Where the link leads that takes an address.
const PAGE: &str = "/confirm-email";

impl Accounts {
    /// Has a link sent to an address that is to be somebody's. Whether it has an account is not told.
    ///
    /// # Errors
    /// When the password is not right, the address is none or theirs already, or they asked moments ago.
    pub async fn ask_for_address(&self, account: &AccountRow, password: String, new: &str) -> Result<(), Problem> {
        self.check_own_password(account, "password", password).await?;
        let email = email::normalize(new)?;
        if email == account.email {
            return Err(Problem::field(Code::InvalidBody, "email", "is your address already"));
        }
        // Made for any address: who is refused for having asked before learns nothing about that one.
        let link = self.link(account, AccountTokenPurpose::Email, &email, APART, PAGE).await?;
        let link = link.ok_or_else(|| {
            let wait = APART.to_std().unwrap_or_default();
            Problem::new(Code::RateLimited, "you asked for another address moments ago; wait a minute").after(wait)
        })?;
        self.later(Errand::Address { email, link: link.url })
    }

    /// The letter with the link, unless the address has an account.
    pub(super) async fn write_to_new_address(&self, email: String, link: String) -> Result<(), Problem> {
        if self.database.account_by_email(&email).await?.is_some() {
            return Ok(());
        }
        let text =
            "Hello,\n\nsomebody, probably you, wants this to be the address of their account. To take it:".into();
        self.mailer.send(Letter { to: email, subject: "Your new address", text, link: Some(link) }).await;
        Ok(())
    }

    /// Takes an address by the secret of its link, which is used up. The address before is told. Sessions but `keep` end.
    ///
    /// # Errors
    /// When the link is good no more, or the address has an account by now.
    pub async fn take_address(&self, secret: &str, keep: Option<&[u8]>) -> Result<AccountRow, Problem> {
        let refused = || Problem::new(Code::LinkRefused, Code::LinkRefused.explanation());
        let digest = token::digest(secret).ok_or_else(refused)?;
        let taken = self.database.account_email_by_token(&digest, keep, &self.admins, Utc::now()).await;
        let taken = taken.map_err(|error| match error.kind() {
            StoreErrorKind::Conflict { .. } => Problem::new(Code::EmailTaken, Code::EmailTaken.explanation()),
            _ => error.into(),
        });
        let (user_id, before) = taken?.ok_or_else(refused)?;
        info!(user_id, "somebody has another address");
        let text =
            "Hello,\n\nyour account has another address now, and letters about it go there. If that was not you, \
                    tell those who run this installation."
                .into();
        // The change stands, whether anybody can be told or not.
        let _ =
            self.later(Errand::Letter(Letter { to: before, subject: "Your address has changed", text, link: None }));
        self.database.account_find(&user_id).await?.ok_or_else(refused)
    }

    /// Deletes an account, whose sessions and tokens end with it.
    ///
    /// # Errors
    /// When it has something, or a team or the installation would have nobody.
    pub async fn delete(&self, account: &AccountRow, live: Belongings) -> Result<Result<(), Belongings>, Problem> {
        let deleted = self.database.account_delete(&account.user_id, live).await;
        let deleted = deleted.map_err(|error| match error.kind() {
            StoreErrorKind::NotFound => Problem::new(Code::NoAccount, Code::NoAccount.explanation()),
            StoreErrorKind::Conflict { constraint } => match constraint.as_str() {
                LAST_ADMIN => Problem::new(Code::LastAdmin, Code::LastAdmin.explanation()),
                LAST_OWNER => Problem::new(
                    Code::LastOwner,
                    "you are the only owner of a team: make somebody else its owner first, or end it",
                ),
                _ => error.into(),
            },
            _ => error.into(),
        })?;
        if deleted.is_ok() {
            info!(user_id = account.user_id, "somebody deleted their account");
        }
        Ok(deleted)
    }
}
