//! Docker's words turned into the inventory's, cut to what a message holds.

use std::collections::HashMap;

use bollard::models::{ContainerInspectResponse, ContainerSummary, ImageSummary, Network};
use pinacle_bus::contract::{
    Timestamp,
    inventory::{ContainerEntry, ImageEntry, NetworkEntry},
};

/// Our labels. Their values come from whoever made the container: what does not parse counts as absent.
mod label {
    pub const POD: &str = "pinacle.pod";
    pub const OWNER: &str = "pinacle.owner";
    pub const OPERATION: &str = "pinacle.op";
}

type Labels = HashMap<String, String>;

fn labelled<T: std::str::FromStr>(labels: Option<&Labels>, name: &str) -> Option<T> {
    labels?.get(name)?.parse().ok()
}

/// At most `most` bytes, and nothing that a table cannot store.
pub fn cut(text: &str, most: usize) -> String {
    let mut kept: String = text.chars().filter(|letter| *letter != '\0').collect();
    if kept.len() > most {
        let end = (0..=most).rev().find(|end| kept.is_char_boundary(*end)).unwrap_or(0);
        kept.truncate(end);
    }
    kept
}

/// What only an inspection tells; it holds until an event names the container.
#[derive(Debug, Clone, Default)]
pub struct Details {
    /// Docker's word. The list lags behind its own events for a moment; an inspection does not.
    pub state: String,
    pub runtime: Option<String>,
    pub started_at: Option<Timestamp>,
    pub exit_code: Option<i64>,
    pub oom_killed: bool,
    pub pid: u32,
}

impl Details {
    pub fn new(inspected: ContainerInspectResponse) -> Self {
        let state = inspected.state.unwrap_or_default();
        let pid = state.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        // A container that never ended has an end in the year 1.
        let ended = state.finished_at.as_deref().and_then(time).is_some() && pid == 0;
        Self {
            state: state.status.map(|status| status.to_string()).unwrap_or_default(),
            runtime: inspected.host_config.and_then(|config| config.runtime).map(|runtime| cut(&runtime, 64)),
            started_at: state.started_at.as_deref().and_then(time),
            exit_code: state.exit_code.filter(|_| ended),
            oom_killed: state.oom_killed.unwrap_or(false),
            pid,
        }
    }
}

/// `None` for Docker's year 1, which says never.
fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// An entry of the list with its details.
pub fn container(summary: &ContainerSummary, details: &Details) -> ContainerEntry {
    let labels = summary.labels.as_ref();
    let name = summary.names.as_ref().and_then(|names| names.first()).map(String::as_str).unwrap_or_default();
    ContainerEntry {
        container_id: cut(summary.id.as_deref().unwrap_or_default(), 64),
        name: cut(name.trim_start_matches('/'), 255),
        image: cut(summary.image.as_deref().unwrap_or_default(), 512),
        state: details.state.clone(),
        runtime: details.runtime.clone(),
        pod_id: labelled(labels, label::POD),
        owner: labelled::<String>(labels, label::OWNER).map(|owner| cut(&owner, 255)),
        operation_id: labelled(labels, label::OPERATION),
        started_at: details.started_at,
        exit_code: details.exit_code,
        oom_killed: details.oom_killed,
    }
}

/// Docker's word for a container's state, in its list.
pub fn listed_state(summary: &ContainerSummary) -> String {
    summary.state.as_ref().map(ToString::to_string).unwrap_or_default()
}

pub(super) fn image(image: ImageSummary) -> ImageEntry {
    ImageEntry {
        image_id: cut(&image.id, 128),
        tags: image.repo_tags.iter().filter(|tag| *tag != "<none>:<none>").take(256).map(|tag| cut(tag, 512)).collect(),
        size_bytes: u64::try_from(image.size).unwrap_or(0),
    }
}

pub(super) fn network(network: Network) -> NetworkEntry {
    let subnets = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    NetworkEntry {
        network_id: cut(network.id.as_deref().unwrap_or_default(), 64),
        name: cut(network.name.as_deref().unwrap_or_default(), 255),
        driver: cut(network.driver.as_deref().unwrap_or_default(), 64),
        subnets: subnets
            .into_iter()
            .filter_map(|config| config.subnet)
            .take(64)
            .map(|subnet| cut(&subnet, 64))
            .collect(),
        pod_id: labelled(network.labels.as_ref(), label::POD),
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerState, HostConfig};
    use pinacle_bus::contract::PodId;

    use super::*;

    #[test]
    fn labels_are_taken_when_they_parse_and_left_out_otherwise() {
        let pod = PodId::new();
        let labels: Labels = [(label::POD, pod.to_string()), (label::OPERATION, "nonsense".into())]
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        let summary = ContainerSummary {
            names: Some(vec!["/pinacle-pod-1".into()]),
            labels: Some(labels),
            ..ContainerSummary::default()
        };
        let entry = container(&summary, &Details::default());
        assert_eq!((entry.pod_id, entry.operation_id, entry.owner), (Some(pod), None, None));
        assert_eq!(entry.name, "pinacle-pod-1");
    }

    #[test]
    fn a_running_container_has_no_exit_code_and_one_that_ended_has() {
        let inspected = |pid, finished: &str| ContainerInspectResponse {
            state: Some(ContainerState {
                pid: Some(pid),
                exit_code: Some(137),
                finished_at: Some(finished.into()),
                started_at: Some("2026-11-21T09:49:39.123456789Z".into()),
                ..ContainerState::default()
            }),
            host_config: Some(HostConfig { runtime: Some("runsc".into()), ..HostConfig::default() }),
            ..ContainerInspectResponse::default()
        };
        let running = Details::new(inspected(42, "0001-01-01T00:00:00Z"));
        assert_eq!((running.exit_code, running.pid, running.runtime.as_deref()), (None, 42, Some("runsc")));
        assert_eq!(running.started_at.unwrap().to_string(), "2026-11-21T09:49:39.123Z");
        let restarted = Details::new(inspected(42, "2026-11-21T09:49:40Z"));
        assert_eq!(restarted.exit_code, None, "that is how it ended the last time");
        assert_eq!(Details::new(inspected(0, "2026-11-21T09:49:40Z")).exit_code, Some(137));
        assert_eq!(Details::new(inspected(0, "0001-01-01T00:00:00Z")).exit_code, None, "created, never started");
    }

    #[test]
    fn long_names_are_cut_between_letters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("a\0b", 5), "ab");
    }
}
