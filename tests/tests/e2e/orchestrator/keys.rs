//! The orchestrator's own keys: one set for all copies, and none without the key that they lie under.

use std::{fs, os::unix::fs::PermissionsExt};

use pinacle_bus::{
    client::Bucket,
    contract::{
        key::{SEALING_KEY, SSH_KEY_RING, SealingKey, SshKeyRing},
        topology::KEYS,
    },
    crypto::Key,
};
use pinacle_tests::{Launch, Nats, Sandbox, User};

use super::{SOON, stage::Stage};

#[tokio::test]
async fn copies_that_start_at_once_have_the_same_keys_and_keep_them() {
    let mut stage = Stage::with_copies(0).await;
    let launch = |name: &str| Stage::launch(&stage.nats).named(name).ready_on_admin_port().start();
    let (first, second) = tokio::join!(launch("one"), launch("two"));
    stage.copies.extend([first, second]);
    let (sealing, rings): (Bucket<SealingKey>, Bucket<SshKeyRing>) =
        (stage.bus.bucket(&KEYS).await.unwrap(), stage.bus.bucket(&KEYS).await.unwrap());
    let before = (sealing.get(SEALING_KEY).await.unwrap(), rings.get(SSH_KEY_RING).await.unwrap());
    let ring = before.1.as_ref().unwrap();
    assert_eq!(ring.record.keys.len(), 1, "{ring:?}");
    assert!(ring.record.keys[0].public_key.starts_with("ssh-ed25519 "));
    let kept = ring.record.keys[0].private_key.as_ref().unwrap();
    assert!(!kept.contains("PRIVATE") && !kept.contains("b3BlbnNzaC1rZXktdjE"), "it lies there as it is");
    for copy in &mut stage.copies {
        copy.restart().await;
    }
    assert_eq!((sealing.get(SEALING_KEY).await.unwrap(), rings.get(SSH_KEY_RING).await.unwrap()), before);

    // Under another key they are of no use to anybody, and nothing is made in their place.
    let other = Key::random().to_hex().to_string();
    let mut stranger = Stage::launch(&stage.nats).named("stranger").env("PINACLE__ORCHESTRATOR__KEY", other).spawn();
    assert!(!stranger.wait(SOON).await.success());
    assert!(stranger.log_text().contains("cannot be opened with orchestrator.key"), "{}", stranger.log_text());
    assert_eq!((sealing.get(SEALING_KEY).await.unwrap(), rings.get(SSH_KEY_RING).await.unwrap()), before);
}

#[tokio::test]
async fn it_refuses_to_start_without_its_key_or_with_one_that_others_may_read() {
    let (nats, sandbox) = (Nats::start().await, Sandbox::new());
    let launch =
        || Launch::service("pinacle-orchestrator").envs(nats.env(User::ORCHESTRATOR)).env("PINACLE__ADMIN__LISTEN", "");
    let mut without = launch().spawn();
    assert_eq!(without.wait(SOON).await.code(), Some(64));
    assert!(without.log_text().contains("orchestrator.key: there is none"), "{}", without.log_text());

    let file = sandbox.path().join("key");
    let key = Key::random().to_hex();
    fs::write(&file, key.as_bytes()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let mut open = launch().env("PINACLE__ORCHESTRATOR__KEY", format!("file:{}", file.display())).spawn();
    assert_eq!(open.wait(SOON).await.code(), Some(64));
    let said = open.log_text();
    assert!(said.contains("may be read by others (mode 0640)") && !said.contains(key.as_str()), "{said}");
}
