//! What the harness needs of the machine: programs, ports, and the place of what was built.
//! A thing that is missing fails the test with what to run, so that nothing is skipped unseen.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use rand::RngExt;

use crate::sandbox;

/// Below the ports that the kernel gives to outgoing connections, and below those that pods get: whoever restarts a
/// server on its port finds it free.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Where cargo puts the programs of the profile in use, such as `target/debug`.
pub fn programs() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own.parent().unwrap();
    if folder.ends_with("deps") { folder.parent().unwrap().to_owned() } else { folder.to_owned() }
}

/// A service's program.
///
/// # Panics
/// When it is not built.
pub fn service(name: &str) -> PathBuf {
    let path = programs().join(name);
    assert!(path.is_file(), "{} is missing; run cargo build --workspace --bins", path.display());
    path
}

/// A program of the system.
///
/// # Panics
/// When it is not installed.
pub fn tool(name: &str) -> PathBuf {
    find_tool(name).unwrap_or_else(|| panic!("{name} is missing on this machine; run scripts/setup test"))
}

/// A program of the system, if it is installed.
pub fn find_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A port on 127.0.0.1 that nothing listens on, and that no other test gets while this process lives.
pub fn free_port() -> u16 {
    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let folder = sandbox::base().join("ports");
    std::fs::create_dir_all(&folder).unwrap();
    for _ in 0..1000 {
        let port = rand::rng().random_range(PORTS);
        let lock = File::create(folder.join(port.to_string())).unwrap();
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            HELD.lock().push(lock);
            return port;
        }
    }
    panic!("there is no free port from {} to {}", PORTS.start, PORTS.end);
}

/// [`free_port`] with its address.
pub fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}
