//! Switches Nagle's algorithm off on the sockets to the database.
//!
//! sqlx 0.9.0 lost that (launchbadge/sqlx#4335, mended after its release) and gives no access to its sockets. With the
//! algorithm on, each `COPY` over TCP waits 40 ms: its last message is held back until the server has acknowledged the
//! one before, which the server delays. So we look for the sockets among our own open files. Where that is not allowed
//! everything works all the same, only slower. To be removed with the next release of sqlx.

use std::{fs, net::SocketAddr};

use rustix::{
    net::{getpeername, sockopt::set_tcp_nodelay},
    process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
};

/// On every TCP socket of this process whose other end has this port. Setting it twice, or on another connection to
/// such a port, does no harm.
pub(super) fn disable_nagle(port: u16) {
    let Ok(this) = pidfd_open(getpid(), PidfdFlags::empty()) else { return };
    let Ok(files) = fs::read_dir("/proc/self/fd") else { return };
    for number in files.flatten().filter_map(|file| file.file_name().to_str()?.parse().ok()) {
        // A copy that refers to the same socket, and is closed at the end of the round.
        let Ok(file) = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()) else { continue };
        let peer = getpeername(&file).ok().flatten().and_then(|peer| SocketAddr::try_from(peer).ok());
        if peer.is_some_and(|peer| peer.port() == port) {
            let _ = set_tcp_nodelay(&file, true);
        }
    }
}
