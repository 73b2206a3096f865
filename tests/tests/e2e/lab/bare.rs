//! The host that is only a Debian with an SSH server: a machine as somebody hands it in.

use pinacle_tests::lab::{Lab, Services};

#[tokio::test]
async fn a_bare_host_is_a_debian_that_takes_ssh_and_has_nothing_of_ours() {
    let lab = Lab::builder().hosts(0).orchestrators(0).bare_debian(Services::None).start().await;
    let bare = lab.bare();
    let (code, release) = bare.ssh("cat /etc/os-release && hostname && id -u");
    assert_eq!(code, Some(0), "{release}");
    assert!(release.contains("ID=debian\n"), "{release}");
    assert!(release.ends_with("bare\n0\n"), "{release}");
    // Not this machine's files under another name.
    let here = lab.folder();
    assert_eq!(bare.ssh(&format!("test -e {}", here.display())).0, Some(1));
    let ours = "command -v docker dockerd runsc containerd curl git pinacle-agent; ls /var/lib/pinacle";
    let (_, found) = bare.ssh(ours);
    assert!(!found.lines().any(|line| line.starts_with('/')), "{found}");
    // Only itself: its first process, the SSH server, and what serves this very command.
    let (_, processes) = bare.ssh("cat /proc/[0-9]*/comm");
    let known = ["sh", "sleep", "sshd", "cat", "bash"];
    assert!(processes.contains("sshd") && processes.lines().all(|name| known.contains(&name)), "{processes}");
    // A terminal and packages, as on any Debian.
    assert_eq!(bare.ssh("test -c /dev/ptmx && apt-get --version && dpkg --status openssh-server").0, Some(0));
    // No password opens it.
    assert_eq!(bare.ssh("passwd --status root | cut -d ' ' -f 2").1.trim(), "L");
}
