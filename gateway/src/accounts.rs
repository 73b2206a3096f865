//! People: who may have an account, how they prove an address, how they sign in.
//!
//! No answer tells whether an address has an account: what depends on that is done after the answer, by a task of its own,
//! and a password is held against some hash in any case.

mod email;
mod errand;
mod factor;
mod fetch;
pub mod flow;
mod foreign;
mod github;
mod mail;
mod oidc;
pub mod origin;
mod own;
mod password;
pub mod provider;
pub mod session;
pub mod token;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use pinacle_bus::contract::UserId;
use pinacle_store::{AccountRow, AccountTokenPurpose, AccountTokenRow, Database, StoreErrorKind};
use tokio::sync::mpsc;
use tracing::info;

pub use errand::Errand;
pub use mail::Letter;

use crate::{
    audit,
    problem::{Code, Problem},
    settings::{Gateway, SignUp},
    vault::Vault,
};
use mail::Mailer;
use password::Passwords;
use provider::Provider;
use session::{Fresh, Sessions, Visit};

/// Errands that may wait for their turn.
const MOST_ERRANDS: usize = 1000;
/// Links of one kind to one address come no closer than this.
const APART: TimeDelta = TimeDelta::seconds(60);
/// Where the link leads that sets a password.
const PASSWORD_PAGE: &str = "/set-password";

/// What requests about accounts work with.
pub struct Accounts {
    /// The accounts.
    pub database: Database,
    /// Their sessions.
    pub sessions: Sessions,
    vault: Arc<Vault>,
    passwords: Passwords,
    mailer: Mailer,
    providers: Vec<Provider>,
    errands: mpsc::Sender<Errand>,
    public_url: String,
    sign_up: SignUp,
    admins: Vec<String>,
    invite_link: TimeDelta,
    reset_link: TimeDelta,
}

/// A link that proves who follows it.
pub struct Link {
    /// The link; its secret stands behind the `#`, which browsers keep to themselves.
    pub url: String,
    /// Until when it is good.
    pub expires_at: DateTime<Utc>,
}

impl Accounts {
    /// From the settings, with the errands that are to be run: see [`Self::run_errands`].
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub fn new(
        settings: &Gateway,
        database: Database,
        vault: Arc<Vault>,
        dev: bool,
    ) -> anyhow::Result<(Self, mpsc::Receiver<Errand>)> {
        let (errands, waiting) = mpsc::channel(MOST_ERRANDS);
        let duration = |ms: u64| TimeDelta::milliseconds(i64::try_from(ms).unwrap_or(i64::MAX / 2));
        let accounts = Self {
            database,
            vault,
            sessions: Sessions::new(settings),
            passwords: Passwords::new()?,
            mailer: Mailer::new(settings, dev)?,
            providers: Provider::all(settings, &settings.public_url())?,
            errands,
            public_url: settings.public_url(),
            sign_up: settings.sign_up,
            admins: settings.admins(),
            invite_link: duration(settings.invite_link_ms),
            reset_link: duration(settings.reset_link_ms),
        };
        Ok((accounts, waiting))
    }

    /// How people come to accounts here.
    pub fn sign_up(&self) -> SignUp {
        self.sign_up
    }

    /// The origin that pages of ours have.
    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// Whether mail goes out.
    pub fn has_mail(&self) -> bool {
        self.mailer.is_set()
    }

    /// Who this is, if the password is theirs. What is wrong is not told.
    ///
    /// # Errors
    /// When it is not, when it cannot be told now.
    pub async fn check(&self, email: &str, password: String) -> Result<AccountRow, Problem> {
        let account = match email::normalize(email) {
            Ok(email) => self.database.account_by_email(&email).await?,
            Err(_) => None,
        };
        let hash = account.as_ref().and_then(|account| account.password_hash.clone());
        let fits = self.passwords.verify(password, hash).await?;
        let may = |account: &AccountRow| account.suspended_at.is_none() && account.email_verified_at.is_some();
        account
            .filter(|account| fits && may(account))
            .ok_or_else(|| Problem::new(Code::SignInRefused, Code::SignInRefused.explanation()))
    }

    /// Begins a session.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub async fn begin(&self, account: &AccountRow, visit: Visit) -> Result<Fresh, Problem> {
        let user_id: UserId = account
            .user_id
            .parse()
            .map_err(|error| Problem::internal(Code::Internal, "read an account's id", &error))?;
        let fresh = self.sessions.begin(user_id, visit, Utc::now());
        self.database.login_create(fresh.row.clone()).await?;
        if let Ok(login_id) = fresh.row.login_id.parse() {
            audit::signed_in(user_id, login_id);
        }
        info!(user_id = account.user_id, login_id = fresh.row.login_id, "somebody signed in");
        Ok(fresh)
    }

    /// Makes an account that its person comes into by a link; for an address that has none.
    ///
    /// # Errors
    /// When it has one, or the address or name are none.
    pub async fn create(&self, email: &str, name: &str, is_admin: bool) -> Result<AccountRow, Problem> {
        let row = AccountRow {
            user_id: UserId::new().to_string(),
            email: email::normalize(email)?,
            name: email::name(name)?,
            password_hash: None,
            email_verified_at: None,
            is_admin,
            suspended_at: None,
            created_at: Utc::now(),
        };
        match self.database.account_create(row.clone()).await {
            Ok(()) => Ok(row),
            Err(error) if matches!(error.kind(), StoreErrorKind::Conflict { .. }) => {
                Err(Problem::new(Code::EmailTaken, Code::EmailTaken.explanation()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A link that sets a password and proves the address. `None` when one was given moments ago.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub async fn password_link(
        &self,
        account: &AccountRow,
        purpose: AccountTokenPurpose,
        apart: TimeDelta,
    ) -> Result<Option<Link>, Problem> {
        self.link(account, purpose, &account.email, apart, PASSWORD_PAGE).await
    }

    /// A link that proves that its reader has this address, and leads to this page of ours.
    async fn link(
        &self,
        account: &AccountRow,
        purpose: AccountTokenPurpose,
        email: &str,
        apart: TimeDelta,
        page: &str,
    ) -> Result<Option<Link>, Problem> {
        let now = Utc::now();
        let good_for = if purpose == AccountTokenPurpose::Invite { self.invite_link } else { self.reset_link };
        let secret = token::generate();
        let row = AccountTokenRow {
            token_hash: token::digest(&secret).unwrap_or_default(),
            user_id: account.user_id.clone(),
            purpose: purpose.as_str().to_owned(),
            email: email.to_owned(),
            created_at: now,
            expires_at: now + good_for,
        };
        let expires_at = row.expires_at;
        let kept = self.database.account_token_put(row, apart).await?;
        Ok(kept.then(|| Link { url: format!("{}{page}#{secret}", self.public_url), expires_at }))
    }

    /// The link that the first admin comes in by, while nobody has come in yet. `None` afterwards.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub async fn first_link(&self) -> Result<Option<(String, Link)>, Problem> {
        if self.database.account_any().await? {
            return Ok(None);
        }
        let email = self.admins.first().map_or("admin@localhost", String::as_str);
        let account = match self.database.account_by_email(email).await? {
            Some(account) => account,
            None => match self.create(email, "Admin", true).await {
                Ok(account) => account,
                // Somebody else asked in the same moment.
                Err(problem) if problem.code() == Code::EmailTaken => {
                    match self.database.account_by_email(email).await? {
                        Some(account) => account,
                        None => return Err(problem),
                    }
                }
                Err(problem) => return Err(problem),
            },
        };
        let link = self.password_link(&account, AccountTokenPurpose::Invite, TimeDelta::zero()).await?;
        Ok(link.map(|link| (account.email, link)))
    }

    /// Sets a password by the secret of a link, which is used up. Sessions end.
    ///
    /// # Errors
    /// When the link is good no more, or the password weak, which leaves the link good.
    pub async fn set_password_by_link(&self, secret: &str, password: String) -> Result<AccountRow, Problem> {
        let refused = || Problem::new(Code::LinkRefused, Code::LinkRefused.explanation());
        let digest = token::digest(secret).ok_or_else(refused)?;
        let purposes = [AccountTokenPurpose::Invite, AccountTokenPurpose::Reset];
        let found = self.database.account_of_token(&digest, &purposes, Utc::now()).await?;
        let (account, _) = found.ok_or_else(refused)?;
        self.passwords.judge(&password, &[&account.email, &account.name]).await?;
        let hash = self.passwords.hash(password).await?;
        let set = self.database.account_password_by_token(&digest, &hash, &self.admins, Utc::now()).await?;
        let user_id = set.ok_or_else(refused)?;
        info!(user_id, "somebody set a password by a link");
        self.database.account_find(&user_id).await?.ok_or_else(refused)
    }

    /// Changes a password, which ends all sessions but `keep`.
    ///
    /// # Errors
    /// When the one before is not right, or the new one weak.
    pub async fn change_password(
        &self,
        account: &AccountRow,
        before: String,
        password: String,
        keep: Option<&str>,
    ) -> Result<(), Problem> {
        self.check_own_password(account, "current_password", before).await?;
        self.passwords.judge(&password, &[&account.email, &account.name]).await?;
        let hash = self.passwords.hash(password).await?;
        self.database.account_password_set(&account.user_id, &hash, keep).await?;
        info!(user_id = account.user_id, "somebody changed their password");
        Ok(())
    }

    /// Asks somebody who has signed in for their password once more.
    ///
    /// # Errors
    /// When it is another one.
    pub async fn check_own_password(
        &self,
        account: &AccountRow,
        field: &'static str,
        password: String,
    ) -> Result<(), Problem> {
        if self.passwords.verify(password, account.password_hash.clone()).await? {
            Ok(())
        } else {
            Err(Problem::field(Code::WrongPassword, field, "is not your password"))
        }
    }

    /// Has something done after the answer, so that the answer tells nothing.
    ///
    /// # Errors
    /// When too much waits.
    pub fn later(&self, errand: Errand) -> Result<(), Problem> {
        self.errands.try_send(errand).map_err(|_| Problem::new(Code::Overloaded, Code::Overloaded.explanation()))
    }

    /// An address as it is kept.
    ///
    /// # Errors
    /// When it is none.
    pub fn address(email: &str) -> Result<String, Problem> {
        email::normalize(email)
    }

    /// A name as it is kept.
    ///
    /// # Errors
    /// When it is too long.
    pub fn person_name(name: &str) -> Result<String, Problem> {
        email::name(name)
    }
}
