//! Where the host takes SSH, and by which keys it is known.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pinacle_bus::contract::inventory::SshEndpoint;

use crate::settings::AgentSettings;

const USUAL_PORT: u16 = 22;
/// `Include` within `Include` goes no deeper, as in sshd itself.
const DEEPEST: usize = 16;
const MOST_KEYS: usize = 16;
const LONGEST_KEY: usize = 2048;

/// The endpoint; `None` when nothing listens on the port, so that there is no SSH to be had.
pub fn endpoint(settings: &AgentSettings, listens: impl Fn(u16) -> bool) -> Option<SshEndpoint> {
    let ssh = settings.etc_dir.join("ssh");
    let port = match settings.ssh_port {
        0 => Some(port(&ssh.join("sshd_config"), &ssh, 0).unwrap_or(USUAL_PORT)).filter(|port| listens(*port))?,
        set => set,
    };
    let keys = if settings.ssh_keys_dir.as_os_str().is_empty() { &ssh } else { &settings.ssh_keys_dir };
    let told = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Some(SshEndpoint {
        address: told(&settings.ssh_address),
        port,
        user: told(&settings.ssh_user),
        host_keys: host_keys(keys),
    })
}

/// The first `Port` outside of any `Match`; later ones only add further ports.
fn port(config: &Path, ssh: &Path, depth: usize) -> Option<u16> {
    let text = fs::read_to_string(config).ok()?;
    for line in text.lines() {
        let mut words =
            line.split(|letter: char| letter.is_ascii_whitespace() || letter == '=').filter(|word| !word.is_empty());
        let Some(keyword) = words.next() else { continue };
        match keyword.to_ascii_lowercase().as_str() {
            "port" => return words.next().and_then(|port| port.parse().ok()),
            "match" => return None,
            "include" if depth < DEEPEST => {
                let found =
                    words.flat_map(|pattern| included(pattern, ssh)).find_map(|path| port(&path, ssh, depth + 1));
                if found.is_some() {
                    return found;
                }
            }
            _ => {}
        }
    }
    None
}

/// Files that a pattern names, in order. A star is understood in the file's name, where distributions use it.
fn included(pattern: &str, ssh: &Path) -> Vec<PathBuf> {
    let pattern = pattern.trim_matches('"');
    // Distributions spell it in full; under another root that is this one.
    let pattern = pattern.strip_prefix("/etc/ssh/").unwrap_or(pattern);
    let path = ssh.join(pattern);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let Some((before, after)) = name.split_once('*') else { return vec![path] };
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            entry.file_name().to_str().is_some_and(|name| name.starts_with(before) && name.ends_with(after))
        })
        .map(|entry| entry.path())
        .collect();
    found.sort_unstable();
    found
}

/// Public keys: algorithm and key, without the comment.
fn host_keys(folder: &Path) -> Vec<String> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let mut keys: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.ends_with("_key.pub")))
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            let mut words = text.split_ascii_whitespace();
            let key = format!("{} {}", words.next()?, words.next()?);
            (key.len() <= LONGEST_KEY).then_some(key)
        })
        .collect();
    keys.sort_unstable();
    keys.truncate(MOST_KEYS);
    keys
}
