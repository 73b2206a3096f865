//! Ports: whether one is free, who has it if not, and finding another.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
};

use crate::failure::Failure;

/// Refuses with one line when `address` cannot be listened on. `what` wants it, `option` changes it.
pub(super) fn require(what: &str, address: SocketAddr, option: &str) -> Result<(), Failure> {
    let Err(error) = TcpListener::bind(address) else { return Ok(()) };
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => {
            let holder = holder(address.port()).map_or_else(String::new, |holder| format!(" by {holder}"));
            format!("port {} is taken{holder}: stop that, or choose another with {option}", address.port())
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("{} is no address of this machine: choose another with {option}", address.ip())
        }
        io::ErrorKind::PermissionDenied => {
            format!("port {} is for root only: choose one above 1023 with {option}", address.port())
        }
        _ => format!("cannot listen on {address}: {error}"),
    };
    Err(Failure::failed(format!("{what}: {why}")))
}

/// `wanted` on loopback if it is free, else any that is. Between this and its use another process may take it; what
/// starts there then fails with its own line.
pub(super) fn free(wanted: u16) -> io::Result<u16> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if wanted != 0 && TcpListener::bind((loopback, wanted)).is_ok() {
        return Ok(wanted);
    }
    Ok(TcpListener::bind((loopback, 0))?.local_addr()?.port())
}

/// The process that listens on a port, as far as `/proc` tells, such as `nats-server (pid 4711)`.
fn holder(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| listener_inode(&table, port))?;
    let wanted = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Other people's processes keep theirs to themselves.
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        if files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|to| to.to_str() == Some(&wanted))) {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", command.trim()));
        }
    }
    None
}

fn listener_inode(table: &str, port: u16) -> Option<u64> {
    const LISTENING: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
        (local == port && *fields.get(3)? == LISTENING).then(|| fields.get(9)?.parse().ok())?
    })
}

/// The kernel's start time of a process, which tells it from a later one with the same number.
pub(super) fn started_at(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in parentheses and may hold anything; the 22nd field is the 20th after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18)?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_refused_in_one_line_that_names_its_holder() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let line = require("gateway", address, "--listen").unwrap_err().line();
        assert!(line.contains(&format!("port {} is taken by ", address.port())), "{line}");
        assert!(line.contains(&format!("(pid {})", std::process::id())), "{line}");
        assert!(line.contains("--listen") && !line.contains('\n'), "{line}");
        drop(taken);
        require("gateway", address, "--listen").unwrap();
    }

    #[test]
    fn a_wanted_port_that_is_taken_gives_another() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let holder = TcpListener::bind(("127.0.0.1", taken)).unwrap();
        assert_ne!(free(taken).unwrap(), taken);
        drop(holder);
        assert_eq!(free(taken).unwrap(), taken);
    }

    #[test]
    fn a_process_has_a_start_time_and_a_gone_one_has_none() {
        assert!(started_at(std::process::id() as i32).is_some());
        assert!(started_at(i32::MAX).is_none());
    }
}
