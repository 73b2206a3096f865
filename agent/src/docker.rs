//! Docker: which containers there are, kept up to date by its events; a host without it is watched all the same.
//!
//! One task writes the [`View`], all others read it. A view is at most a minute behind even if every event were lost:
//! Docker keeps only 256 of them, so the list is read again after each reconnect and on a clock.

mod entries;
mod sizes;
mod watcher;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bollard::Docker;
use pinacle_bus::contract::{
    PodId,
    host::DockerState,
    inventory::{ContainerEntry, ImageEntry, NetworkEntry},
};
use tokio::{sync::watch, time::timeout};

pub use entries::cut;
pub use sizes::measure_disks;
pub use watcher::watch_docker;

/// What is known of Docker now.
#[derive(Clone)]
pub struct View {
    /// Whether it answers.
    pub state: DockerState,
    /// Its runtimes, such as `runc` and `runsc`.
    pub runtimes: Arc<Vec<String>>,
    /// All containers, ours and others.
    pub containers: Arc<Vec<ContainerEntry>>,
    /// Our pods that run.
    pub pods: Arc<Vec<Pod>>,
    /// Goes up with each change of containers, images or networks.
    pub revision: u64,
    /// Whether the first look is over, whatever it found.
    pub looked: bool,
    /// The last wish for a look that was known when the look at these containers began.
    wish: u64,
    client: Option<Docker>,
}

/// A pod's running container.
#[derive(Debug, Clone)]
pub struct Pod {
    /// The pod.
    pub pod_id: PodId,
    /// Its container.
    pub container_id: Arc<str>,
    /// The container's first process; under gVisor the sandbox.
    pub pid: u32,
    /// Size of its writable layer.
    pub disk: Arc<DiskSize>,
}

/// A size that is measured on a slow clock, and read all the time.
#[derive(Debug)]
pub struct DiskSize(AtomicU64);

impl Default for DiskSize {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl DiskSize {
    /// In bytes; `None` = not measured yet.
    pub fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|bytes| *bytes != u64::MAX)
    }

    /// Notes a measurement.
    pub fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }
}

/// Why Docker did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// It does not answer, or there is none.
    #[error("docker is away")]
    Away,
    /// It did not answer in time.
    #[error("docker did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// It said no, or something that cannot be read.
    #[error("docker failed")]
    Failed(#[source] bollard::errors::Error),
}

impl DockerError {
    /// Whether the thing asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Failed(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }))
    }

    /// With its cause, for people.
    pub fn chain(&self) -> String {
        match std::error::Error::source(self) {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }
}

/// What is expected of Docker at most; listing 1000 containers takes it a tenth of that.
const DEADLINE: Duration = Duration::from_secs(10);

/// Waits for Docker, but not for ever.
async fn within<T>(
    deadline: Duration,
    request: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, DockerError> {
    match timeout(deadline, request).await {
        Ok(result) => result.map_err(DockerError::Failed),
        Err(_) => Err(DockerError::Timeout(deadline)),
    }
}

impl View {
    /// Before the first look.
    pub fn unknown() -> Self {
        Self {
            state: DockerState::Absent,
            runtimes: Arc::default(),
            containers: Arc::default(),
            pods: Arc::default(),
            revision: 0,
            looked: false,
            wish: 0,
            client: None,
        }
    }

    /// A view without a Docker behind it, for tests.
    #[cfg(test)]
    pub fn fixed(containers: Vec<ContainerEntry>) -> Self {
        Self { containers: Arc::new(containers), looked: true, ..Self::unknown() }
    }

    /// The client, while Docker answers.
    ///
    /// # Errors
    /// [`DockerError::Away`].
    pub fn client(&self) -> Result<&Docker, DockerError> {
        self.client.as_ref().ok_or(DockerError::Away)
    }

    /// All images and networks now.
    ///
    /// # Errors
    /// See [`DockerError`].
    pub async fn images_and_networks(&self) -> Result<(Vec<ImageEntry>, Vec<NetworkEntry>), DockerError> {
        let client = self.client()?;
        let images = within(DEADLINE, client.list_images(None::<bollard::query_parameters::ListImagesOptions>)).await?;
        let networks = within(DEADLINE, client.list_networks(None)).await?;
        Ok((images.into_iter().map(entries::image).collect(), networks.into_iter().map(entries::network).collect()))
    }
}

/// The channel between the task that watches Docker and those that read.
pub fn channel() -> (watch::Sender<View>, watch::Receiver<View>) {
    watch::channel(View::unknown())
}

/// Wishes for a look now: events tell of a change a moment after it, and on a busy host a long moment.
#[derive(Clone)]
pub struct Looks {
    wishes: Arc<watch::Sender<u64>>,
    view: watch::Receiver<View>,
}

impl Looks {
    /// Of the task that writes this view.
    pub fn new(view: watch::Receiver<View>) -> Self {
        Self { wishes: Arc::new(watch::Sender::new(0)), view }
    }

    /// Waits until the view shows nothing from before now, but not for a Docker that is away. Says whether it does.
    pub async fn fresh(&self) -> bool {
        let mut wish = 0;
        self.wishes.send_modify(|wishes| {
            *wishes += 1;
            wish = *wishes;
        });
        let mut view = self.view.clone();
        let is_fresh = view.wait_for(|view| view.client.is_none() || view.wish >= wish);
        timeout(DEADLINE, is_fresh).await.is_ok_and(|fresh| fresh.is_ok())
    }
}
