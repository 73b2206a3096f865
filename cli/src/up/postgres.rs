//! The Postgres server that `up` runs: made once, on loopback, with a password of its own.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use nix::{
    sys::signal::Signal,
    unistd::{User, geteuid},
};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use super::{
    door::Door,
    home::{Home, write_private},
    log::Dialect,
    part::{Account, Part, find_program, is_program},
    ports,
    probe::Probe,
};
use crate::{
    failure::{Failure, one_line},
    progress::Step,
};

/// User and database alike.
const NAME: &str = "pinacle";
const PASSWORD: &str = "database_password";
const URL: &str = "database_url";
const TOOL_DEADLINE: Duration = Duration::from_secs(120);
const STOP: &[(Signal, Duration)] = &[
    // Fast: connections are ended, what they had not committed is undone.
    (Signal::SIGINT, Duration::from_secs(20)),
    // Immediate: the next start recovers from the log.
    (Signal::SIGQUIT, Duration::from_secs(5)),
];

/// Where the server is and as whom it runs.
pub(super) struct Postgres {
    data: PathBuf,
    programs: PathBuf,
    account: Option<Account>,
}

impl Postgres {
    /// Finds the programs and the user.
    pub fn find(home: &Home, programs: &Path) -> Result<Self, Failure> {
        let data = home.folder.path("postgres");
        let version = fs::read_to_string(data.join("PG_VERSION")).ok().map(|text| text.trim().to_owned());
        let programs = find_programs(programs, version.as_deref())?;
        let account = account()?;
        Ok(Self { data, programs, account })
    }

    /// Makes the data the first time, and writes the secret `database_url` for this start's port.
    pub async fn prepare(&self, home: &Home, wanted_port: u16, step: &Step) -> Result<u16, Failure> {
        let port = self.port(home, wanted_port)?;
        let fresh_password = !home.has_secret(PASSWORD);
        let password = home.secret(PASSWORD)?;
        if !self.data.join("PG_VERSION").exists() {
            step.note("making its data, the first time only");
            self.initialize(home, &password).await.context("postgres: cannot make its data")?;
        } else if fresh_password {
            step.note("setting a new password");
            self.alone(&self.data, &format!("ALTER ROLE {NAME} PASSWORD '{password}'")).await?;
        }
        home.write_secret(URL, &format!("postgres://{NAME}:{password}@127.0.0.1:{port}/{NAME}"))?;
        Ok(port)
    }

    fn port(&self, home: &Home, wanted: u16) -> Result<u16, Failure> {
        if wanted != 0 {
            ports::require("postgres", ([127, 0, 0, 1], wanted).into(), "--postgres-port")?;
            return Ok(wanted);
        }
        let note = home.folder.path("run/postgres.port");
        let last = fs::read_to_string(&note).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let port = ports::free(last).context("postgres: no free port")?;
        fs::write(&note, port.to_string()).with_context(|| format!("cannot write {}", note.display()))?;
        Ok(port)
    }

    /// In a folder beside the final one, so that a start that is cut off leaves nothing half made.
    async fn initialize(&self, home: &Home, password: &str) -> anyhow::Result<()> {
        let unfinished = home.folder.path("postgres.new");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).with_context(|| format!("remove {}", unfinished.display()))?;
        }
        fs::create_dir(&unfinished).with_context(|| format!("make {}", unfinished.display()))?;
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o700))?;
        let password_file = home.folder.path("run/postgres.initial");
        write_private(&password_file, password).map_err(|failure| anyhow!(failure.line()))?;
        if let Some(Account { uid, gid }) = self.account {
            chown(&unfinished, Some(uid), Some(gid))?;
            chown(&password_file, Some(uid), Some(gid))?;
        }
        // Its own copies: they are open no longer than this takes.
        let (folder, file) = (Door::to(&unfinished, self.account)?, Door::to(&password_file, self.account)?);
        let mut command = self.tool("initdb");
        command
            .args(["--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--data-checksums", "--username", NAME])
            .arg("--pgdata")
            .arg(folder.path())
            .arg("--pwfile")
            .arg(file.path());
        let made = run(command, None).await;
        fs::remove_file(&password_file)?;
        made?;
        self.alone(&unfinished, &format!("CREATE DATABASE {NAME}")).await?;
        fs::rename(&unfinished, &self.data)?;
        Ok(())
    }

    /// One statement without a server, before anybody else is let in.
    async fn alone(&self, data: &Path, statement: &str) -> anyhow::Result<()> {
        let folder = Door::to(data, self.account)?;
        let mut command = self.tool("postgres");
        command.args(["--single", "-j", "-D"]).arg(folder.path()).arg("postgres");
        run(command, Some(&format!("{statement}\n"))).await
    }

    /// One of Postgres' programs, as its user.
    fn tool(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = match (self.account, find_program("setpriv")) {
            (Some(Account { uid, gid }), Some(setpriv)) => {
                let mut command = Command::new(setpriv);
                command.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string(), "--init-groups", "--"]);
                command.arg(program);
                command
            }
            (Some(Account { uid, gid }), None) => {
                let mut command = Command::new(program);
                command.uid(uid).gid(gid);
                command
            }
            (None, _) => Command::new(program),
        };
        // The user's own settings for other servers must not reach this one.
        command.env_remove("PGDATA").env_remove("PGOPTIONS").current_dir("/");
        command
    }

    /// The server as a part.
    pub fn part(&self, port: u16) -> Result<Part, Failure> {
        let door = Door::to(&self.data, self.account)?;
        let mut arguments: Vec<OsString> = vec!["-D".into(), door.path().into(), "-p".into(), port.to_string().into()];
        for (name, value) in tuning(memory_mib()) {
            arguments.push("-c".into());
            arguments.push(format!("{name}={value}").into());
        }
        Ok(Part {
            name: "postgres",
            program: self.programs.join("postgres"),
            arguments,
            environment: Vec::new(),
            account: self.account,
            _door: Some(door),
            // Immediate: nothing is left, and the next start recovers.
            death_signal: "QUIT",
            stop: STOP,
            probe: Probe::Postgres(self.data.join("postmaster.pid")),
            dialect: Dialect::Postgres,
            // A recovery after a crash reads up to max_wal_size.
            start_deadline: Duration::from_secs(180),
        })
    }
}

/// Sensible for a machine that does other work, too. Nothing here trades away what has been committed.
fn tuning(memory_mib: u64) -> Vec<(&'static str, String)> {
    let shared = (memory_mib / 8).clamp(64, 1024);
    vec![
        ("listen_addresses", "127.0.0.1".into()),
        ("unix_socket_directories", String::new()),
        ("shared_buffers", format!("{shared}MB")),
        ("effective_cache_size", format!("{}MB", (memory_mib / 2).max(256))),
        ("maintenance_work_mem", "128MB".into()),
        ("max_connections", "100".into()),
        ("wal_compression", "on".into()),
        ("max_wal_size", "2GB".into()),
        ("checkpoint_timeout", "15min".into()),
        ("checkpoint_completion_target", "0.9".into()),
        // Solid-state disks; the planner's default is for rotating ones.
        ("random_page_cost", "1.1".into()),
        ("jit", "off".into()),
        ("password_encryption", "scram-sha-256".into()),
        ("logging_collector", "off".into()),
        ("log_destination", "stderr".into()),
        ("log_checkpoints", "off".into()),
        ("log_timezone", "UTC".into()),
        ("timezone", "UTC".into()),
    ]
}

fn memory_mib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    total.map_or(1024, |kib| kib / 1024)
}

async fn run(mut command: Command, input: Option<&str>) -> anyhow::Result<()> {
    let name = format!("{:?}", command.as_std().get_program());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("start {name}"))?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = timeout(TOOL_DEADLINE, child.wait_with_output()).await.context("it does not end")??;
    let said = String::from_utf8_lossy(&output.stderr);
    // The single-user mode reports an error and then ends well.
    let faults: Vec<&str> = said
        .lines()
        .filter(|line| ["error:", "ERROR:", "FATAL:", "PANIC:"].iter().any(|word| line.contains(word)))
        .collect();
    if output.status.success() && faults.is_empty() {
        return Ok(());
    }
    let reason =
        if faults.is_empty() { said.lines().last().unwrap_or("no word").to_owned() } else { faults.join("; ") };
    bail!("{}", one_line(&reason))
}

/// The user that Postgres runs as: it refuses root.
fn account() -> Result<Option<Account>, Failure> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    match User::from_name("postgres") {
        Ok(Some(user)) => Ok(Some(Account { uid: user.uid.as_raw(), gid: user.gid.as_raw() })),
        _ => Err(Failure::failed(
            "postgres: there is no user postgres, and it refuses to run as root: run scripts/setup run",
        )),
    }
}

fn find_programs(given: &Path, version: Option<&str>) -> Result<PathBuf, Failure> {
    let complete = |folder: &Path| ["postgres", "initdb"].iter().all(|name| is_program(&folder.join(name)));
    if !given.as_os_str().is_empty() {
        return if complete(given) {
            Ok(given.to_owned())
        } else {
            Err(Failure::input(format!("up.postgres_bin: {} has no postgres and initdb", given.display())))
        };
    }
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, folder)| complete(folder))
        .collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let elsewhere = std::env::split_paths(&path)
        .filter(|folder| complete(folder))
        .find(|folder| version.is_none_or(|version| release(folder).as_deref() == Some(version)));
    let chosen = match version {
        // Data of one release are no other release's to read.
        Some(version) => found.into_iter().find(|(number, _)| number.to_string() == version).map(|(_, folder)| folder),
        None => found.pop().map(|(_, folder)| folder),
    };
    chosen.or(elsewhere).ok_or_else(|| {
        Failure::failed(match version {
            Some(version) => format!(
                "postgres: its data are of release {version}, which is not installed: install postgresql-{version}"
            ),
            None => "postgres: it is not installed: run scripts/setup run".into(),
        })
    })
}

/// The major release of the programs in a folder.
fn release(folder: &Path) -> Option<String> {
    let output = std::process::Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    // Such as: postgres (PostgreSQL) 15.19 (Debian 15.19-0+deb12u1)
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    number.split('.').next().map(str::to_owned)
}
