//! The bus lets nobody do more than is theirs: a stolen key opens one host's subjects and nothing else, and is worth
//! nothing once it is revoked.

mod beyond;
mod used;

use std::time::Duration;

use pinacle_bus::{
    client::Bus,
    contract::{HostId, Subject, Timestamp, grant},
    settings::{BusSettings, Secret},
    trust::{CertificateAuthority, Credentials, Keys, account_jwt, host_jwt, nkeys::KeyPair, user_jwt},
};
use pinacle_tests::{Nats, User, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::ingest::stage::{Stage, times};

const LONG: Duration = Duration::from_secs(20);
/// What a revocation may take.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);

async fn connect(nats: &Nats, credentials: &Credentials) -> Bus {
    let settings = BusSettings { credentials: Secret::new(credentials.to_text().unwrap()), ..nats.settings() };
    Bus::connect(&settings, "a test").await.unwrap()
}

async fn is_connected(bus: &Bus, wanted: bool, within: Duration) {
    eventually(within, if wanted { "a connection" } else { "the connection's end" }, async || {
        if bus.is_connected() == wanted { Ok(()) } else { Err("not yet") }
    })
    .await;
}

/// Tells the server which users are revoked, as whoever admits hosts does.
async fn revoke(nats: &Nats, revoked: &[&Credentials]) {
    let authority = nats.trust().keys().authority().unwrap();
    let pusher = connect(nats, &authority.system_user).await;
    pusher.connected(LONG).await.unwrap();
    let now = Timestamp::now();
    let revoked: Vec<_> = revoked.iter().map(|user| (user.key().public_key(), now)).collect();
    let jwt = account_jwt(&authority.operator, &authority.account, &revoked).unwrap();
    pusher.push_account_jwt(&jwt).await.unwrap();
}

#[tokio::test]
async fn a_revoked_host_is_cut_off_within_two_seconds_and_cannot_come_back_until_it_is_enabled() {
    let mut nats = Nats::start().await;
    let (stolen, honest) = (nats.trust().credentials(User::host()), nats.trust().credentials(User::host()));
    let (thief, other) = (connect(&nats, &stolen).await, connect(&nats, &honest).await);
    thief.connected(LONG).await.unwrap();
    other.connected(LONG).await.unwrap();
    let before = other.connection().borrow().connects;

    revoke(&nats, &[&stolen]).await;
    is_connected(&thief, false, CLOSED_WITHIN).await;
    assert!(nats.connect(&stolen, "again").await.is_err());
    assert_eq!(other.connection().borrow().connects, before, "the others notice nothing");

    // The server remembers over a restart, and prefers what it was told to what its configuration began with.
    nats.kill9().await;
    nats.restart().await;
    other.connected(LONG).await.unwrap();
    assert!(nats.connect(&stolen, "after a restart").await.is_err());
    assert!(!thief.is_connected());

    revoke(&nats, &[]).await;
    is_connected(&thief, true, LONG).await;
}

#[tokio::test]
async fn a_rotated_key_counts_while_the_old_one_is_refused() {
    let nats = Nats::start().await;
    let host = HostId::new();
    let old = nats.trust().credentials(User::Host(host));
    revoke(&nats, &[&old]).await;
    assert!(nats.connect(&old, "old").await.is_err());
    let new = nats.trust().keys().host(&host.to_string()).unwrap();
    nats.connect(&new, "new").await.unwrap();
}

#[tokio::test]
async fn claims_that_expire_end_the_connection_and_renewed_ones_bring_it_back_without_a_restart() {
    let nats = Nats::start().await;
    let authority = nats.trust().keys().authority().unwrap();
    let (host, key) = (HostId::new(), KeyPair::new_user());
    let issue = |lasts| {
        let end = Timestamp::now().plus(lasts);
        let account = &authority.account.account;
        let jwt = host_jwt(&authority.hosts, account, host, &key.public_key(), end).unwrap();
        Credentials::new(jwt, key.clone()).unwrap()
    };
    let bus = connect(&nats, &issue(Duration::from_secs(4))).await;
    bus.connected(LONG).await.unwrap();
    assert!(bus.renew_credentials(nats.trust().credentials(User::host())).is_err(), "another host's are refused");
    is_connected(&bus, false, LONG).await;
    bus.renew_credentials(issue(LONG * 10)).unwrap();
    is_connected(&bus, true, LONG).await;
}

#[tokio::test]
async fn claims_that_our_operator_does_not_stand_for_are_refused() {
    let nats = Nats::start().await;
    let authority = nats.trust().keys().authority().unwrap();
    let strangers = Keys::generate().host(&HostId::new().to_string()).unwrap();
    // Who has the key for hosts can make hosts, and nobody who may more.
    let (key, grant) = (KeyPair::new_user(), grant::everything());
    let jwt = user_jwt(&authority.hosts, "orchestrator", &key.public_key(), &grant).unwrap();
    let promoted = Credentials::new(jwt, key).unwrap();
    for refused in [strangers, promoted] {
        assert!(nats.connect(&refused, "refused").await.is_err(), "{refused:?}");
    }
    let known = nats.trust().credentials(User::host());
    let no_key = async_nats::ConnectOptions::with_jwt(known.jwt().to_owned(), |_| async { Ok(vec![0; 64]) });
    let no_key = no_key.add_root_certificates(nats.trust().ca_file()).connect(nats.url()).await;
    assert!(no_key.is_err(), "claims without their key are worth nothing");
    let nobody = async_nats::ConnectOptions::new().add_root_certificates(nats.trust().ca_file());
    assert!(nobody.connect(nats.url()).await.is_err());
}

#[tokio::test]
async fn nothing_is_said_without_tls_and_only_to_a_server_of_our_authority() {
    let nats = Nats::start().await;
    let mut plain = TcpStream::connect(nats.address()).await.unwrap();
    let connect = br#"CONNECT {"verbose":false,"pedantic":false,"tls_required":false,"lang":"x","version":"1"}"#;
    plain.write_all(&[&connect[..], b"\r\nPING\r\n"].concat()).await.unwrap();
    let mut said = Vec::new();
    // That the server resets the connection is as good as that it closes it.
    let _ = tokio::time::timeout(LONG, plain.read_to_end(&mut said)).await.expect("the server ends it");
    let said = String::from_utf8_lossy(&said);
    assert!(said.starts_with("INFO ") && said.contains("\"tls_required\":true") && !said.contains("PONG"), "{said}");

    let folder = nats.trust().folder();
    let other = folder.join("other.pem");
    std::fs::write(&other, CertificateAuthority::generate().unwrap().own.certificate).unwrap();
    let settings = nats.settings();
    let strange = BusSettings { ca_file: other.display().to_string(), ..settings.clone() };
    let named = BusSettings { url: settings.url.replace("127.0.0.1", "localhost"), ..settings.clone() };
    for (what, settings) in [("another authority", strange), ("another name", named)] {
        let bus = Bus::connect(&settings, "careful").await.unwrap();
        assert!(bus.connected(Duration::from_secs(3)).await.is_err(), "{what}");
    }
    Bus::connect(&settings, "right").await.unwrap().connected(LONG).await.unwrap();
}

#[tokio::test]
async fn messages_in_another_hosts_name_never_reach_the_database() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest("ingest").await;
    let (victim, thief) = (stage.admitted(0).await, stage.admitted(0).await);
    let stolen = stage.nats.bus(User::Host(thief.id), "stolen").await;
    for (at, forged) in times(10, 1000).into_iter().map(|at| (at, victim.sample(at))) {
        // On the victim's subject the server refuses it, on its own ingest does.
        let id = format!("forged.{at}");
        stolen.publish_unacked(&Subject::Metrics(victim.id), &forged).await.unwrap();
        stolen.publish(&Subject::Metrics(thief.id), &id, &forged).await.unwrap();
    }
    // Both streams are read in order: once these are there, a forged one would be, too.
    let last = thief.sample(Timestamp::now());
    stolen.publish(&Subject::Metrics(thief.id), &last.message_id(), &last).await.unwrap();
    stage.count_becomes(1, "SELECT count(*) FROM host_metrics").await;
    stage
        .count_becomes(10, "SELECT count(*) FROM dead_letter WHERE position('but it says that it is of' IN reason) > 0")
        .await;
    let whose: String = sqlx::query_scalar("SELECT host_id FROM host_metrics").fetch_one(&stage.pool).await.unwrap();
    assert_eq!(whose, thief.id.to_string());
    let subjects = "SELECT count(*) FROM dead_letter WHERE position($1 IN subject) > 0";
    let of_victim: i64 = sqlx::query_scalar(subjects).bind(victim.id.to_string()).fetch_one(&stage.pool).await.unwrap();
    assert_eq!(of_victim, 0, "the server has let nothing through on the victim's subject");
}
