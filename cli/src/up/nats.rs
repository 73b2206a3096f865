//! The NATS server that `up` runs: the pinned program, our configuration, the installation's own keys.

use std::{
    fs::{self, File},
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};

use super::{
    home::Home,
    log::Dialect,
    part::{Part, is_program},
    probe::Probe,
    trust,
};
use crate::failure::Failure;

const CONFIGURATION: &str = include_str!("../../../nats/single.conf");
const PINNED: &str = include_str!("../../../nats/pinned");
const STOP: &[(Signal, Duration)] = &[(Signal::SIGTERM, Duration::from_secs(15))];

/// The server as a part, its configuration written.
pub(super) fn part(home: &Home, program: PathBuf, address: SocketAddr, monitor_port: u16) -> Result<Part, Failure> {
    let configuration = home.folder.path("nats.conf");
    fs::write(&configuration, CONFIGURATION)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", configuration.display())))?;
    // The server reads them as values of its own language, in which these are texts.
    let quoted = |path: PathBuf| format!("\"{}\"", path.display()).into();
    let environment = vec![
        ("PINACLE_NATS_CERT".into(), quoted(home.folder.secret(trust::CERTIFICATE))),
        ("PINACLE_NATS_KEY".into(), quoted(home.folder.secret(trust::KEY))),
        ("PINACLE_NATS_ACCOUNTS".into(), quoted(home.folder.path("nats/accounts"))),
    ];
    let arguments = vec![
        "-c".into(),
        configuration.into(),
        "-a".into(),
        address.ip().to_string().into(),
        "-p".into(),
        address.port().to_string().into(),
        "-m".into(),
        monitor_port.to_string().into(),
        "-sd".into(),
        home.folder.path("nats").into(),
    ];
    Ok(Part {
        name: "nats",
        program,
        arguments,
        environment,
        account: None,
        _door: None,
        death_signal: "KILL",
        stop: STOP,
        probe: Probe::Nats(monitor_port),
        dialect: Dialect::Nats,
        // It reads its streams first.
        start_deadline: Duration::from_secs(120),
    })
}

/// The program: what the settings say, else where `nats/install` puts it. Only the pinned one is run, unless a person
/// named another.
pub(super) fn find(home: &Home, given: &Path) -> Result<PathBuf, Failure> {
    if !given.as_os_str().is_empty() {
        return if is_program(given) {
            Ok(given.to_owned())
        } else {
            Err(Failure::input(format!("up.nats_server: {} is no program", given.display())))
        };
    }
    let here = std::env::current_dir().unwrap_or_default();
    let me = std::env::current_exe().unwrap_or_default();
    let installed = here.ancestors().chain(me.ancestors()).map(|folder| folder.join(".pinacle/bin/nats-server"));
    let program =
        std::iter::once(home.folder.path("bin/nats-server"))
            .chain(installed)
            .find(|file| is_program(file))
            .ok_or_else(|| Failure::failed("nats: bin/nats-server is not in the data folder: run scripts/setup run"))?;
    let hash =
        sha256(&program).map_err(|error| Failure::failed(format!("cannot read {}: {error}", program.display())))?;
    if pinned() == Some(hash.as_str()) {
        Ok(program)
    } else {
        Err(Failure::failed(format!(
            "nats: {} is not the pinned program (its sha256 is {hash}): remove it and run scripts/setup run",
            program.display()
        )))
    }
}

/// The hash of the program for this kind of machine.
fn pinned() -> Option<&'static str> {
    PINNED
        .lines()
        .find_map(|line| line.strip_prefix("server_")?.strip_prefix(std::env::consts::ARCH)?.strip_prefix('='))
}

fn sha256(file: &Path) -> std::io::Result<String> {
    let mut file = File::open(file)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut block)?;
        let Some(part) = block.get(..read).filter(|part| !part.is_empty()) else { break };
        hasher.update(part);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_hash_is_found() {
        assert_eq!(pinned().unwrap().len(), 64);
    }
}
