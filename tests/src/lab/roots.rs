//! Debians that take a while to make: the image of pods, and the root file system of the bare host. Each is made once by
//! the project's scripts, and kept in the target folder until the scripts change.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::{eventually, machine, process::run};

/// Another test may be making it.
const MADE_WITHIN: Duration = Duration::from_secs(280);
/// What the bare host has besides what every Debian has.
const PACKAGES: &str = "openssh-server";

/// The name of the image that [`base_image`] holds.
pub const BASE_IMAGE: &str = "pinacle/base:1";

/// The archive of the image that pods are made from, as `scripts/base-image` builds it.
///
/// # Panics
/// When it cannot be built, with what the script said.
pub async fn base_image() -> PathBuf {
    let scripts = machine::repository().join("scripts");
    let sources = [scripts.join("base-image"), scripts.join("debian-root"), scripts.join("pod")];
    kept("base", &sources, |archive| {
        run(mortal(&scripts.join("base-image")).arg(archive));
    })
    .await
}

/// The archive of the root file system of a Debian with an SSH server, and with packages that can be installed there.
pub(super) async fn bare_debian() -> PathBuf {
    let script = machine::repository().join("scripts/debian-root");
    let hook = machine::repository().join("tests/src/lab/bare/packages");
    kept("debian", &[script.clone(), hook.clone()], |archive| {
        run(mortal(&script).arg(archive).arg(PACKAGES).arg(format!("--customize-hook={}", hook.display())));
    })
    .await
}

/// A script that ends with whoever runs it.
fn mortal(script: &Path) -> Command {
    let mut command = Command::new(machine::tool("setpriv"));
    command.args(["--pdeathsig", "TERM", "--"]).arg(script);
    command
}

/// The file that `make` makes of these sources: the one that is there, or a new one.
async fn kept(name: &str, sources: &[PathBuf], make: impl FnOnce(&Path)) -> PathBuf {
    let folder = machine::programs().parent().unwrap().join("lab");
    fs::create_dir_all(&folder).unwrap();
    let mut digest = Sha256::new();
    sources.iter().for_each(|source| add(&mut digest, source));
    let digest: String = digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let archive = folder.join(format!("{name}-{digest}.tar"));
    let lock = File::create(folder.join(format!("{name}.lock"))).unwrap();
    eventually(MADE_WITHIN, &format!("the other test that makes {}", archive.display()), async || lock.try_lock())
        .await;
    if !archive.exists() {
        // Those of other sources.
        let old = fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path());
        old.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&format!("{name}-")))
            .for_each(|path| drop(fs::remove_file(path)));
        make(&archive);
    }
    archive
}

/// Files with their names, folders with all that is in them.
fn add(digest: &mut Sha256, source: &Path) {
    digest.update(source.file_name().unwrap().as_encoded_bytes());
    if source.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(source).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| add(digest, entry));
    } else {
        digest.update(fs::read(source).unwrap());
    }
}
