//! A bare Debian becomes a host, from elsewhere over SSH and by its own hand, and is one no more.

use std::process::Command;

use pinacle_tests::{
    eventually,
    lab::{Host, Lab, Services},
    machine,
};

const ONLINE_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

pub struct Outcome {
    pub code: Option<i32>,
    pub text: String,
}

/// Runs `pinacle` as the installation.
pub fn pinacle(lab: &Lab, arguments: &[&str]) -> Outcome {
    let (gateway, token) = lab.gateway();
    let file = lab.folder().join("token");
    std::fs::write(&file, token).unwrap();
    let output = Command::new(machine::service("pinacle"))
        .args(["--gateway", &format!("https://{gateway}"), "--token-file"])
        .arg(&file)
        .arg("--gateway-ca")
        .arg(lab.gateway_ca())
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    Outcome { code: output.status.code(), text: String::from_utf8_lossy(&text).into_owned() }
}

/// The fingerprint of the bare host's own key.
pub fn fingerprint(bare: &Host) -> String {
    let (code, text) = bare.ssh("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub");
    assert_eq!(code, Some(0), "{text}");
    text.split_whitespace().find(|word| word.starts_with("SHA256:")).unwrap().to_owned()
}

/// Makes the bare host one of Pinacle's, under the name `bare`, over SSH.
pub fn provision(lab: &Lab, host_key: &str, further: &[&str]) -> Outcome {
    let key = lab.key();
    let target = format!("root@{}", lab.bare().address());
    let arguments =
        ["host", "provision", &target, "-i", key.to_str().unwrap(), "--host-key", host_key, "--name", "bare"];
    pinacle(lab, &[&arguments, further].concat())
}

/// Brings the script there, as the gateway serves it; returns it.
pub async fn bring_script(lab: &Lab) -> String {
    let (gateway, _) = lab.gateway();
    let script = fetch(lab, &format!("https://{gateway}/install.sh")).await;
    std::fs::write(lab.bare().folder().join("root/root/install.sh"), &script).unwrap();
    script
}

async fn is_online(lab: &Lab, name: &str) {
    eventually(ONLINE_WITHIN, &format!("{name} to be online"), async || {
        let shown = pinacle(lab, &["host", "show", name, "--json"]);
        if shown.code == Some(0) && shown.text.contains("\"online\"") { Ok(()) } else { Err(shown.text) }
    })
    .await;
}

#[tokio::test]
async fn a_bare_debian_becomes_a_host_and_is_one_no_more() {
    let lab = Lab::builder().hosts(0).orchestrators(1).joinable_gateway().bare_debian(Services::None).start().await;
    let bare = lab.bare();
    let nothing = || {
        let ours = "ls -d /etc/pinacle /usr/local/bin/pinacle-agent /var/lib/pinacle-agent; id pinacle-agent";
        let (_, found) = bare.ssh(ours);
        assert!(!found.lines().any(|line| line.starts_with('/') || line.starts_with("uid=")), "{found}");
        let (_, keys) = bare.ssh("cat /root/.ssh/authorized_keys");
        assert!(!keys.contains("pinacle-orchestrator"), "{keys}");
    };

    // Somebody else answers in its place: nothing is sent there.
    let other = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let refused = provision(&lab, other, &[]);
    assert_eq!(refused.code, Some(1), "{}", refused.text);
    assert!(refused.text.contains("nothing was done there"), "{}", refused.text);
    nothing();

    let known = fingerprint(bare);
    let made = provision(&lab, &known, &[]);
    assert_eq!(made.code, Some(0), "{}", made.text);
    // It says what it does, and what it cannot do: nothing there starts services.
    for said in
        ["wrote /usr/local/bin/pinacle-agent", "made the user pinacle-agent", "started by none", "is the host host_"]
    {
        assert!(made.text.contains(said), "{said}: {}", made.text);
    }
    is_online(&lab, "bare").await;
    let (_, owner) = bare.ssh("stat -c '%U %a' /var/lib/pinacle-agent/enrolment.json /etc/pinacle/enrolment-token");
    assert_eq!(owner, "pinacle-agent 600\npinacle-agent 600\n");
    let (_, who) = bare.ssh("stat -c %U /proc/$(cat /run/pinacle-agent.pid)");
    assert_eq!(who.trim(), "pinacle-agent");

    // Once more changes nothing; the script comes as the gateway serves it.
    let script = bring_script(&lab).await;
    let (code, again) = bare.ssh("sh /root/install.sh");
    assert_eq!(code, Some(0), "{again}");
    assert!(again.contains("nothing was to be changed") && !again.contains("wrote"), "{again}");
    is_online(&lab, "bare").await;

    // A program that is not the gateway's own is not installed.
    let (_, before) = bare.ssh("sha256sum /usr/local/bin/pinacle-agent");
    let tampered = script.replace("x86_64:", "x86_64:0");
    assert_ne!(tampered, script);
    std::fs::write(bare.folder().join("root/tmp/tampered.sh"), &tampered).unwrap();
    let (code, wrong) = bare.ssh("sh /tmp/tampered.sh --agent-file /usr/local/bin/pinacle-agent");
    assert_eq!(code, Some(1), "{wrong}");
    assert!(wrong.contains("wrong checksum"), "{wrong}");
    assert_eq!(bare.ssh("sha256sum /usr/local/bin/pinacle-agent").1, before);
    // Nor is one that does not run here.
    let (_, sum) = bare.ssh("echo nothing >/tmp/nothing; sha256sum /tmp/nothing | cut -d ' ' -f 1");
    let sums = script.lines().find(|line| line.starts_with("CHECKSUMS=")).unwrap();
    let other = script.replace(sums, &format!("CHECKSUMS='{}:{}'", std::env::consts::ARCH, sum.trim()));
    std::fs::write(bare.folder().join("root/tmp/other.sh"), &other).unwrap();
    let (code, wrong) = bare.ssh("sh /tmp/other.sh --agent-file /tmp/nothing");
    assert_eq!(code, Some(1), "{wrong}");
    assert!(wrong.contains("does not run on this system"), "{wrong}");
    assert_eq!(
        bare.ssh("sha256sum /usr/local/bin/pinacle-agent; ls /usr/local/bin/pinacle-agent*").1.lines().count(),
        2
    );
    assert_eq!(bare.ssh("sha256sum /usr/local/bin/pinacle-agent").1, before);

    let (code, removed) = bare.ssh("sh /root/install.sh --uninstall");
    assert_eq!(code, Some(0), "{removed}");
    nothing();
    let (code, twice) = bare.ssh("sh /root/install.sh --uninstall");
    assert_eq!(code, Some(0), "{twice}");
    assert!(!twice.contains("removed /"), "{twice}");
    let gone = pinacle(&lab, &["host", "rm", "bare", "--yes"]);
    assert_eq!(gone.code, Some(0), "{}", gone.text);
    assert_ne!(pinacle(&lab, &["host", "show", "bare"]).code, Some(0));
}

async fn fetch(lab: &Lab, url: &str) -> String {
    let certificate = reqwest::Certificate::from_pem(&std::fs::read(lab.gateway_ca()).unwrap()).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().tls_certs_only([certificate]).build().unwrap();
    let response = client.get(url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.text().await.unwrap()
}
