//! Whatever arrives on the bus, decoding it ends with a message or an error: no panic, no endless loop, no message that
//! breaks the rules that storage relies on.
//!
//! The inputs are golden messages spoiled in many ways, rather than noise: noise never gets past the first brace.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{fs, path::PathBuf};

use pinacle_bus::{
    client::TraceParent,
    contract::{
        DecodeError, HostId, Message, PodId, SCHEMA_VERSION, Subject, Timestamp,
        audit::{AuditEntry, AuditHead},
        command::*,
        dead::DeadLetter,
        decode, encode,
        event::Event,
        exec::ExecRecord,
        host::*,
        inventory::Inventory,
        key::*,
        ledger::*,
        metrics::Metrics,
        pod::{CreatePod, PodRecord},
        reconciler::ReconcilerStatus,
        request::*,
    },
};
use proptest::{prelude::*, sample::Index};
use serde_json::Value;

type Decoder = fn(u32, &[u8]) -> bool;

/// Decodes, and checks what every reader relies on when it succeeds: what passed once passes again when written anew.
fn attempt<M: Message>(schema: u32, bytes: &[u8]) -> bool {
    match decode::<M>(schema, bytes) {
        Ok(message) => {
            assert!(bytes.len() <= M::MAX_BYTES && schema <= SCHEMA_VERSION);
            message.check().unwrap();
            let written = encode(&message).unwrap();
            // Escapes and long forms of numbers can make the text longer than what was read, beyond the limit. Floats
            // of more than 15 digits may differ in the last place.
            match decode::<M>(SCHEMA_VERSION, &written) {
                Ok(_) | Err(DecodeError::TooLarge { .. }) => {}
                Err(error) => panic!("what was accepted is refused when read back: {error:?}"),
            }
            let value: Value = serde_json::from_slice(&written).unwrap();
            assert!(!holds_nul(&value), "Postgres cannot store a NUL: {value}");
            true
        }
        Err(_) => false,
    }
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(fields) => fields.iter().any(|(key, inner)| key.contains('\0') || holds_nul(inner)),
        _ => false,
    }
}

macro_rules! decoders {
    ($($message:ty),* $(,)?) => { [$((<$message>::NAME, attempt::<$message> as Decoder)),*] };
}

fn decoders() -> Vec<(&'static str, Decoder, Vec<u8>)> {
    decoders!(
        Heartbeat,
        HostRecord,
        Metrics,
        Inventory,
        PodRecord,
        Request,
        RequestCommitted,
        Operation,
        AuditEntry,
        AuditHead,
        Event,
        ExecRecord,
        DeadLetter,
        Ping,
        Version,
        Sample,
        TakeInventory,
        SetInterval,
        Logs,
        RotateKey,
        CreatePod,
        HostLedger,
        IdempotentRequest,
        SealingKey,
        SshKeyRing,
        Lease,
        ReconcilerStatus,
    )
    .into_iter()
    .map(|(name, decoder)| (name, decoder, fs::read(folder().join(format!("{name}.json"))).unwrap()))
    .collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/v{SCHEMA_VERSION}"))
}

/// A value that JSON allows and that fields rarely expect.
fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![0.0, -0.0, 1e308, -1e308, 5e-324, 1e15, 4.096e5]).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "\0",
            "*",
            ">",
            "a.b",
            "2026-11-21T09:15:40.123Z",
            "9999-12-31T23:59:60.999Z",
            "-1",
            "é\u{202e}",
        ])
        .prop_map(Value::from),
        Just(Value::from(HostId::new().to_string())),
        Just(Value::from("x".repeat(100_000))),
        Just(serde_json::json!([[[[[[[[]]]]]]]])),
        Just(serde_json::json!({ "ok": {}, "fault": null })),
        prop::collection::vec(any::<u8>().prop_map(Value::from), 0..2000).prop_map(Value::from),
    ]
}

/// Puts `odd` where `place` points among all values of the tree, or removes what is there.
fn spoil(root: &mut Value, place: Index, odd: Option<Value>) {
    let mut pointers = Vec::new();
    collect(root, String::new(), &mut pointers);
    let pointer = place.get(&pointers).clone();
    match odd {
        Some(odd) => *root.pointer_mut(&pointer).unwrap() = odd,
        None => {
            let Some((parent, key)) = pointer.rsplit_once('/') else { return };
            match root.pointer_mut(parent) {
                Some(Value::Object(fields)) => drop(fields.remove(key)),
                Some(Value::Array(items)) => drop(items.pop()),
                _ => {}
            }
        }
    }
}

fn collect(value: &Value, path: String, pointers: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, inner)| collect(inner, format!("{path}/{key}"), pointers));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, inner)| collect(inner, format!("{path}/{at}"), pointers));
        }
        _ => {}
    }
    pointers.push(path);
}

/// A change of raw bytes.
#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Cut(Index),
    Remove(Index, usize),
    Repeat(Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, with)| Damage::Flip(at, with)),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (any::<Index>(), prop::sample::select(vec!["[", "{", "\"", "\\u0000", "1e999", "-", "\\ud800", "9e"]))
            .prop_map(|(at, text)| Damage::Insert(at, text.as_bytes().to_vec())),
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), 1_usize..64).prop_map(|(at, length)| Damage::Remove(at, length)),
        (any::<Index>(), 1_usize..500).prop_map(|(at, times)| Damage::Repeat(at, times)),
    ]
}

fn hurt(bytes: &mut Vec<u8>, damage: Damage) {
    if bytes.is_empty() {
        return;
    }
    match damage {
        Damage::Flip(at, with) => {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        Damage::Insert(at, what) => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, what);
        }
        Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Damage::Remove(at, length) => {
            let at = at.index(bytes.len());
            bytes.drain(at..bytes.len().min(at + length));
        }
        Damage::Repeat(at, times) => {
            let at = at.index(bytes.len());
            let byte = bytes[at];
            bytes.splice(at..at, std::iter::repeat_n(byte, times));
        }
    }
}

#[test]
fn every_golden_message_is_accepted_by_its_own_decoder() {
    for (name, decoder, golden) in decoders() {
        assert!(decoder(SCHEMA_VERSION, &golden), "{name}");
    }
    assert_eq!(decoders().len(), fs::read_dir(folder()).unwrap().count(), "a message that no decoder is tried on");
}

#[test]
fn nesting_without_end_is_refused_and_not_followed() {
    for (name, decoder, _) in decoders() {
        for bracket in ["[", "{\"a\":"] {
            let bytes = bracket.repeat(4000);
            assert!(!decoder(SCHEMA_VERSION, bytes.as_bytes()), "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_message_with_odd_values_is_accepted_whole_or_refused(
        changes in prop::collection::vec((any::<Index>(), prop::option::weighted(0.8, odd_value())), 1..4),
        which in any::<Index>(),
    ) {
        let decoders = decoders();
        let (_, decoder, golden) = which.get(&decoders);
        let mut message: Value = serde_json::from_slice(golden).unwrap();
        for (place, odd) in changes {
            spoil(&mut message, place, odd);
        }
        decoder(SCHEMA_VERSION, message.to_string().as_bytes());
    }

    #[test]
    fn a_message_with_damaged_bytes_is_accepted_whole_or_refused(
        damages in prop::collection::vec(damage(), 1..6),
        which in any::<Index>(),
        reader in any::<Index>(),
        schema in prop_oneof![4 => 0..=SCHEMA_VERSION, 1 => any::<u32>()],
    ) {
        let decoders = decoders();
        let mut bytes = which.get(&decoders).2.clone();
        for damage in damages {
            hurt(&mut bytes, damage);
        }
        // Also by another message's decoder: subjects can lie.
        which.get(&decoders).1(schema, &bytes);
        reader.get(&decoders).1(schema, &bytes);
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for (_, decoder, _) in decoders() {
            decoder(SCHEMA_VERSION, &bytes);
        }
    }

    #[test]
    fn a_subject_that_is_read_is_written_the_same(
        tokens in prop::collection::vec(
            prop_oneof![
                prop::sample::select(vec![
                    "pinacle", "v1", "host", "pod", "cmd", "req", "evt", "exec", "tty", "dead", "committed", "metrics",
                    "heartbeat", "in", "op", "*", ">", "", "$SYS", "a b",
                ]).prop_map(str::to_owned),
                Just(HostId::new().to_string()),
                Just(PodId::new().to_string()),
                "[a-zA-Z0-9_-]{1,70}",
                any::<String>(),
            ],
            0..7,
        ),
        prefixed in any::<bool>(),
    ) {
        let text = tokens.join(".");
        let text = if prefixed { format!("pinacle.v1.{text}") } else { text };
        if let Ok(subject) = text.parse::<Subject>() {
            prop_assert_eq!(subject.to_string(), text);
        }
    }

    #[test]
    fn ids_times_and_trace_contexts_are_read_back_as_written_or_refused(text in prop_oneof![
        any::<String>(),
        "(host|pod)_[0-9A-Za-z]{26,28}",
        "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,12})?(Z|[+-][0-9]{2}:[0-9]{2})",
        "0[01]-[0-9a-fA-F]{31,33}-[0-9a-f]{16}-[0-9a-f]{2}",
    ]) {
        if let Ok(host) = text.parse::<HostId>() {
            prop_assert_eq!(host.to_string(), &*text);
        }
        if let Ok(pod) = text.parse::<PodId>() {
            prop_assert_eq!(pod.to_string(), &*text);
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            prop_assert_eq!(time.to_string().parse::<Timestamp>(), Ok(time));
        }
        if let Ok(trace) = text.parse::<TraceParent>() {
            prop_assert_eq!(trace.to_string(), text);
        }
    }
}
