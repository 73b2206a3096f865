use ratatui::{Terminal, backend::TestBackend};
use serde_json::json;

use super::*;

fn host(cores: usize) -> Value {
    json!({
        "host_id": "host_1", "name": "box\u{1b}[2J", "state": "online", "cause": "heartbeat",
        "state_since": "2026-11-21T09:15:40.123Z", "cordoned": false, "heartbeat_at": null, "metrics": null,
        "admitted_at": "2026-11-21T09:15:40.123Z",
        "facts": {
            "agent_version": "0.1.0", "os": "Debian 12", "kernel": "6.1", "architecture": "x86_64", "cpu_model": "cpu",
            "cpu_count": cores, "docker_version": null, "ssh": null, "lima_name": null,
        },
        "heartbeat": null,
        "sample": {
            "cpu_percent": 75.0, "cpu_cores_percent": vec![37.5; cores], "load_1": 1.0, "load_5": 0.5, "load_15": 0.25,
            "memory_total_bytes": 8_u64 << 30, "memory_used_bytes": 6_u64 << 30, "memory_cached_bytes": 0,
            "swap_total_bytes": 0, "swap_used_bytes": 0,
            "disk_read_bytes_per_second": 0.0, "disk_write_bytes_per_second": 4096.0,
            "network_rx_bytes_per_second": 1500.0, "network_tx_bytes_per_second": 0.0,
            "disks": [{ "mount": "/", "device": "/dev/vda", "total_bytes": 1_u64 << 40, "used_bytes": 1_u64 << 39 }],
            "pressure": null, "temperatures": [],
        },
        "pod_ids": ["pod_1"],
    })
}

fn pod(id: &str, host: &str, cpu: f64) -> Value {
    json!({
        "pod_id": id, "name": null, "owner": "ada", "host_id": host, "phase": "running", "cause": null,
        "phase_since": null, "created_at": null, "tier": null, "image": null, "external_port": null,
        "metrics": {
            "received_at": "2026-11-21T09:15:40.123Z", "cpu_percent": cpu, "memory_bytes": 1 << 20,
            "memory_limit_bytes": null, "disk_bytes": null, "network_rx_bytes": 0, "network_tx_bytes": 0,
            "block_read_bytes": 0, "block_write_bytes": 0, "pids": 3, "throttled_ms": 0, "oom_kills": 0,
        },
    })
}

fn state(topic: &str, reset: bool, items: Vec<Value>) -> Said {
    Said::State { topic: topic.into(), reset, items, removed: Vec::new() }
}

fn drawn(picture: &Picture, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::picture(frame, picture)).unwrap();
    terminal.backend().to_string()
}

fn picture(cores: usize) -> Picture {
    let mut picture = Picture::new(serde_json::from_value(host(cores)).unwrap(), false);
    let pods = vec![pod("pod_idle", "host_1", 0.5), pod("pod_busy", "host_1", 150.0), pod("pod_far", "host_2", 1.0)];
    picture.take(state("pods", true, pods)).unwrap();
    picture
}

#[test]
fn the_picture_shows_figures_and_the_hosts_own_pods_busiest_first() {
    let shown = drawn(&picture(2), 80, 24);
    let at = |text: &str| shown.find(text).unwrap_or_else(|| panic!("{text} is missing in\n{shown}"));
    assert!(at("pod_busy") < at("pod_idle"), "{shown}");
    for text in ["online", "75.0% of 200%", "6.0 GiB of 8.0 GiB", "network in 1.5 KiB/s", "150%", "2 pods   q quits"] {
        at(text);
    }
    assert!(!shown.contains("pod_far") && !shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn every_size_of_a_terminal_can_be_drawn() {
    for cores in [0, 1, 2, 64, 300] {
        let picture = picture(cores);
        for (width, height) in [(80, 24), (20, 5), (1, 1), (300, 100), (80, 8)] {
            drawn(&picture, width, height);
        }
    }
}

#[test]
fn what_the_gateway_says_replaces_what_was_known() {
    let mut picture = picture(2);
    picture.take(state("pods", true, vec![pod("pod_new", "host_1", 1.0)])).unwrap();
    assert_eq!(picture.pods.keys().collect::<Vec<_>>(), ["pod_new"]);
    picture.take(state("pods", false, vec![pod("pod_new", "host_2", 1.0)])).unwrap();
    assert!(picture.pods.is_empty(), "it has moved to another host");
    let mut gone = host(2);
    gone["state"] = "offline".into();
    picture.take(state("host:host_1", true, vec![gone])).unwrap();
    assert_eq!(picture.host.host.state, "offline");
}
