//! The lab of hosts, up in the foreground, for people to look at and to break: `lab [--hosts N]`, three unless told
//! otherwise, and a bare Debian besides. Ctrl-C takes it down. `lab down` clears away what a killed one left. Run it with
//! `make lab`, which builds everything first.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program for developers ends at the first thing that goes wrong, and prints for people"
)]

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf, process::ExitCode};

use pinacle_tests::{
    lab::{BASE_IMAGE, Lab, Services, base_image},
    machine,
    sandbox::clear_leftovers,
};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: lab [--hosts 1…6], or lab down";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let hosts = match arguments.as_slice() {
        [] => 3,
        ["--hosts", number] if matches!(number.parse(), Ok(1..=6_usize)) => number.parse().unwrap(),
        ["down"] => return down(),
        _ => {
            println!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    if !machine::is_root() {
        println!("the lab takes root, for namespaces and Docker: sudo make lab");
        return ExitCode::FAILURE;
    }
    // On one thread: what runs in the lab dies with the thread that started it.
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(up(hosts))
}

fn down() -> ExitCode {
    clear_leftovers();
    println!("what killed labs and tests had left is gone; Ctrl-C ends a lab that runs");
    ExitCode::SUCCESS
}

async fn up(hosts: usize) -> ExitCode {
    println!("the image of pods: built the first time, and when it has changed");
    let archive = base_image().await;
    let mut interrupt = signal(SignalKind::interrupt()).unwrap();
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let mut hangup = signal(SignalKind::hangup()).unwrap();
    let running = async {
        println!("{hosts} hosts and a bare one: when no test and no other lab has Docker");
        let lab = start(hosts, archive).await;
        tell(&lab);
        // It stays until it is dropped.
        std::future::pending::<()>().await;
        drop(lab);
    };
    tokio::select! {
        // cancel-safe: dropped, it takes down whatever it has brought up.
        () = running => {}
        // cancel-safe: the process is about to end.
        _ = interrupt.recv() => {}
        // cancel-safe: as above.
        _ = terminate.recv() => {}
        // cancel-safe: as above.
        _ = hangup.recv() => {}
    }
    println!("the lab is down");
    ExitCode::SUCCESS
}

async fn start(hosts: usize, archive: PathBuf) -> Lab {
    Lab::builder()
        .hosts(hosts)
        .gateway()
        .bare_debian(Services::None)
        .set("orchestrator.base_image", BASE_IMAGE)
        .set("orchestrator.base_image_archive", archive.to_str().unwrap())
        .start()
        .await
}

/// Says what there is, and how to look at it.
fn tell(lab: &Lab) {
    let (gateway, token) = lab.gateway();
    let file = lab.folder().join("token");
    let mut written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&file).unwrap();
    written.write_all(token.as_bytes()).unwrap();
    let pinacle = format!(
        "{} --gateway http://{gateway} --token-file {}",
        machine::programs().join("pinacle").display(),
        file.display()
    );
    println!("\nThe lab is up.\n");
    for host in lab.hosts().iter().chain([lab.bare()]) {
        // Another lab has other keys at the same address.
        let options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR";
        println!("  {:<8} ssh {options} -i {} root@{}", host.name(), lab.key().display(), host.address());
    }
    println!("\n  alias pinacle='{pinacle}'");
    println!("  pinacle host ls");
    println!("  pinacle pod create web --tier dev.small");
    println!("\n  logs and data    {}", lab.folder().display());
    println!("  API              http://{gateway}/api/docs");
    println!("  cut a host off   ip link set LINK down (ip link show master BRIDGE lists them)");
    println!("\nCtrl-C takes it all down.");
}
