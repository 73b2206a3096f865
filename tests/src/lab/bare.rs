//! A host made from a bare Debian root file system: with an SSH server and nothing else, as somebody hands in a machine.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    process::{Command, Stdio},
    time::Duration,
};

use super::{Host, IMAGE, Lab, Net, STAYS, inside::Inside, roots};
use crate::{eventually, machine, process::run};

/// What starts services on a bare host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Services {
    /// Nothing: the SSH server is all that runs.
    None,
    /// OpenRC, without an init of its own.
    OpenRc,
    /// systemd, as its first process.
    Systemd,
}

impl Services {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::OpenRc => "openrc",
            Self::Systemd => "systemd",
        }
    }
}

impl Host {
    pub(super) async fn begin_bare(lab: &Lab, net: &Net, number: usize, services: Services) -> Self {
        let mut host = Self::new(lab, net, "bare", number, None);
        let archive = roots::bare_debian().await;
        host.make_root(&archive);
        host.starting = Some(Inside::begin_bare(&host.sandbox, &host.folder, &host.name, &host.group, services));
        host.enter().await;
        eventually(Duration::from_secs(60), "the bare host's SSH server", async || {
            TcpStream::connect((host.address.as_str(), 22)).map_err(|error| (error, host.inside().log()))
        })
        .await;
        host
    }

    /// Debian as it is after its installation: keys of its own, a name, and root's authorized key.
    fn make_root(&self, archive: &std::path::Path) {
        let root = self.folder.join("root");
        fs::create_dir_all(&root).unwrap();
        run(Command::new(machine::tool("tar")).arg("-C").arg(&root).arg("-xf").arg(archive));
        fs::write(root.join("etc/hostname"), format!("{}\n", self.name)).unwrap();
        fs::write(root.join("etc/hosts"), format!("127.0.0.1 localhost\n{} {}\n", self.address, self.name)).unwrap();
        for entry in fs::read_dir(root.join("etc/ssh")).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        let key = root.join("etc/ssh/ssh_host_ed25519_key");
        run(Command::new(machine::tool("ssh-keygen")).args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(key));
        let home = root.join("root/.ssh");
        fs::DirBuilder::new().mode(0o700).create(&home).unwrap();
        let mut keys =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(home.join("authorized_keys")).unwrap();
        let public = fs::read(self.sandbox.path().join("client.pub")).unwrap();
        std::io::Write::write_all(&mut keys, &public).unwrap();
    }

    /// Gives its Docker the image that every other host has.
    ///
    /// # Panics
    /// When it has no Docker that runs.
    pub fn import_image(&self) {
        fs::copy(self.sandbox.path().join("image.tar"), self.folder.join("root/root/image.tar")).unwrap();
        let import = format!(
            "docker import --change 'ENV PATH=/bin' --change '{}' /root/image.tar {IMAGE}",
            STAYS.replace('\'', r"'\''")
        );
        let (code, text) = self.ssh(&import);
        assert_eq!(code, Some(0), "{text}");
    }

    /// Runs a command on it over SSH, as root: its exit code, and all that it wrote.
    pub fn ssh(&self, command: &str) -> (Option<i32>, String) {
        let output = Command::new(machine::tool("ssh"))
            .args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args([
                "-o",
                "LogLevel=ERROR",
                "-o",
                "IdentitiesOnly=yes",
                "-o",
                "BatchMode=yes",
                "-o",
                "ConnectTimeout=10",
            ])
            .args(["-l", "root", "-i"])
            .arg(self.sandbox.path().join("client"))
            .args([&self.address, command])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }
}
