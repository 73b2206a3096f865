//! The contract as a page for people: `docs/SUBJECTS.md` is what this prints, and a test compares the two.

use std::{fmt::Write, time::Duration};

use super::{
    SCHEMA_VERSION, command, header,
    subject::{PREFIX, filter},
    topology::{BUCKETS, CONSUMERS, Keep, StreamName},
};

/// A kind of subject: its pattern, who speaks to whom, and what it carries.
const SUBJECTS: [(&str, &str, &str); 10] = [
    ("host.<host>.heartbeat", "agent → orchestrator, gateway", "`heartbeat`, every 5 s from a task of its own"),
    ("host.<host>.metrics", "agent → ingest, gateway", "`metrics`: the host's sample and all its pods'"),
    ("host.<host>.inventory", "agent → orchestrator", "`inventory`, on change and each minute"),
    ("cmd.<host>.<verb>", "orchestrator, gateway → agent", "a command; the reply is `{\"ok\": …}` or `{\"fault\": …}`"),
    ("req.<kind>.<id>.<verb>", "gateway, CLI → orchestrator, ingest", "`request`"),
    ("evt.<kind>.<id>.<what>", "whoever owns the thing → ingest, gateway", "`event`"),
    ("exec.<pod or host>.<op>", "orchestrator → ingest, gateway", "`exec_record`"),
    ("tty.<session>.<in, out or ctl>", "gateway ↔ agent", "a terminal's bytes"),
    ("dead.<stream>.<consumer>", "any consumer → ingest", "`dead_letter`"),
    (
        "committed.<request>",
        "ingest → gateway",
        "`request_committed`: the request's row is in the database; in no stream",
    ),
];

/// The whole page.
pub fn subjects() -> String {
    let mut page = String::from(
        "# Subjects\n\nWhat travels on the bus. Printed by `pinacle subjects` from `bus/src/contract`, and compared with it by a test: \
         change the code, then print this page anew.\n\n",
    );
    // Writing to a String cannot fail.
    let _ = write(&mut page);
    page
}

fn write(page: &mut String) -> std::fmt::Result {
    writeln!(page, "Every subject begins with `{PREFIX}.`\n")?;
    writeln!(page, "| subject | from → to | carries |\n|---|---|---|")?;
    for (pattern, speakers, carries) in SUBJECTS {
        writeln!(page, "| `{pattern}` | {speakers} | {carries} |")?;
    }
    writeln!(page, "\nCommands: {}.", list(command::VERBS))?;
    writeln!(page, "\n## Headers\n\n| header | meaning |\n|---|---|")?;
    writeln!(page, "| `{}` | JetStream keeps one message of this id within two minutes |", header::MESSAGE_ID)?;
    writeln!(page, "| `{}` | the sender's schema version, now {SCHEMA_VERSION}; absent = 1 |", header::SCHEMA)?;
    writeln!(page, "| `{}` | id of the request that led to this message |", header::CAUSE)?;
    writeln!(page, "| `{}` | W3C trace context |", header::TRACE_PARENT)?;

    writeln!(
        page,
        "\n## Streams\n\nSizes are shares of the setting `bus.storage_bytes`; beyond them the oldest go.\n"
    )?;
    writeln!(page, "| stream | takes in | keeps | share | what |\n|---|---|---|---|---|")?;
    for spec in StreamName::DECLARED.into_iter().filter_map(StreamName::spec) {
        let medium = match (spec.in_memory, spec.async_persist) {
            (true, _) => ", in memory",
            (false, true) => ", acknowledged before it is on disk (without replicas)",
            (false, false) => "",
        };
        let keeps = match spec.keep {
            Keep::For(age) => days(age),
            Keep::LastOfEach => "the newest of each subject".into(),
        };
        let subjects: Vec<&str> = spec.subjects.iter().map(String::as_str).collect();
        writeln!(
            page,
            "| {} | {} | {keeps}{medium} | {} % | {} |",
            spec.name.as_str(),
            list(&subjects),
            spec.storage_percent,
            spec.description
        )?;
    }

    writeln!(page, "\n## Durable consumers\n\n| consumer | stream | tries | what |\n|---|---|---|---|")?;
    for spec in CONSUMERS {
        writeln!(page, "| `{}` | {} | {} | {} |", spec.name, spec.stream.as_str(), spec.max_tries, spec.description)?;
    }

    writeln!(page, "\n## Buckets\n\n| bucket | entries last | share | what |\n|---|---|---|---|")?;
    for spec in BUCKETS {
        let lasts = if spec.time_to_live.is_zero() { "until removed".into() } else { days(spec.time_to_live) };
        writeln!(page, "| `{}` | {lasts} | {} % | {} |", spec.name, spec.storage_percent, spec.description)?;
    }
    writeln!(
        page,
        "\n## The server's notices\n\n`{}` and `{}`: evidence for liveness.",
        filter::CONNECTED,
        filter::DISCONNECTED
    )
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn days(age: Duration) -> String {
    match age.as_secs() {
        seconds if seconds % 86_400 == 0 => format!("{} d", seconds / 86_400),
        seconds => format!("{seconds} s"),
    }
}
