//! With one host's credentials, every subject that there is, both ways: the server refuses all but the host's own.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::StreamExt;
use parking_lot::Mutex;
use pinacle_bus::contract::{
    HostId, Subject, document, grant,
    subject::filter,
    topology::{BUCKETS, CONSUMERS, StreamName},
};
use pinacle_tests::{Nats, User, eventually};

use super::LONG;

/// A client that remembers what the server refused.
struct Intruder {
    client: async_nats::Client,
    refused: Arc<Mutex<BTreeSet<String>>>,
}

impl Intruder {
    async fn connect(nats: &Nats, user: User) -> Self {
        let refused: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let told = refused.clone();
        let credentials = nats.trust().credentials(user);
        let client = async_nats::ConnectOptions::with_credentials(&credentials.to_text().unwrap())
            .unwrap()
            .add_root_certificates(nats.trust().ca_file())
            .custom_inbox_prefix(grant::inbox(credentials.name()))
            .event_callback(move |event| {
                told.lock().insert(event.to_string().to_lowercase());
                std::future::ready(())
            })
            .connect(nats.url())
            .await
            .unwrap();
        Self { client, refused }
    }

    async fn cannot_publish(&self, subject: &str) {
        self.client.publish(subject.to_owned(), "stolen".into()).await.unwrap();
        self.is_refused("publish", subject).await;
    }

    async fn cannot_subscribe(&self, subject: &str) {
        let _plain = self.client.subscribe(subject.to_owned()).await.unwrap();
        self.is_refused("subscription", subject).await;
        self.refused.lock().clear();
        let _in_a_group = self.client.queue_subscribe(subject.to_owned(), "orchestrator".into()).await.unwrap();
        self.is_refused("subscription", subject).await;
    }

    async fn is_refused(&self, what: &str, subject: &str) {
        let wanted = format!("permissions violation for {what} to \"{}\"", subject.to_lowercase());
        eventually(LONG, &wanted, async || {
            let refused = self.refused.lock();
            if refused.iter().any(|said| said.contains(&wanted)) { Ok(()) } else { Err(refused.clone()) }
        })
        .await;
    }
}

/// The subjects of docs/SUBJECTS.md with `host` wherever a host may stand, and any word elsewhere.
fn documented(host: &str) -> Vec<String> {
    let page = document::subjects();
    let rows = page.lines().skip_while(|line| !line.starts_with("| subject")).skip(2);
    let patterns = rows.take_while(|line| line.starts_with('|')).map(|line| line.split('`').nth(1).unwrap());
    let spelled = patterns.map(|pattern| {
        let tokens = pattern.replace("<host>", host).replace("<pod or host>", host).replace("<in, out or ctl>", "out");
        let tokens = tokens.split('.').map(|token| if token.starts_with('<') { "any" } else { token });
        format!("pinacle.v1.{}", tokens.collect::<Vec<_>>().join("."))
    });
    spelled.collect()
}

#[tokio::test]
async fn with_one_hosts_key_everything_but_its_own_subjects_is_refused_both_ways() {
    let nats = Nats::start().await;
    nats.bus_with_topology().await;
    let tester = nats.client().await;
    let mut heard = tester.subscribe("pinacle.>").await.unwrap();
    tester.flush().await.unwrap();
    let (own, other) = (HostId::new(), HostId::new());
    let intruder = Intruder::connect(&nats, User::Host(own)).await;

    let may_say = [Subject::Heartbeat(own), Subject::Metrics(own), Subject::Inventory(own)].map(|s| s.to_string());
    let mut tried = 0;
    for subject in [documented(&own.to_string()), documented(&other.to_string())].concat() {
        if !may_say.contains(&subject) {
            intruder.cannot_publish(&subject).await;
            tried += 1;
        }
    }
    assert!(tried >= 16, "the page of subjects was not read: {tried}");
    let may_hear = format!("pinacle.v1.cmd.{own}.any");
    for host in [own.to_string(), other.to_string(), "*".into()] {
        for subject in documented(&host).into_iter().filter(|subject| *subject != may_hear) {
            intruder.cannot_subscribe(&subject).await;
        }
    }

    for subject in &may_say {
        intruder.client.publish(subject.clone(), "own".into()).await.unwrap();
    }
    intruder.client.flush().await.unwrap();
    for subject in &may_say {
        let message = tokio::time::timeout(LONG, heard.next()).await.expect("it arrives").unwrap();
        assert_eq!((message.subject.as_str(), &message.payload[..]), (subject.as_str(), &b"own"[..]));
    }
}

#[tokio::test]
async fn with_one_hosts_key_streams_buckets_the_system_and_others_inboxes_are_closed() {
    let nats = Nats::start().await;
    nats.bus_with_topology().await;
    let (own, other) = (HostId::new(), HostId::new());
    let intruder = Intruder::connect(&nats, User::Host(own)).await;
    let account = nats.trust().keys().authority().unwrap().account.account;

    let mut publish: Vec<String> = StreamName::DECLARED
        .into_iter()
        .flat_map(|stream| {
            ["STREAM.INFO", "STREAM.DELETE", "STREAM.UPDATE", "STREAM.PURGE", "STREAM.MSG.GET", "CONSUMER.CREATE"]
                .map(|what| format!("$JS.API.{what}.{}", stream.as_str()))
        })
        .collect();
    publish.extend(StreamName::DECLARED.map(|stream| format!("$JS.API.DIRECT.GET.{}", stream.as_str())));
    for consumer in CONSUMERS {
        let path = format!("{}.{}", consumer.stream.as_str(), consumer.name);
        publish.push(format!("$JS.API.CONSUMER.MSG.NEXT.{path}"));
        publish.push(format!("$JS.ACK.{path}.1.1.1.1.1"));
    }
    publish.extend(BUCKETS.map(|bucket| format!("$KV.{}.{own}", bucket.name)));
    publish.extend(
        ["$JS.API.INFO", "$JS.API.STREAM.CREATE.MINE", "$SYS.REQ.SERVER.PING", "$SYS.REQ.CLAIMS.UPDATE"]
            .map(str::to_owned),
    );
    publish.push(format!("$SYS.REQ.ACCOUNT.{account}.CLAIMS.UPDATE"));
    publish.push(format!("$SYS.ACCOUNT.{account}.CONNECT"));
    publish.extend([format!("_INBOX.{other}.x"), "_INBOX.orchestrator.x".into(), "_INBOX.gateway.x".into()]);
    for subject in &publish {
        intruder.cannot_publish(subject).await;
    }

    let mut subscribe =
        vec![format!("_INBOX.{other}.>"), format!("_INBOX.{other}.x"), format!("$SYS.ACCOUNT.{account}.CONNECT")];
    subscribe.extend([filter::CONNECTED, filter::DISCONNECTED].map(str::to_owned));
    subscribe.extend(
        [">", "*", "pinacle.>", "pinacle.v1.cmd.>", "pinacle.v1.*.*.*", "_INBOX.>", "_INBOX.*.>", "_INBOX.*", "$SYS.>"]
            .map(str::to_owned),
    );
    subscribe.extend(["$JS.>", "$JS.API.>", "$JS.EVENT.>", "$KV.>", "_R_.>"].map(str::to_owned));
    for subject in &subscribe {
        intruder.cannot_subscribe(subject).await;
    }
}
