//! Looking for what must be nowhere: in streams, tables, files and processes. Beside it goes a control that must be found,
//! since a search that does not find that one finds nothing at all.

use std::{collections::BTreeSet, fs, path::Path, sync::mpsc, thread, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use futures_util::TryStreamExt;
use pinacle_tests::lab::Lab;
use sqlx::{PgPool, Row};

/// What must be nowhere, in the forms that it could have, and what must be found.
pub struct Marks {
    secrets: Vec<Vec<u8>>,
    control: Vec<u8>,
}

impl Marks {
    pub fn new(values: &[&str], control: &str) -> Self {
        let mut secrets = Vec::new();
        for value in values {
            let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
            secrets.extend([value.as_bytes().to_vec(), hex.into_bytes()]);
            // At whichever place of another text it is: the part that is the same wherever it begins.
            for skipped in 0..3 {
                let rest = value.as_bytes().get(skipped..).unwrap();
                let whole = rest.len() / 3 * 3;
                secrets.push(STANDARD_NO_PAD.encode(&rest[..whole]).into_bytes());
            }
        }
        Self { secrets, control: control.as_bytes().to_vec() }
    }

    pub fn has_secret(&self, text: &[u8]) -> bool {
        self.secrets.iter().any(|secret| contains(text, secret))
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    let mut rest = text;
    while let Some(place) = rest.iter().position(|byte| *byte == part[0]) {
        rest = &rest[place..];
        if rest.starts_with(part) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Where a search found what.
#[derive(Default, Debug)]
pub struct Found {
    secrets: BTreeSet<String>,
    control: bool,
}

impl Found {
    pub fn look(&mut self, marks: &Marks, text: &[u8], place: impl FnOnce() -> String) {
        self.control |= contains(text, &marks.control);
        if marks.has_secret(text) {
            self.secrets.insert(place());
        }
    }

    pub fn check(&self, what: &str) {
        assert!(self.control, "the search of {what} finds nothing at all");
        assert!(self.secrets.is_empty(), "secrets are in {what}: {:?}", self.secrets);
    }
}

/// Looks at the arguments and environments of all processes of the machine until it is stopped.
pub struct Sampler {
    stop: mpsc::Sender<()>,
    thread: thread::JoinHandle<Found>,
}

impl Sampler {
    pub fn start(marks: Marks) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut found = Found::default();
            while stopped.recv_timeout(Duration::from_millis(5)) == Err(mpsc::RecvTimeoutError::Timeout) {
                for process in fs::read_dir("/proc").unwrap().flatten() {
                    for file in ["cmdline", "environ"] {
                        // It may have ended.
                        let Ok(text) = fs::read(process.path().join(file)) else { continue };
                        found.look(&marks, &text, || String::from_utf8_lossy(&text).into_owned());
                    }
                }
            }
            found
        });
        Self { stop, thread }
    }

    pub fn stop(self) -> Found {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap()
    }
}

pub async fn streams(lab: &mut Lab, marks: &Marks) -> Found {
    let mut found = Found::default();
    let jetstream = lab.nats().jetstream().await;
    let names: Vec<String> = jetstream.stream_names().try_collect().await.unwrap();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let mut stream = jetstream.get_stream(&name).await.unwrap();
        let state = stream.info().await.unwrap().state.clone();
        for sequence in state.first_sequence..=state.last_sequence {
            // It may have been replaced by a newer one.
            let Ok(message) = stream.get_raw_message(sequence).await else { continue };
            let headers = format!("{:?} {}", message.headers, message.subject);
            for part in [&message.payload[..], headers.as_bytes()] {
                found.look(marks, part, || format!("{name} {} {}", message.subject, String::from_utf8_lossy(part)));
            }
        }
    }
    found
}

pub async fn tables(database: &str, marks: &Marks) -> Found {
    let mut found = Found::default();
    let pool = PgPool::connect(database).await.unwrap();
    let tables = "SELECT format('%I', tablename) FROM pg_tables WHERE schemaname = 'public'";
    for table in sqlx::query(tables).fetch_all(&pool).await.unwrap() {
        let table: String = table.get(0);
        // Bytes are written in hexadecimal digits, which is one of the forms.
        let rows =
            sqlx::query(sqlx::AssertSqlSafe(format!("SELECT t::text FROM {table} t"))).fetch_all(&pool).await.unwrap();
        for row in rows {
            let text: String = row.get(0);
            found.look(marks, text.as_bytes(), || format!("{table}: {text}"));
        }
    }
    found
}

/// Every file below a folder, those of the bus, the database and Docker among them.
pub fn files(folder: &Path, marks: &Marks, found: &mut Found) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
        if kind.is_dir() {
            files(&path, marks, found);
        } else if kind.is_file()
            && let Ok(text) = fs::read(&path)
        {
            found.look(marks, &text, || path.display().to_string());
        }
    }
}
