//! What each verb does, step by step. Everything that enumerates steps enumerates these: the driver, the documentation and
//! the tests that kill the orchestrator before, inside and after each of them.

use std::time::Duration;

/// A step of an operation on a pod. Each one is an effect that may be had twice and is the same: a copy that takes an
/// operation over runs the step under way again from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Chooses a host and reserves capacity, port and subnet there. Waits while no host has room.
    Place,
    /// Brings the image to the host.
    Image,
    /// Makes the pod's network and what keeps it apart from others.
    Network,
    /// Makes its volumes.
    Volume,
    /// Makes its container.
    Container,
    /// Starts it, or resumes it.
    Start,
    /// Waits until it answers.
    Answer,
    /// Stops it.
    Stop,
    /// Freezes it.
    Pause,
    /// Thaws it.
    Resume,
    /// Removes its container.
    RemoveContainer,
    /// Removes its network.
    RemoveNetwork,
    /// Removes its volumes.
    RemoveVolume,
    /// Gives back what was reserved on the host.
    Release,
    /// Asks the host what became of the pod, after an operation that did not reach its end.
    Inspect,
}

impl Step {
    /// As in an operation's steps, an exec record and `crash_at`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Place => "place",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Container => "container",
            Self::Start => "start",
            Self::Answer => "answer",
            Self::Stop => "stop",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::RemoveContainer => "remove_container",
            Self::RemoveNetwork => "remove_network",
            Self::RemoveVolume => "remove_volume",
            Self::Release => "release",
            Self::Inspect => "inspect",
        }
    }

    /// The step of this label.
    pub fn find(label: &str) -> Option<Self> {
        let all = Verb::ALL.into_iter().flat_map(|verb| verb.steps().into_iter().chain(verb.undo()));
        all.into_iter().find(|step| step.label() == label)
    }

    /// How long it may take, all tries together; never longer than its operation.
    pub fn deadline(self) -> Duration {
        match self {
            // As long as its operation.
            Self::Place => Duration::MAX,
            Self::Image => Duration::from_secs(600),
            _ => Duration::from_secs(120),
        }
    }
}

/// What can be asked of a pod, but for `cancel`, which is no operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Make it and start it.
    Create,
    /// Start it; what is missing of it is made anew.
    Start,
    /// Stop it.
    Stop,
    /// Stop it and start it.
    Restart,
    /// Freeze it.
    Pause,
    /// Thaw it.
    Resume,
    /// Remove it with all that it has.
    Delete,
    /// Remove what remains of it on its host, and keep its record: what a failed creation could not do itself.
    Clean,
}

const RISE: [Step; 7] =
    [Step::Place, Step::Image, Step::Network, Step::Volume, Step::Container, Step::Start, Step::Answer];
const REMOVE: [Step; 4] = [Step::RemoveContainer, Step::RemoveNetwork, Step::RemoveVolume, Step::Release];

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 8] =
        [Self::Create, Self::Start, Self::Stop, Self::Restart, Self::Pause, Self::Resume, Self::Delete, Self::Clean];

    /// As in the subject of a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Delete => "delete",
            Self::Clean => "clean",
        }
    }

    /// The verb of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == name)
    }

    /// Its steps, in order.
    pub fn steps(self) -> Vec<Step> {
        match self {
            Self::Create | Self::Start => RISE.to_vec(),
            Self::Stop => vec![Step::Stop],
            Self::Restart => [&[Step::Stop][..], &RISE].concat(),
            Self::Pause => vec![Step::Pause],
            Self::Resume => vec![Step::Resume, Step::Answer],
            Self::Delete | Self::Clean => REMOVE.to_vec(),
        }
    }

    /// The steps that undo it when it failed or was cancelled, or tell what became of the pod.
    pub fn undo(self) -> Vec<Step> {
        match self {
            Self::Create => REMOVE.to_vec(),
            Self::Start | Self::Stop | Self::Restart | Self::Pause | Self::Resume => vec![Step::Inspect],
            // Removing is taken up again until it is done.
            Self::Delete | Self::Clean => Vec::new(),
        }
    }
}
