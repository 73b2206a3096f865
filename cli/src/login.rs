//! `pinacle login`, `logout` and `whoami`: a token of this machine's own for a gateway, kept where its user alone reads it.

mod stored;

use std::path::Path;

use pinacle_bus::{contract::Timestamp, settings::Secret};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::json;

use crate::{
    api::{Api, Whole},
    args::{Global, LoginArgs},
    failure::Failure,
    figures::{clean, moment},
    host::Page,
    local::read_secret,
    place::{Found, Place},
    prompt,
    terminal::Terminal,
};

pub(crate) use stored::Stored;

/// As the gateway has it.
const LONGEST_NAME: usize = 64;
/// All that a person can have; each command takes one of them.
const GRANTS: [&str; 4] = ["read", "pods", "hosts", "admin"];

#[derive(Deserialize)]
struct Made {
    token: String,
    expires_at: Option<Timestamp>,
}

/// `pinacle login`.
pub(crate) async fn run(global: &Global, terminal: &Terminal, args: LoginArgs) -> Result<(), Failure> {
    let place = Place::find(global)?;
    guard(&place.gateway)?;
    let api = Api::of(&place)?;
    let made = match &global.token_file {
        Some(file) => Made { token: given(file)?.expose().to_owned(), expires_at: None },
        None => make(&api, args).await?,
    };
    let api = api.with_token(&Secret::new(made.token.as_str()))?;
    let Some(account) = api.account().await? else {
        return Err(Failure::input("this is the installation's own token, which is nobody's: log in as a person"));
    };
    let login = Stored {
        gateway: place.gateway.clone(),
        email: account.email.clone(),
        token: made.token,
        expires_at: made.expires_at,
        authority: place.authority.clone(),
        since: Timestamp::now(),
    };
    login.keep()?;
    // What it takes the place of is of no more use to anybody. Its end alone is no reason to fail.
    if let Some(before) = place.login.as_ref().filter(|before| before.token != login.token) {
        let _ = Api::of(&place)?.with_token(&Secret::new(before.token.as_str()))?.end_token().await;
    }
    let until = login.expires_at.map(|end| format!(" until {}", moment(end))).unwrap_or_default();
    let told = json!({ "gateway": login.gateway, "email": login.email, "expires_at": login.expires_at });
    terminal.done(&told, &format!("logged in to {} as {}{until}", login.gateway, login.email))
}

/// A token that was made elsewhere.
fn given(file: &Path) -> Result<Secret, Failure> {
    if file != Path::new("-") {
        return read_secret(file);
    }
    let line = prompt::line()?;
    match line.trim() {
        "" => Err(Failure::input("there is no token on standard input")),
        token => Ok(Secret::new(token)),
    }
}

/// Makes a token by a session, which ends with that.
async fn make(api: &Api, args: LoginArgs) -> Result<Made, Failure> {
    let may_ask = prompt::is_possible();
    if !may_ask && !args.password_stdin {
        return Err(Failure::input("nobody can be asked here: hand the password over with --password-stdin"));
    }
    let email = match args.email {
        Some(email) => email,
        None if may_ask && !args.password_stdin => prompt::ask("e-mail")?.trim().to_owned(),
        None => return Err(Failure::input("--email is missing: nobody can be asked for it here")),
    };
    let secret = |question: &str| if args.password_stdin { prompt::line() } else { prompt::ask_hidden(question) };
    let password = Secret::new(secret("password")?.as_str());
    let session = match api.sign_in(&email, &password, None).await? {
        Some(session) => session,
        None => {
            let code = secret("code of the app, or a recovery code")?;
            let missing = || {
                Failure::input("the account has a second factor: its code goes into the second line of standard input")
            };
            let code = Some(code.trim()).filter(|code| !code.is_empty()).ok_or_else(missing)?;
            api.sign_in(&email, &password, Some(code)).await?.ok_or_else(missing)?
        }
    };
    let body = json!({ "name": name(), "grants": GRANTS, "days": args.days });
    let made = session.change(Method::POST, "/tokens", &body).await;
    // One that cannot be ended now ends by itself, unused.
    let _ = session.send(Method::DELETE, "/sessions/current", &[]).await;
    Ok(Whole::read(made?)?.view)
}

/// What the token is called: people find the machine in the list of their tokens.
fn name() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let name = format!("pinacle login on {}", host.to_string_lossy());
    name.chars().filter(|letter| !letter.is_control()).take(LONGEST_NAME).collect()
}

/// Without TLS a password, or a token, is for whoever listens on the way.
fn guard(gateway: &str) -> Result<(), Failure> {
    let host = gateway.parse::<Url>().ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    let is_here = host == "localhost" || address.is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    if gateway.starts_with("https://") || is_here {
        return Ok(());
    }
    Err(Failure::input(format!("--gateway: without https:// others on the way to {host} could read what lets you in")))
}

/// `pinacle logout`.
pub(crate) async fn logout(global: &Global, terminal: &Terminal) -> Result<(), Failure> {
    let place = Place::find(global)?;
    let Some(login) = &place.login else {
        return Err(Failure::failed(format!("nobody is logged in to {}: see pinacle whoami", place.gateway)));
    };
    let ended = Api::of(&place)?.with_token(&Secret::new(login.token.as_str()))?.end_token().await;
    // Forgotten alone it would let in whoever has copied it.
    let ended = ended.map_err(|failure| Failure::failed(format!("the login stays: {}", failure.line())))?;
    login.forget()?;
    if !ended {
        terminal.hint("the token may not end itself: revoke it on the account's page, or with pinacle token revoke");
    }
    let told = json!({ "gateway": login.gateway, "email": login.email, "revoked": ended });
    terminal.done(&told, &format!("logged out of {}", login.gateway))
}

/// `pinacle whoami`.
pub(crate) async fn whoami(global: &Global, terminal: &Terminal) -> Result<(), Failure> {
    let place = Place::find(global)?;
    let (token, found) = place.token(global)?;
    let account = Api::of(&place)?.with_token(&token)?.account().await?;
    let (from, until) = match found {
        Found::File => ("token_file", None),
        Found::Environment => ("environment", None),
        Found::Login => ("login", place.login.as_ref().and_then(|login| login.expires_at)),
        Found::Local => ("local", None),
    };
    if terminal.json {
        let account = account.map(|account| account.json);
        return terminal.document(
            &json!({ "gateway": place.gateway, "account": account, "token_from": from, "expires_at": until }),
        );
    }
    let mut page = Page { terminal, text: String::new() };
    match &account {
        Some(account) => {
            page.line("you are", clean(&account.email));
            page.line("name", clean(&account.name));
            page.line("id", clean(&account.user_id));
            if account.is_admin {
                page.line("admin", "of this installation");
            }
        }
        None => page.line("you are", "the installation itself"),
    }
    page.line("gateway", clean(&place.gateway));
    page.line(
        "token",
        match found {
            Found::File => "of --token-file or PINACLE_TOKEN_FILE".to_owned(),
            Found::Environment => "of PINACLE_TOKEN".to_owned(),
            Found::Login => until
                .map_or_else(|| "of pinacle login".into(), |end| format!("of pinacle login, until {}", moment(end))),
            Found::Local => "of the local pinacle up".to_owned(),
        },
    );
    terminal.text(&page.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_somebody_in_goes_nowhere_in_the_open() {
        for good in ["https://pinacle.example.org", "http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost"] {
            assert!(guard(good).is_ok(), "{good}");
        }
        for bad in ["http://pinacle.example.org", "http://10.0.0.5:8080", "http://localhost.example.org"] {
            assert!(guard(bad).is_err(), "{bad}");
        }
    }
}
