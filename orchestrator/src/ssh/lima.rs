//! Where a Lima machine takes SSH: a port of this machine that may be another after each of its starts.

use std::process::Stdio;

use serde::Deserialize;
use tokio::process::Command;

use super::ConnectError;

/// What is read of a line of `limactl list --json`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Machine {
    name: String,
    status: String,
    #[serde(default)]
    ssh_local_port: u16,
    ssh_address: Option<String>,
}

/// Asks `limactl` for a machine's address and port. The caller keeps the deadline; dropped, it ends the program.
pub async fn resolve(limactl: &str, name: &str) -> Result<(String, u16), ConnectError> {
    let failed = |detail: String| ConnectError::Lima { name: name.into(), detail };
    let output = Command::new(limactl)
        .args(["list", "--json", "--", name])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| failed(format!("{limactl}: {error}")))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().chars().take(500).collect()));
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    let mut machines = lines.lines().filter_map(|line| serde_json::from_str::<Machine>(line).ok());
    match machines.find(|machine| machine.name == name) {
        None => Err(failed("limactl does not list it".into())),
        Some(machine) if machine.status != "Running" || machine.ssh_local_port == 0 => {
            Err(failed(format!("its status is {}", machine.status)))
        }
        Some(machine) => Ok((machine.ssh_address.unwrap_or_else(|| "127.0.0.1".into()), machine.ssh_local_port)),
    }
}
