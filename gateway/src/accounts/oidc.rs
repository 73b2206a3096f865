//! Signing in by OpenID Connect: the authorization code flow with PKCE, state and nonce.

use std::time::Duration;

use anyhow::Context as _;
use openidconnect::{
    AccessTokenHash, AuthorizationCode, ClientId, ClientSecret, CsrfToken, DiscoveryError, IssuerUrl, Nonce,
    OAuth2TokenResponse, PkceCodeChallenge, RedirectUrl, RequestTokenError, Scope, TokenResponse, UserInfoError,
    core::{CoreAuthenticationFlow, CoreClient, CoreProviderMetadata, CoreUserInfoClaims},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    fetch::Fetch,
    provider::{Challenge, Foreigner, ProviderError},
};
use crate::settings::Gateway;

/// How long what the provider says of itself, its keys included, is not asked again.
const KNOWN_FOR: Duration = Duration::from_secs(300);

/// See the module.
pub struct Oidc {
    name: String,
    issuer: IssuerUrl,
    client_id: ClientId,
    client_secret: Option<ClientSecret>,
    redirect: RedirectUrl,
    fetch: Fetch,
    known: Mutex<Option<(Instant, CoreProviderMetadata)>>,
}

/// What the provider says of somebody.
struct Claims {
    subject: String,
    email: Option<String>,
    is_verified: bool,
    name: Option<String>,
}

impl Oidc {
    /// From the settings.
    pub fn new(settings: &Gateway, public_url: &str, fetch: Fetch) -> anyhow::Result<Self> {
        let secret = settings.oidc_client_secret.expose();
        Ok(Self {
            name: settings.oidc_name.clone(),
            issuer: IssuerUrl::new(settings.oidc_issuer.clone()).context("gateway.oidc_issuer: is no address")?,
            client_id: ClientId::new(settings.oidc_client_id.clone()),
            client_secret: (!secret.is_empty()).then(|| ClientSecret::new(secret.to_owned())),
            redirect: RedirectUrl::new(format!("{public_url}/auth/oidc/callback")).context("gateway.public_url")?,
            fetch,
            known: Mutex::default(),
        })
    }

    /// Its name for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where somebody goes to say who they are.
    pub async fn begin(&self, challenge: &Challenge) -> Result<String, ProviderError> {
        let metadata = self.metadata().await?;
        let client = CoreClient::from_provider_metadata(metadata, self.client_id.clone(), self.client_secret.clone())
            .set_redirect_uri(self.redirect.clone());
        let (state, nonce) = (challenge.state.clone(), challenge.nonce.clone());
        let (url, _, _) = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || CsrfToken::new(state),
                move || Nonce::new(nonce),
            )
            .add_scope(Scope::new("email".into()))
            .add_scope(Scope::new("profile".into()))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&challenge.verifier))
            .url();
        Ok(url.into())
    }

    /// Who came back with this code.
    pub async fn finish(&self, code: String, challenge: Challenge) -> Result<Foreigner, ProviderError> {
        let claims = match self.claims(code, challenge).await {
            Ok(claims) => claims,
            Err(error) => {
                // Its keys may have changed: the next attempt asks for them anew.
                *self.known.lock() = None;
                return Err(error);
            }
        };
        Ok(Foreigner {
            issuer: self.issuer.to_string(),
            subject: claims.subject,
            email: claims.email.filter(|_| claims.is_verified),
            name: claims.name.unwrap_or_default(),
        })
    }

    async fn claims(&self, code: String, challenge: Challenge) -> Result<Claims, ProviderError> {
        let metadata = self.metadata().await?;
        let client = CoreClient::from_provider_metadata(metadata, self.client_id.clone(), self.client_secret.clone())
            .set_redirect_uri(self.redirect.clone());
        let exchange =
            client.exchange_code(AuthorizationCode::new(code)).map_err(refused("it has no token endpoint"))?;
        let exchange = exchange.set_pkce_verifier(challenge.verifier);
        let tokens = exchange.request_async(&self.fetch).await.map_err(|error| match error {
            RequestTokenError::Request(error) => ProviderError::Unavailable(error),
            other => refused("it takes the code for none")(other),
        })?;
        let verifier = client.id_token_verifier();
        let token = tokens.id_token().ok_or_else(|| ProviderError::Refused("it sent no ID token".into()))?;
        let nonce = Nonce::new(challenge.nonce);
        let claims = token.claims(&verifier, &nonce).map_err(refused("its ID token cannot be believed"))?;
        if let Some(expected) = claims.access_token_hash() {
            let algorithm = token.signing_alg().map_err(refused("its ID token cannot be believed"))?;
            let key = token.signing_key(&verifier).map_err(refused("its ID token cannot be believed"))?;
            let found = AccessTokenHash::from_token(tokens.access_token(), algorithm, key);
            if found.map_err(refused("its ID token cannot be believed"))? != *expected {
                return Err(ProviderError::Refused("its access token is not the ID token's".into()));
            }
        }
        if claims.email().is_some() {
            return Ok(Claims {
                subject: claims.subject().to_string(),
                email: claims.email().map(|email| email.to_string()),
                is_verified: claims.email_verified() == Some(true),
                name: claims.name().and_then(|name| name.get(None)).map(|name| name.to_string()),
            });
        }
        // Many tell the address at their other endpoint only.
        let asked = client
            .user_info(tokens.access_token().to_owned(), Some(claims.subject().clone()))
            .map_err(refused("it tells no address"))?;
        let info: CoreUserInfoClaims = asked.request_async(&self.fetch).await.map_err(|error| match error {
            UserInfoError::Request(error) => ProviderError::Unavailable(error),
            other => refused("what it tells of somebody cannot be used")(other),
        })?;
        Ok(Claims {
            subject: info.subject().to_string(),
            email: info.email().map(|email| email.to_string()),
            is_verified: info.email_verified() == Some(true),
            name: info.name().and_then(|name| name.get(None)).map(|name| name.to_string()),
        })
    }

    async fn metadata(&self) -> Result<CoreProviderMetadata, ProviderError> {
        if let Some((at, metadata)) = self.known.lock().as_ref()
            && at.elapsed() < KNOWN_FOR
        {
            return Ok(metadata.clone());
        }
        let found = CoreProviderMetadata::discover_async(self.issuer.clone(), &self.fetch).await;
        let metadata = found.map_err(|error| match error {
            DiscoveryError::Request(error) => ProviderError::Unavailable(error),
            other => refused("what it says of itself cannot be used")(other),
        })?;
        *self.known.lock() = Some((Instant::now(), metadata.clone()));
        Ok(metadata)
    }
}

fn refused<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> ProviderError {
    move |error| ProviderError::Refused(format!("{what}: {error}"))
}
