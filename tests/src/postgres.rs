//! A Postgres server of a test's own, from a template that is made once: `initdb` and the migrations take seconds, a
//! copy of their result takes a fraction of one.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::sys::signal::Signal;
use sqlx::{Connection, PgConnection};

use crate::{
    eventually, machine,
    process::{Launch, Process, run},
    sandbox::Sandbox,
};

const STARTS_WITHIN: Duration = Duration::from_secs(60);
const OWNER: &str = "pinacle";
/// The database that has the migrations applied and that others are copies of.
const MIGRATED: &str = "migrated";
/// Raise it when the template is to be made anew for a reason that its key does not cover.
const TEMPLATE_VERSION: u32 = 1;

/// A Postgres server. It keeps its port and its data over `kill9`, `stop` and `restart`.
pub struct Postgres {
    process: Process,
    port: u16,
    sandbox: Sandbox,
}

impl Postgres {
    /// Starts one that does not wait for the disk. What it has acknowledged survives `kill9` all the same, since the
    /// kernel has it; only a crash of the machine would lose it.
    pub async fn start() -> Self {
        Self::start_with(&["-c", "fsync=off", "-c", "full_page_writes=off"]).await
    }

    /// Starts one that waits for the disk, as in real life; for measuring.
    pub async fn durable() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with further arguments, such as `-c`, `max_connections=10`.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let template = template().await;
        let sandbox = Sandbox::new();
        let data = sandbox.path().join("data");
        run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(template).arg(&data));
        Self::start_on(sandbox, &data, arguments).await
    }

    async fn start_on(sandbox: Sandbox, data: &Path, arguments: &[&str]) -> Self {
        let port = machine::free_port();
        let launch = as_server_user(Launch::program(bin().join("postgres")))
            .named("postgres")
            .in_sandbox(&sandbox)
            .in_folder(data)
            .arg("-D")
            .arg(data)
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k"])
            .arg(data)
            .args(["-c", "shared_buffers=64MB", "-c", "max_connections=100", "-c", "log_line_prefix=%m [%p] "])
            .args(arguments);
        let mut postgres = Self { process: launch.spawn(), port, sandbox };
        postgres.await_ready().await;
        postgres
    }

    async fn await_ready(&mut self) {
        let url = self.url("postgres");
        eventually(STARTS_WITHIN, "Postgres to be ready", async || {
            if let Some(status) = self.process.poll() {
                // After `kill9` the old server's children may hold its shared memory for a moment longer.
                let held = self.process.log_text().contains("shared memory block");
                assert!(held, "Postgres ended: {status}\n{}", self.process.tail());
                self.process.restart_unready();
                return Err("its shared memory is still in use".to_owned());
            }
            let connection = PgConnection::connect(&url).await.map_err(|error| error.to_string())?;
            connection.close().await.map_err(|error| error.to_string())
        })
        .await;
    }

    /// A new database with all tables: its address, as settings take it.
    pub async fn database(&self) -> String {
        self.create(MIGRATED).await
    }

    /// A new database without any table.
    pub async fn empty_database(&self) -> String {
        self.create("template1").await
    }

    async fn create(&self, template: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.url("postgres")).await.expect("connect to Postgres");
        // Without a checkpoint each: the copy goes through the log, which is quick for so little.
        let statement = format!("CREATE DATABASE {name} TEMPLATE {template}");
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.expect("create a database");
        self.url(&name)
    }

    /// The address of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{OWNER}@127.0.0.1:{}/{database}", self.port)
    }

    /// The same address through another port, such as that of a [`Proxy`](crate::Proxy).
    pub fn url_at(url: &str, address: std::net::SocketAddr) -> String {
        let (_, rest) = url.split_once('@').expect("an address of this server");
        let (_, database) = rest.split_once('/').expect("an address of this server");
        format!("postgres://{OWNER}@{address}/{database}")
    }

    /// Its port; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        std::net::SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The server's process: pid, log, signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Kills the server's first process with SIGKILL; the others follow when they notice.
    pub async fn kill9(&mut self) {
        self.process.kill9().await;
    }

    /// Stops it at once, as `pg_ctl stop -m immediate`: it recovers at the next start.
    pub async fn stop_immediate(&mut self) {
        self.process.signal(Signal::SIGQUIT);
        self.process.wait(STARTS_WITHIN).await;
    }

    /// Stops it in order, cutting off whoever is connected.
    pub async fn stop(&mut self) {
        self.process.signal(Signal::SIGINT);
        self.process.wait(STARTS_WITHIN).await;
    }

    /// Starts it again on the same port with the same data; kills it first if it runs.
    pub async fn restart(&mut self) {
        self.process.restart_unready();
        self.await_ready().await;
    }

    /// The folder of this test's server.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }
}

/// Postgres refuses to run as root.
fn as_server_user(launch: Launch) -> Launch {
    if machine::is_root() { launch.as_user("postgres") } else { launch }
}

/// Where the newest installed server is.
fn bin() -> PathBuf {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("postgres").is_file())
        .collect();
    versions.sort();
    let installed = versions.pop().map(|(_, bin)| bin);
    installed
        .or_else(|| machine::find_tool("postgres")?.canonicalize().ok()?.parent().map(Path::to_owned))
        .unwrap_or_else(|| panic!("Postgres is missing on this machine; run scripts/setup test"))
}

/// The folder that servers are copied from; made when there is none for these migrations.
async fn template() -> PathBuf {
    let cache = machine::programs().parent().unwrap().join("tmp");
    fs::create_dir_all(&cache).unwrap();
    let lock = fs::File::create(cache.join("postgres.lock")).unwrap();
    lock.lock().unwrap();
    let template = cache.join(format!("postgres-{:016x}", key()));
    if !template.exists() {
        for old in fs::read_dir(&cache).unwrap().flatten() {
            if old.file_name().to_string_lossy().starts_with("postgres-") {
                fs::remove_dir_all(old.path()).unwrap();
            }
        }
        make_template(&template).await;
    }
    template
}

async fn make_template(template: &Path) {
    let sandbox = Sandbox::new();
    let data = sandbox.folder("data");
    if machine::is_root() {
        run(Command::new("chown").arg("postgres:").arg(&data));
    }
    let mut initdb = as_server_user(Launch::program(bin().join("initdb")))
        .in_sandbox(&sandbox)
        .in_folder(&data)
        .args(["--auth=trust", "--username", OWNER, "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
        .arg(&data)
        .spawn();
    let status = initdb.wait(STARTS_WITHIN).await;
    assert!(status.success(), "initdb failed: {status}\n{}", initdb.tail());

    let mut server = Postgres::start_on(sandbox, &data, &["-c", "fsync=off"]).await;
    let mut connection = PgConnection::connect(&server.url("postgres")).await.expect("connect to Postgres");
    let statement = format!("CREATE DATABASE {MIGRATED}");
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.expect("create a database");
    connection.close().await.expect("close a connection");
    let database = sea_orm::Database::connect(server.url(MIGRATED)).await.expect("connect to Postgres");
    pinacle_migrations::migrate(&database).await.expect("apply the migrations");
    database.close().await.expect("close a connection");
    server.stop().await;

    // Whoever is killed here leaves a folder that nobody takes for a template.
    let unfinished = template.with_extension("new");
    let _ = fs::remove_dir_all(&unfinished);
    run(Command::new("cp").arg("-a").arg(&data).arg(&unfinished));
    fs::rename(unfinished, template).unwrap();
}

/// What the template depends on: the server and the migrations.
fn key() -> u64 {
    let mut hasher = DefaultHasher::new();
    TEMPLATE_VERSION.hash(&mut hasher);
    bin().hash(&mut hasher);
    let folder = machine::repository().join("migrations/src");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        file.file_name().hash(&mut hasher);
        fs::read(&file).unwrap_or_default().hash(&mut hasher);
    }
    hasher.finish()
}
