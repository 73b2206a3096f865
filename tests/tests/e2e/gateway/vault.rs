//! The vault on a real Postgres: what is bound to what, and exchanging the master key while everything goes on.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use pinacle_bus::{
    crypto::Key,
    settings::{Secret, Settings, load},
};
use pinacle_gateway::{
    settings::GatewaySettings,
    vault::{Vault, VaultError},
};
use pinacle_store::{Database, Timeouts};
use pinacle_tests::{Postgres, Sandbox};
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

struct Fixture {
    _postgres: Postgres,
    url: String,
    sandbox: Sandbox,
}

impl Fixture {
    async fn new() -> Self {
        let postgres = Postgres::start().await;
        let url = postgres.database().await;
        Self { _postgres: postgres, url, sandbox: Sandbox::new() }
    }

    fn file(&self) -> PathBuf {
        self.sandbox.path().join("master_key")
    }

    fn keep(&self, keys: &[&Key]) {
        let text: Vec<String> = keys.iter().map(|key| key.to_hex().to_string()).collect();
        fs::write(self.file(), text.join("\n")).unwrap();
        fs::set_permissions(self.file(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A copy of the gateway's vault, which has read the file as it is now.
    fn vault(&self) -> Vault {
        let setting = ("PINACLE__GATEWAY__MASTER_KEY".to_owned(), format!("file:{}", self.file().display()));
        let settings: GatewaySettings = load(None, [setting]).unwrap();
        assert!(settings.faults().is_empty());
        self.vault_with(settings.gateway.master_key)
    }

    fn vault_with(&self, setting: Secret) -> Vault {
        Vault::new(setting, Database::connect(&self.url, 4, Timeouts::default()).unwrap()).unwrap()
    }
}

#[tokio::test]
async fn a_value_opens_for_its_owner_purpose_and_row_alone() {
    let fixture = Fixture::new().await;
    fixture.keep(&[&Key::random()]);
    let vault = fixture.vault();
    let [ann, bob] = ["user_ann", "user_bob"];
    let sealed = vault.seal(ann, "totp", "row-1", b"value").await.unwrap();
    vault.seal(bob, "totp", "row-1", b"another").await.unwrap();
    assert_eq!(**vault.open(ann, "totp", "row-1", &sealed).await.unwrap(), *b"value");
    for (owner, purpose, row) in [(bob, "totp", "row-1"), (ann, "secret", "row-1"), (ann, "totp", "row-2")] {
        let refused = vault.open(owner, purpose, row, &sealed).await.unwrap_err();
        assert!(matches!(refused, VaultError::NotOpened(_)), "{owner} {purpose} {row}: {refused}");
    }
    assert!(matches!(vault.open("user_eve", "totp", "row-1", &sealed).await, Err(VaultError::NoDataKey)));

    // Whoever can write to the database cannot give one owner's key to another.
    let pool = PgPool::connect(&fixture.url).await.unwrap();
    sqlx::query("UPDATE data_key SET wrapped = (SELECT wrapped FROM data_key WHERE owner = $1) WHERE owner = $2")
        .bind(ann)
        .bind(bob)
        .execute(&pool)
        .await
        .unwrap();
    assert!(matches!(vault.open(bob, "totp", "row-1", &sealed).await, Err(VaultError::NotOpened(_))));

    // Without the master key the database is worth nothing.
    let stranger = fixture.vault_with(Secret::new(Key::random().to_hex().to_string()));
    assert!(matches!(stranger.open(ann, "totp", "row-1", &sealed).await, Err(VaultError::UnknownMasterKey(_))));
}

#[tokio::test]
async fn the_master_key_is_exchanged_while_copies_seal_and_open() {
    const OWNERS: usize = 30;
    let fixture = Fixture::new().await;
    let [old, new] = [Key::random(), Key::random()];
    fixture.keep(&[&old]);
    let copies = [Arc::new(fixture.vault()), Arc::new(fixture.vault())];
    let stop = CancellationToken::new();
    let mut work = JoinSet::new();
    for owner in 0..OWNERS {
        let owner = format!("user_{owner}");
        let sealed = copies[0].seal(&owner, "secret", "kept", owner.as_bytes()).await.unwrap();
        let (copies, stop) = (copies.clone(), stop.clone());
        work.spawn(async move {
            for turn in 0_usize.. {
                let vault = &copies[turn % 2];
                assert_eq!(**vault.open(&owner, "secret", "kept", &sealed).await.unwrap(), *owner.as_bytes());
                let fresh = vault.seal(&owner, "secret", &turn.to_string(), b"fresh").await.unwrap();
                let other = &copies[(turn + 1) % 2];
                assert_eq!(**other.open(&owner, "secret", &turn.to_string(), &fresh).await.unwrap(), *b"fresh");
                if stop.is_cancelled() {
                    return (owner, sealed);
                }
            }
            unreachable!()
        });
    }
    fixture.keep(&[&new, &old]);
    // Both at once, as two people would: each key changes hands once.
    let (first, second) = tokio::join!(copies[0].rewrap(), copies[1].rewrap());
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!((first.rewrapped + second.rewrapped, first.unreadable, first.all), (OWNERS as u64, 0, OWNERS as u64));
    assert_eq!(first.master_key_id, new.id());
    assert_eq!(copies[0].rewrap().await.unwrap().rewrapped, 0);

    // The former key goes; nobody misses it, neither those who run nor who starts now.
    fixture.keep(&[&new]);
    let late = fixture.vault();
    stop.cancel();
    while let Some(done) = work.join_next().await {
        let (owner, sealed) = done.unwrap();
        assert_eq!(**late.open(&owner, "secret", "kept", &sealed).await.unwrap(), *owner.as_bytes());
    }
}

#[tokio::test]
async fn an_exchange_that_was_cut_off_goes_on_and_tells_what_it_cannot_open() {
    let fixture = Fixture::new().await;
    let [lost, old, new] = [Key::random(), Key::random(), Key::random()];
    fixture.keep(&[&lost]);
    fixture.vault().seal("user_lost", "secret", "row", b"value").await.unwrap();
    fixture.keep(&[&old]);
    let former = fixture.vault();
    let sealed = former.seal("user_kept", "secret", "row", b"value").await.unwrap();
    // As after a crash in the middle: one under the new key, one under the former, and one whose key is gone.
    fixture.keep(&[&new, &old]);
    let vault = fixture.vault();
    vault.seal("user_done", "secret", "row", b"value").await.unwrap();
    let outcome = vault.rewrap().await.unwrap();
    assert_eq!((outcome.rewrapped, outcome.unreadable, outcome.all), (1, 1, 3));
    assert_eq!(**vault.open("user_kept", "secret", "row", &sealed).await.unwrap(), *b"value");

    // A file that others may read is not taken.
    fs::set_permissions(fixture.file(), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(vault.rewrap().await, Err(VaultError::MasterKeys(why)) if why.contains("chmod 600")));
}
