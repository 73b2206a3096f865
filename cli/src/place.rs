//! Which gateway is meant, and by which token it is asked: what was typed, else the environment, else what `pinacle login`
//! stored, else the local `pinacle up`.

use std::path::Path;

use pinacle_bus::settings::Secret;

use crate::{
    api::{address, tls},
    args::Global,
    failure::Failure,
    local::{Folder, read_secret},
    login::Stored,
};

const DEFAULT_GATEWAY: &str = "http://127.0.0.1:8080";

/// A gateway, and what was found about it.
pub(crate) struct Place {
    /// Its address.
    pub gateway: String,
    /// The authorities that its certificate is held against, as PEM; `None` = those that the system knows.
    pub authority: Option<String>,
    /// What `pinacle login` stored for it.
    pub login: Option<Stored>,
    /// The folder of the local `pinacle up`, if this is its gateway.
    local: Option<Folder>,
}

/// Where a token was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// In the file of `--token-file` or `PINACLE_TOKEN_FILE`.
    File,
    /// In `PINACLE_TOKEN`.
    Environment,
    /// Stored by `pinacle login`.
    Login,
    /// In the folder of the local `pinacle up`.
    Local,
}

impl Place {
    /// By the options, the environment, and what is stored.
    pub fn find(global: &Global) -> Result<Self, Failure> {
        let folder = Folder::find(global.data_dir.as_deref())?;
        let notice = folder.notice();
        let named = global.gateway.as_deref().map(address).transpose()?;
        // Whoever names a folder means the installation there.
        let login = match (&named, &global.data_dir) {
            (_, Some(_)) => None,
            (Some(gateway), None) => Stored::of(gateway),
            (None, None) => Stored::newest(),
        };
        let stored = login.as_ref().map(|login| login.gateway.clone());
        let gateway = named.clone().or(stored).or_else(|| notice.as_ref().map(|notice| notice.gateway.clone()));
        let gateway = gateway.unwrap_or_else(|| DEFAULT_GATEWAY.to_owned());
        let here = notice.filter(|notice| notice.gateway == gateway);
        // Its own token goes to no other gateway, unless somebody says both.
        let is_local = here.is_some() || global.data_dir.is_some() || (named.is_none() && login.is_none());
        let authority = match &global.gateway_ca {
            Some(file) => Some(tls::read(file)?),
            None => match login.as_ref().and_then(|login| login.authority.clone()) {
                Some(pem) => Some(pem),
                None => here.and_then(|notice| notice.gateway_ca).as_deref().map(tls::read).transpose()?,
            },
        };
        Ok(Self { gateway, authority, login, local: is_local.then_some(folder) })
    }

    /// A gateway that is known, such as the one that was just started.
    pub fn known(gateway: &str, authority: Option<&Path>) -> Result<Self, Failure> {
        let authority = authority.map(tls::read).transpose()?;
        Ok(Self { gateway: gateway.to_owned(), authority, login: None, local: None })
    }

    /// The token for it, and where that was found.
    pub fn token(&self, global: &Global) -> Result<(Secret, Found), Failure> {
        if let Some(file) = &global.token_file {
            return Ok((read_secret(file)?, Found::File));
        }
        if let Some(token) = token_of_the_environment() {
            return Ok((token, Found::Environment));
        }
        if let Some(login) = &self.login {
            return Ok((Secret::new(login.token.as_str()), Found::Login));
        }
        let file = self.local.as_ref().map(|folder| folder.secret("admin_token"));
        match file.filter(|file| file.exists()) {
            Some(file) => Ok((read_secret(&file)?, Found::Local)),
            None => Err(Failure::failed(format!(
                "there is no token for {}: pinacle login makes one, make up starts everything here, or name a file with \
                 --token-file",
                self.gateway
            ))),
        }
    }
}

/// `PINACLE_TOKEN`. It is no option: what is typed as one stands in the list of processes and in the shell's history.
fn token_of_the_environment() -> Option<Secret> {
    let mut all = std::env::vars_os();
    let (_, token) = all.find(|(name, value)| name == "PINACLE_TOKEN" && !value.is_empty())?;
    token.into_string().ok().map(Secret::new)
}
