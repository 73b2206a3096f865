//! The chain: whole under load, kills and a database that is away; and what is done to it behind its back is named.

use std::time::Duration;

use pinacle_bus::{
    client::Bus,
    contract::{
        AuditId, EventId, Subject, Timestamp,
        audit::{AUDIT_HEAD, AuditEntry, AuditHead},
        event::Event,
        subject::EventKind,
        topology::STATUS,
    },
};
use pinacle_store::{ChainCheck, ChainFault, ChainHead, Database, Timeouts};
use pinacle_tests::{Stack, eventually};
use sqlx::PgPool;

use crate::{gateway, ingest::stage::golden};

const LONG: Duration = Duration::from_secs(120);

fn an_entry(number: usize) -> AuditEntry {
    AuditEntry { audit_id: AuditId::new(), at: Timestamp::now(), request_id: format!("click-{number}"), ..golden() }
}

async fn publish(bus: &Bus, entry: &AuditEntry) {
    let id = entry.audit_id.to_string();
    let event = Event {
        event_id: EventId::new(),
        at: entry.at,
        kind: EventKind::Audit,
        target_id: id.clone(),
        what: entry.action.clone(),
        message: "somebody did something".into(),
        detail: serde_json::to_value(entry).unwrap(),
    };
    let subject = Subject::Event { kind: EventKind::Audit, id: id.clone(), what: entry.action.clone() };
    eventually(LONG, "the bus to take an entry", async || bus.publish(&subject, &id, &event).await).await;
}

struct Chain {
    bus: Bus,
    database: Database,
    pool: PgPool,
}

impl Chain {
    async fn of(stack: &Stack) -> Self {
        Self {
            bus: stack.nats.bus_with_topology().await,
            database: Database::connect(&stack.database, 2, Timeouts::default()).unwrap(),
            pool: PgPool::connect_lazy(&stack.database).unwrap(),
        }
    }

    async fn noted(&self) -> Option<ChainHead> {
        let bucket = self.bus.bucket::<AuditHead>(&STATUS).await.unwrap();
        let noted = bucket.get(AUDIT_HEAD).await.unwrap()?.record;
        let bytes = (0..32).map(|at| u8::from_str_radix(&noted.hash[at * 2..at * 2 + 2], 16).unwrap());
        Some(ChainHead { seq: i64::try_from(noted.seq).unwrap(), hash: bytes.collect() })
    }

    async fn check(&self) -> ChainCheck {
        self.database.audit_verify(self.noted().await).await.unwrap()
    }

    /// Waits until so many entries are chained and the end is noted.
    async fn has(&self, entries: i64) {
        eventually(LONG, "the chain and its noted end", async || {
            let sql = "SELECT count(*) FROM audit_entry";
            let found: i64 = sqlx::query_scalar(sql).fetch_one(&self.pool).await.map_err(|error| error.to_string())?;
            let noted = self.noted().await.map_or(0, |noted| noted.seq);
            if (found, noted) == (entries, entries) { Ok(()) } else { Err(format!("{found} entries, {noted} noted")) }
        })
        .await;
    }

    /// What somebody does who has the database in their hands.
    async fn tamper(&self, sql: &str) {
        let whole = format!(
            "BEGIN; ALTER TABLE audit_entry DISABLE TRIGGER audit_entry_append_only; {sql}; \
             ALTER TABLE audit_entry ENABLE TRIGGER audit_entry_append_only; COMMIT"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(whole)).execute(&self.pool).await.unwrap();
    }

    async fn id_at(&self, seq: i64) -> String {
        let sql = "SELECT audit_id FROM audit_entry WHERE seq = $1";
        sqlx::query_scalar(sql).bind(seq).fetch_one(&self.pool).await.unwrap()
    }
}

#[tokio::test]
async fn two_copies_that_are_killed_keep_one_chain() {
    let mut stack = Stack::builder().ingest(2).start().await;
    let chain = Chain::of(&stack).await;
    let entries: Vec<AuditEntry> = (0..300).map(an_entry).collect();
    for (number, entry) in entries.iter().enumerate() {
        publish(&chain.bus, entry).await;
        match number {
            100 => stack.kill9("ingest-1").await,
            150 => stack.restart("ingest-1").await,
            200 => stack.kill9("ingest-2").await,
            _ => {}
        }
    }
    stack.restart("ingest-2").await;
    // Twice the same one is one.
    publish(&chain.bus, &entries[0]).await;
    chain.has(300).await;
    let check = chain.check().await;
    assert_eq!((check.faults(), check.entries()), (&[][..], 300));
}

#[tokio::test]
async fn what_is_altered_taken_out_moved_or_cut_off_is_named() {
    let stack = Stack::builder().ingest(1).start().await;
    let chain = Chain::of(&stack).await;
    for number in 0..12 {
        publish(&chain.bus, &an_entry(number)).await;
    }
    chain.has(12).await;
    assert_eq!(chain.check().await.faults(), []);

    for sql in [
        "UPDATE audit_entry SET actor = 'somebody'",
        "DELETE FROM audit_entry",
        "TRUNCATE audit_entry",
        "UPDATE audit_entry SET actor = 'somebody' WHERE seq = 99",
    ] {
        let refused = sqlx::query(sql).execute(&chain.pool).await.unwrap_err().to_string();
        assert!(refused.contains("append-only"), "{sql}: {refused}");
    }

    chain.tamper("UPDATE audit_entry SET actor = 'somebody' WHERE seq = 4").await;
    let altered = ChainFault::Altered { seq: 4, audit_id: chain.id_at(4).await };
    assert_eq!(chain.check().await.faults(), std::slice::from_ref(&altered));

    chain.tamper("UPDATE audit_entry SET seq = CASE seq WHEN 6 THEN -7 ELSE -6 END WHERE seq IN (6, 7); UPDATE audit_entry SET seq = -seq WHERE seq < 0").await;
    let moved = |seq, audit_id, from| ChainFault::Moved { seq, audit_id, from };
    let (six, seven) = (chain.id_at(6).await, chain.id_at(7).await);
    let found = chain.check().await;
    assert_eq!(found.faults(), [altered.clone(), moved(6, six.clone(), 7), moved(7, seven.clone(), 6)]);

    chain.tamper("DELETE FROM audit_entry WHERE seq IN (9, 12)").await;
    let missing = |seq| ChainFault::Missing { from: seq, to: seq };
    let found = chain.check().await;
    assert_eq!(found.faults(), [missing(9), missing(12), altered, moved(6, six, 7), moved(7, seven, 6)]);

    // What comes next does not paper over it: its place is behind the end that was noted.
    publish(&chain.bus, &an_entry(13)).await;
    eventually(LONG, "the entry behind the noted end", async || {
        let found: Option<i64> =
            sqlx::query_scalar("SELECT max(seq) FROM audit_entry").fetch_one(&chain.pool).await.unwrap();
        if found == Some(13) { Ok(()) } else { Err(found) }
    })
    .await;
    assert!(chain.check().await.faults().contains(&missing(12)));
}

#[tokio::test]
async fn what_is_done_while_postgres_is_away_is_chained_afterwards() {
    let mut stack = Stack::builder().ingest(1).gateway(1).start().await;
    let chain = Chain::of(&stack).await;
    publish(&chain.bus, &an_entry(0)).await;
    chain.has(1).await;
    stack.postgres.stop_immediate().await;
    let client = gateway::stage::client();
    let label = json_request(&client, &stack, "web").await;
    assert_eq!(label, 202);
    for number in 1..20 {
        publish(&chain.bus, &an_entry(number)).await;
    }
    stack.postgres.restart().await;
    chain.has(21).await;
    assert_eq!(chain.check().await.faults(), []);
}

/// Asks for a pod; the status.
async fn json_request(client: &reqwest::Client, stack: &Stack, name: &str) -> u16 {
    let url = format!("http://{}/api/v1/pods", stack.gateway(1));
    let request =
        client.post(url).bearer_auth(pinacle_tests::stack::ADMIN_TOKEN).json(&serde_json::json!({ "name": name }));
    request.send().await.unwrap().status().as_u16()
}
