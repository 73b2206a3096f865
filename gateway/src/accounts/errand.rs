//! What is done after the answer: looking whether an address has an account, and writing to it.

use std::sync::Arc;

use pinacle_store::{AccountRow, AccountTokenPurpose};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{APART, Accounts, Link, mail::Letter};
use crate::problem::{Code, Problem};

/// Errands that are run at once.
const AT_ONCE: usize = 16;

/// What is to be done.
pub enum Errand {
    /// Somebody wants an account.
    SignUp {
        /// Their address, as it is kept.
        email: String,
        /// What they call themselves.
        name: String,
    },
    /// Somebody invites somebody.
    Invite {
        /// Whom.
        email: String,
        /// What they are called.
        name: String,
    },
    /// Somebody has lost their password.
    Reset {
        /// Their address, as it is kept.
        email: String,
    },
    /// Somebody wants another address.
    Address {
        /// The address, as it is kept.
        email: String,
        /// Where its owner takes it.
        link: String,
    },
    /// A letter is to be sent.
    Letter(Letter),
}

impl Accounts {
    /// Runs errands, a few at once, until all is to end: a mail server that does not answer holds up no other letter.
    pub async fn run_errands(self: Arc<Self>, mut waiting: mpsc::Receiver<Errand>, stop: CancellationToken) {
        let mut running = JoinSet::new();
        while let Some(Some(errand)) = stop.run_until_cancelled(waiting.recv()).await {
            if running.len() >= AT_ONCE {
                running.join_next().await;
            }
            let accounts = self.clone();
            running.spawn(async move {
                if let Err(problem) = accounts.run(errand).await {
                    warn!(code = problem.code().as_str(), "cannot run an errand: {}", problem.detail());
                }
            });
        }
    }

    async fn run(&self, errand: Errand) -> Result<(), Problem> {
        match errand {
            Errand::SignUp { email, name } => {
                let text =
                    "somebody, probably you, asked for an account with this address. To take it, set a password:";
                self.welcome(&email, &name, text).await
            }
            Errand::Invite { email, name } => {
                let text = "somebody invites you. To take the account, set a password:";
                self.welcome(&email, &name, text).await
            }
            Errand::Reset { email } => match self.database.account_by_email(&email).await? {
                Some(account) if account.suspended_at.is_none() => self.write_reset(&account).await,
                _ => Ok(()),
            },
            Errand::Address { email, link } => self.write_to_new_address(email, link).await,
            Errand::Letter(letter) => {
                self.mailer.send(letter).await;
                Ok(())
            }
        }
    }

    async fn welcome(&self, email: &str, name: &str, text: &str) -> Result<(), Problem> {
        let account = match self.create(email, name, false).await {
            Ok(account) => account,
            Err(problem) if problem.code() == Code::EmailTaken => match self.database.account_by_email(email).await? {
                // Who is there already and forgot is helped in the same way.
                Some(account) if account.email_verified_at.is_some() => return self.write_reset(&account).await,
                Some(account) => account,
                None => return Ok(()),
            },
            Err(problem) => return Err(problem),
        };
        let link = self.password_link(&account, AccountTokenPurpose::Invite, APART).await?;
        self.write(account, link, "Your account", text).await
    }

    async fn write_reset(&self, account: &AccountRow) -> Result<(), Problem> {
        let link = self.password_link(account, AccountTokenPurpose::Reset, APART).await?;
        let text = "somebody, probably you, asked for a new password of your account. Set it here:";
        self.write(account.clone(), link, "A new password", text).await
    }

    async fn write(
        &self,
        account: AccountRow,
        link: Option<Link>,
        subject: &'static str,
        text: &str,
    ) -> Result<(), Problem> {
        // With none the letter before is moments old.
        if let Some(link) = link {
            // Without their name: whoever asked for an account may have put anything there.
            let text = format!("Hello,\n\n{text}");
            self.mailer.send(Letter { to: account.email, subject, text, link: Some(link.url) }).await;
        }
        Ok(())
    }

    /// The letter that brings an invitation's link, sent after the answer.
    ///
    /// # Errors
    /// When too much waits.
    pub fn write_invitation(&self, account: &AccountRow, link: &Link) -> Result<(), Problem> {
        let text = "Hello,\n\nan account was made for you. To take it, set a password:".to_owned();
        let (to, link) = (account.email.clone(), Some(link.url.clone()));
        self.later(Errand::Letter(Letter { to, subject: "Your account", text, link }))
    }
}
