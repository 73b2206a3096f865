//! The wire form of every message: one golden file a message and schema version. The newest version's files are what this
//! release writes; files of every version are still read.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use pinacle_bus::contract::{
    HostId, Message, OperationId, PodId, RequestId, SCHEMA_VERSION, Timestamp,
    audit::*,
    command::*,
    dead::DeadLetter,
    decode,
    event::Event,
    exec::ExecRecord,
    grant::{self, Role},
    host::*,
    inventory::Inventory,
    key::*,
    ledger::*,
    metrics::Metrics,
    pod::*,
    reconciler::ReconcilerStatus,
    request::*,
};

fn folder(version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/v{version}"))
}

/// Reads a golden file of each version and checks the newest one against what this release writes.
fn check<M: Message + PartialEq + std::fmt::Debug>(seen: &mut BTreeSet<String>) {
    for version in 1..=SCHEMA_VERSION {
        let path = folder(version).join(format!("{}.json", M::NAME));
        let Ok(text) = fs::read_to_string(&path) else {
            assert!(version < SCHEMA_VERSION, "{} is missing", path.display());
            continue;
        };
        let message: M =
            decode(version, text.as_bytes()).unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
        let written = serde_json::to_value(&message).unwrap();
        if version == SCHEMA_VERSION {
            let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(written, golden, "{} is not what this release writes", path.display());
        }
        assert_eq!(decode::<M>(SCHEMA_VERSION, written.to_string().as_bytes()).unwrap(), message);
    }
    seen.insert(M::NAME.to_owned());
}

macro_rules! check_all {
    ($seen:expr, $($message:ty),* $(,)?) => { $(check::<$message>($seen);)* };
}

#[test]
fn every_message_is_written_as_its_golden_file_and_old_versions_are_read() {
    let mut seen = BTreeSet::new();
    check_all!(
        &mut seen,
        Heartbeat,
        HostRecord,
        Metrics,
        Inventory,
        PodRecord,
        CreatePod,
        HostLedger,
        Lease,
        ReconcilerStatus,
        IdempotentRequest,
        SealingKey,
        SshKeyRing,
        Request,
        RequestCommitted,
        Operation,
        Event,
        AuditEntry,
        AuditHead,
        ExecRecord,
        DeadLetter,
        Ping,
        Version,
        Sample,
        TakeInventory,
        SetInterval,
        RotateKey,
        Logs,
    );
    let files: BTreeSet<String> = fs::read_dir(folder(SCHEMA_VERSION))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(seen, files, "a golden file that no message claims, or the other way round");
    assert_eq!(VERBS.len(), seen.iter().filter(|name| name.starts_with("command_")).count());
    // A message that is not listed above would go unchecked: the sources say how many there are.
    let implemented: usize = fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/contract"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .map(|source| source.lines().filter(|line| line.starts_with("impl Message for")).count())
        .sum();
    assert_eq!(implemented + VERBS.len(), seen.len());
}

fn golden(name: &str) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(folder(SCHEMA_VERSION).join(format!("{name}.json"))).unwrap()).unwrap()
}

#[test]
fn unknown_fields_are_ignored_and_missing_ones_refused() {
    let mut heartbeat = golden("heartbeat");
    heartbeat["added_in_the_future"] = 1.into();
    decode::<Heartbeat>(SCHEMA_VERSION, heartbeat.to_string().as_bytes()).unwrap();
    for field in ["host_id", "sequence", "docker", "stopping"] {
        let mut without = golden("heartbeat");
        without.as_object_mut().unwrap().remove(field);
        decode::<Heartbeat>(SCHEMA_VERSION, without.to_string().as_bytes()).unwrap_err();
    }
}

#[test]
fn a_newer_schema_and_an_oversized_message_are_refused_before_they_are_read() {
    use pinacle_bus::contract::DecodeError::{NewerSchema, TooLarge};
    let bytes = golden("heartbeat").to_string();
    assert!(matches!(decode::<Heartbeat>(SCHEMA_VERSION + 1, bytes.as_bytes()), Err(NewerSchema { .. })));
    let long = vec![b' '; Heartbeat::MAX_BYTES + 1];
    assert!(matches!(decode::<Heartbeat>(1, &long), Err(TooLarge { .. })));
}

#[test]
fn values_that_cannot_be_true_are_refused() {
    let pod = golden("metrics")["pods"][0].clone();
    type Spoil = fn(&mut serde_json::Value, &serde_json::Value);
    let cases: [(&str, Spoil); 7] = [
        ("a negative percentage", |metrics, _| metrics["host"]["cpu_percent"] = (-1).into()),
        ("more bytes than there are", |metrics, _| metrics["host"]["memory_used_bytes"] = (1u64 << 61).into()),
        ("a negative count", |metrics, _| metrics["pods"][0]["pids"] = (-1).into()),
        ("a pod named twice", |metrics, pod| metrics["pods"].as_array_mut().unwrap().push(pod.clone())),
        ("a NUL in a text", |metrics, _| metrics["host"]["disks"][0]["mount"] = "/\0".into()),
        ("a time before 1970", |metrics, _| metrics["sampled_at"] = "1969-01-01T00:00:00Z".into()),
        ("another kind of id", |metrics, _| metrics["host_id"] = PodId::new().to_string().into()),
    ];
    for (what, spoil) in cases {
        let mut metrics = golden("metrics");
        decode::<Metrics>(SCHEMA_VERSION, metrics.to_string().as_bytes()).unwrap();
        spoil(&mut metrics, &pod);
        decode::<Metrics>(SCHEMA_VERSION, metrics.to_string().as_bytes()).expect_err(what);
    }
}

#[test]
fn ids_and_times_in_golden_files_are_of_their_kind() {
    let request = golden("request");
    request["request_id"].as_str().unwrap().parse::<RequestId>().unwrap();
    request["operation_id"].as_str().unwrap().parse::<OperationId>().unwrap();
    golden("metrics")["host_id"].as_str().unwrap().parse::<HostId>().unwrap();
    request["requested_at"].as_str().unwrap().parse::<Timestamp>().unwrap();
}

#[test]
fn the_page_of_subjects_is_what_the_code_prints() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/SUBJECTS.md");
    let page = fs::read_to_string(&path).unwrap_or_default();
    assert!(page == pinacle_bus::contract::document::subjects(), "run `pinacle subjects > docs/SUBJECTS.md`");
}

/// Who may do what, as `nats/README.md` has it.
fn grants() -> String {
    let list =
        |subjects: &[String]| subjects.iter().map(|subject| format!("- `{subject}`\n")).collect::<Vec<_>>().concat();
    let mut page = String::new();
    let roles = Role::ALL.into_iter().map(|role| (role.name(), role.grant()));
    for (name, grant) in [("a host", grant::host())].into_iter().chain(roles) {
        page += &format!("\n### {name}\n\npublishes\n{}", list(&grant.publish));
        if !grant.never_publish.is_empty() {
            page += &format!("\nbut never\n{}", list(&grant.never_publish));
        }
        page += &format!("\nhears\n{}", list(&grant.subscribe));
        if let Some(time) = grant.answer_for {
            page += &format!("\nanswers whoever sent it a command, for {} min\n", time.as_secs() / 60);
        }
    }
    page
}

#[test]
fn the_page_of_grants_is_what_the_code_grants() {
    const BEGIN: &str = "<!-- grants: bus/tests/golden.rs writes what follows with UPDATE_GRANTS=1 -->\n";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../nats/README.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once("\n## ").unwrap();
    if std::env::var_os("UPDATE_GRANTS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{}\n## {after}", grants())).unwrap();
        return;
    }
    assert!(shown == grants(), "run UPDATE_GRANTS=1 cargo nextest run -p pinacle-bus page_of_grants");
}
