//! Providers that people sign in with: any of OpenID Connect, and GitHub. Each says who somebody is there, and which
//! address it has seen to be theirs.

use openidconnect::PkceCodeVerifier;

use super::{
    fetch::{Fetch, FetchError},
    github::GitHub,
    oidc::Oidc,
};
use crate::settings::Gateway;

/// Somebody at a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreigner {
    /// The provider.
    pub issuer: String,
    /// Who they are there.
    pub subject: String,
    /// Their address, if the provider says that it is proven.
    pub email: Option<String>,
    /// What they are called.
    pub name: String,
}

/// Why a provider did not say who somebody is.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It does not answer.
    #[error("the provider cannot be asked")]
    Unavailable(#[source] FetchError),
    /// What it says cannot be believed or used.
    #[error("{0}")]
    Refused(String),
}

/// A provider.
pub enum Provider {
    /// By OpenID Connect.
    Oidc(Box<Oidc>),
    /// GitHub, which speaks OAuth 2 only.
    GitHub(GitHub),
}

/// What a flow carries to a provider.
pub struct Challenge {
    /// What comes back with the code.
    pub state: String,
    /// What comes back in the ID token.
    pub nonce: String,
    /// What the code is exchanged with.
    pub verifier: PkceCodeVerifier,
}

impl Provider {
    /// Those that are set.
    ///
    /// # Errors
    /// When one is set in a way that cannot be used.
    pub fn all(settings: &Gateway, public_url: &str) -> anyhow::Result<Vec<Self>> {
        let mut providers = Vec::new();
        if !settings.oidc_issuer.is_empty() {
            providers.push(Self::Oidc(Box::new(Oidc::new(settings, public_url, Fetch::new()?)?)));
        }
        if !settings.github_client_id.is_empty() {
            providers.push(Self::GitHub(GitHub::new(settings, public_url, Fetch::new()?)?));
        }
        Ok(providers)
    }

    /// Its name in paths.
    pub fn id(&self) -> &'static str {
        match self {
            Self::Oidc(_) => "oidc",
            Self::GitHub(_) => "github",
        }
    }

    /// Its name for people.
    pub fn name(&self) -> &str {
        match self {
            Self::Oidc(oidc) => oidc.name(),
            Self::GitHub(_) => "GitHub",
        }
    }

    /// Where somebody goes to say who they are.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn begin(&self, challenge: &Challenge) -> Result<String, ProviderError> {
        match self {
            Self::Oidc(oidc) => oidc.begin(challenge).await,
            Self::GitHub(github) => Ok(github.begin(challenge)),
        }
    }

    /// Who came back with this code.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn finish(&self, code: String, challenge: Challenge) -> Result<Foreigner, ProviderError> {
        match self {
            Self::Oidc(oidc) => oidc.finish(code, challenge).await,
            Self::GitHub(github) => github.finish(&code, challenge).await,
        }
    }
}
