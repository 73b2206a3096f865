//! What others wrote and people's accounts meet: a mail server, a provider of OpenID Connect. And a fake of GitHub.

use std::{fs, net::SocketAddr, path::PathBuf};

use crate::{Launch, Process, machine, sandbox::Sandbox};

/// A mail server, aiosmtpd, that keeps what it gets.
pub struct Mail {
    /// Where it listens.
    pub address: SocketAddr,
    folder: PathBuf,
    _process: Process,
}

impl Mail {
    /// Starts one.
    ///
    /// # Panics
    /// When it is not installed, or does not start.
    pub async fn start() -> Self {
        let address = machine::free_address();
        let sandbox = Sandbox::default();
        let folder = sandbox.folder("mail").join("box");
        let process = Launch::program(machine::tool("python3"))
            .named("aiosmtpd")
            .args(["-u", "-m", "aiosmtpd", "-n", "-d", "-l", &address.to_string(), "-c", "aiosmtpd.handlers.Mailbox"])
            .arg(&folder)
            .env("PYTHONPATH", installed("python"))
            .in_sandbox(&sandbox)
            .ready_line("Server is listening")
            .start()
            .await;
        Self { address, folder, _process: process }
    }

    /// The letters to somebody, in no order, with their long lines whole again (quoted-printable).
    pub fn to(&self, email: &str) -> Vec<String> {
        let files = fs::read_dir(self.folder.join("new")).into_iter().flatten().flatten();
        let letters = files.filter_map(|file| fs::read_to_string(file.path()).ok());
        let wanted = format!("X-RcptTo: {email}\n");
        letters.filter(|letter| letter.contains(&wanted)).map(|letter| letter.replace("=\n", "")).collect()
    }
}

/// A provider of OpenID Connect, oidc-provider; see `tests/peers/oidc.mjs`.
pub async fn oidc_provider(address: SocketAddr, redirect: &str) -> Process {
    node("oidc.mjs", address, redirect).await
}

/// A fake of GitHub with its real paths; see `tests/peers/github.mjs`.
pub async fn github_fake(address: SocketAddr, redirect: &str) -> Process {
    node("github.mjs", address, redirect).await
}

async fn node(script: &str, address: SocketAddr, redirect: &str) -> Process {
    Launch::program(machine::tool("node"))
        .named(script)
        .arg(machine::repository().join("tests/peers").join(script))
        .args([&address.port().to_string(), redirect])
        .env("PEERS", installed("node"))
        .ready_line("listening")
        .start()
        .await
}

fn installed(what: &str) -> PathBuf {
    let folder = machine::repository().join(".pinacle/peers").join(what);
    assert!(folder.is_dir(), "{} is missing; run scripts/setup test", folder.display());
    folder
}
