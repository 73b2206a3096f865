use std::path::Path;

use pinacle_bus::contract::{PodId, decode, encode};

use super::*;
use crate::docker::DiskSize;

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn pod(pid: u32) -> Pod {
    let disk = std::sync::Arc::new(DiskSize::default());
    disk.set(7);
    Pod { pod_id: PodId::new(), container_id: "c".into(), pid, disk }
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000).unwrap().plus(Duration::from_secs(second))
}

#[tokio::test(start_paused = true)]
async fn times_ascend_when_the_clock_is_set_back_and_meet_it_again() {
    let mut now = Instant::now();
    let mut timeline = Timeline { last: at(100), at: now };
    let mut last = at(100);
    // Set back by 60 s; the clock then runs on.
    for second in (45..300).step_by(5) {
        now += Duration::from_secs(5);
        let time = timeline.advance(at(second), now);
        assert!(time > last, "{time} after {last}");
        last = time;
    }
    assert_eq!(last, at(295), "the two have met");
    let (first, second) = (timeline.advance(at(0), now), timeline.advance(at(0), now));
    assert!(second > first, "two samples at once still differ");
}

#[test]
fn a_sample_of_this_machine_is_one_that_readers_accept() {
    let host = HostId::new();
    let roots = Roots { proc: "/proc".into(), sys: "/sys".into(), cgroup: "/sys/fs/cgroup".into() };
    let mut sampler = Sampler::new(host, &roots);
    let sample = sampler.take(&[]);
    let read: Metrics = decode(1, &encode(&sample).unwrap()).unwrap();
    assert_eq!(read.host_id, host);
    assert!(read.host.memory_total_bytes > 0 && !read.host.cpu_cores_percent.is_empty());
    assert!(read.host.disks.iter().all(|disk| disk.used_bytes <= disk.total_bytes));
}

#[test]
fn pods_have_figures_from_the_second_time_on_that_they_are_seen() {
    let base = recorded("cgroup-v2");
    let roots = Roots { proc: base.join("proc"), sys: base.join("sys"), cgroup: base.join("cgroup") };
    let mut sampler = Sampler::new(HostId::new(), &roots);
    let pods = [pod(2001), pod(2002), pod(2003), pod(4_000_000)];
    assert!(sampler.take(&pods).pods.is_empty());
    let sample = sampler.take(&pods);
    assert_eq!(sample.pods.len(), 2, "one group is gone, and one process never was");
    let first = &sample.pods[0];
    assert_eq!(first.pod_id, pods[0].pod_id);
    assert_eq!((first.network_rx_bytes, first.network_tx_bytes), (1_048_576, 524_288));
    assert_eq!((first.disk_bytes, first.pids, first.oom_kills), (Some(7), 17, 3));
    assert!(first.cpu_percent.abs() < 1e-9, "a recorded counter stands still");
    // No network namespace to be seen: no traffic, and the rest all the same.
    assert_eq!((sample.pods[1].network_rx_bytes, sample.pods[1].memory_bytes), (0, 4096));
}

#[test]
fn a_pod_that_was_started_again_counts_anew() {
    let base = recorded("cgroup-v2");
    let roots = Roots { proc: base.join("proc"), sys: base.join("sys"), cgroup: base.join("cgroup") };
    let mut sampler = Sampler::new(HostId::new(), &roots);
    let mut pods = [pod(2001)];
    sampler.take(&pods);
    assert_eq!(sampler.take(&pods).pods.len(), 1);
    pods[0].pid = 2002;
    assert!(sampler.take(&pods).pods.is_empty());
    assert_eq!(sampler.take(&pods).pods[0].memory_bytes, 4096);
}

#[test]
fn a_machine_without_any_of_the_files_yields_zeros_and_no_panic() {
    let nowhere = PathBuf::from("/nonexistent");
    let roots = Roots { proc: nowhere.clone(), sys: nowhere.clone(), cgroup: nowhere };
    let sample = Sampler::new(HostId::new(), &roots).take(&[pod(1)]);
    assert_eq!((sample.host.memory_total_bytes, sample.pods.len()), (0, 0));
    assert!(sample.host.pressure.is_none() && sample.host.disks.is_empty());
}

/// A host written by hand, so that its counters can be moved.
struct Host {
    directory: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self { directory: tempfile::tempdir().unwrap() };
        for folder in ["sys/block/sda/device", "sys/block/loop0", "sys/class/net/eth0/device", "sys/class/net/br0"] {
            std::fs::create_dir_all(host.directory.path().join(folder)).unwrap();
        }
        for name in ["cpu", "memory", "io"] {
            host.write(&format!("proc/pressure/{name}"), "some avg10=2.50 x\nfull avg10=1.25 x\n");
        }
        host
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn counters(&self, busy: u64, idle: u64, sectors: u64, bytes: u64) {
        self.write(
            "proc/stat",
            &format!("cpu {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu1 0 0 0 9 0 0 0 0 0 0\nctxt 1\n"),
        );
        self.write(
            "proc/diskstats",
            &format!("8 0 sda 1 1 {sectors} 1 1 1 {sectors} 1 0 0 0\n8 1 sda1 1 1 {sectors} 1 1 1 9 1 0 0 0\n7 0 loop0 1 1 999 1 1 1 9 1 0 0 0\n"),
        );
        self.write(
            "proc/net/dev",
            &format!("head\nhead\n eth0: {bytes} 1 0 0 0 0 0 0 {bytes} 1 0 0 0 0 0 0\n br0: 77 1 0 0 0 0 0 0 77 1 0 0 0 0 0 0\n lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n"),
        );
    }

    fn roots(&self) -> Roots {
        let path = self.directory.path();
        Roots { proc: path.join("proc"), sys: path.join("sys"), cgroup: path.join("cgroup") }
    }
}

#[tokio::test(start_paused = true)]
async fn rates_are_differences_over_the_time_that_passed_on_real_disks_and_interfaces_alone() {
    let host = Host::new();
    host.counters(100, 1000, 1000, 10_000);
    let mut sampler = Sampler::new(HostId::new(), &host.roots());
    tokio::time::advance(Duration::from_secs(5)).await;
    host.counters(150, 1150, 3000, 60_000);
    let sample = sampler.take(&[]);
    assert_eq!(sample.interval_ms, 5000);
    // 50 of 200 ticks of all cores together; two cores are 200 percent.
    assert!((sample.host.cpu_percent - 50.0).abs() < 1e-6, "{}", sample.host.cpu_percent);
    assert!((sample.host.cpu_cores_percent[0] - 25.0).abs() < 1e-3);
    assert_eq!(sample.host.disk_read_bytes, 3000 * 512);
    assert!((sample.host.disk_read_bytes_per_second - 2000.0 * 512.0 / 5.0).abs() < 1e-6);
    assert_eq!((sample.host.network_rx_bytes, sample.host.networks.len()), (60_000, 1));
    assert!((sample.host.network_tx_bytes_per_second - 10_000.0).abs() < 1e-6);
    assert!((sample.host.pressure.unwrap().io_full_percent - 1.25).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn a_guest_with_virtual_interfaces_alone_counts_the_one_that_leads_out() {
    let host = Host::new();
    host.counters(1, 1, 1, 5);
    std::fs::remove_dir(host.directory.path().join("sys/class/net/eth0/device")).unwrap();
    host.write("proc/net/route", "Iface\tDestination\nbr0\t00000000\t0\n");
    let sample = Sampler::new(HostId::new(), &host.roots()).take(&[]);
    assert_eq!(sample.host.networks.iter().map(|network| network.name.as_str()).collect::<Vec<_>>(), ["br0"]);
}
