use super::*;

fn tree(name: &str) -> (PathBuf, PathBuf) {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    (base.join("cgroup"), base.join("proc"))
}

fn usage(name: &str, pid: u32) -> Usage {
    let (root, proc) = tree(name);
    let mut group = Group::of(Version::at(&root), &root, &proc, pid).unwrap();
    let mut scratch = Scratch::default();
    let first = group.read(&mut scratch, true).unwrap();
    // The descriptors are open now; the figures stay the same.
    assert_eq!(group.read(&mut scratch, false).unwrap(), first);
    first
}

#[test]
fn version_1_as_recorded_from_a_throttled_runc_container_that_ran_out_of_memory() {
    assert_eq!(Version::at(&tree("cgroup-v1").0), Version::One);
    assert_eq!(
        usage("cgroup-v1", 1001),
        Usage {
            cpu_nanoseconds: 911_185_917,
            memory_bytes: 66_174_976,
            memory_limit_bytes: Some(67_108_864),
            block_read_bytes: 0,
            block_write_bytes: 0,
            pids: 1,
            throttled_ms: 3516,
            oom_kills: 2,
        }
    );
}

#[test]
fn version_1_as_recorded_from_a_gvisor_sandbox() {
    let usage = usage("cgroup-v1", 1002);
    assert_eq!((usage.cpu_nanoseconds, usage.pids, usage.throttled_ms), (130_038_535, 73, 0));
    assert_eq!(usage.memory_limit_bytes, Some(134_217_728));
}

#[test]
fn version_2_leaves_inactive_cache_out_and_adds_devices_up() {
    assert_eq!(Version::at(&tree("cgroup-v2").0), Version::Two);
    assert_eq!(
        usage("cgroup-v2", 2001),
        Usage {
            cpu_nanoseconds: 12_345_678_000,
            memory_bytes: 104_857_600 - 20_480_000,
            memory_limit_bytes: Some(268_435_456),
            block_read_bytes: 1_459_200 + 4096,
            block_write_bytes: 314_773_504,
            pids: 17,
            throttled_ms: 2500,
            oom_kills: 3,
        }
    );
}

#[test]
fn version_2_without_a_limit_and_without_the_optional_controllers() {
    let usage = usage("cgroup-v2", 2002);
    assert_eq!(usage.memory_limit_bytes, None);
    assert_eq!((usage.cpu_nanoseconds, usage.memory_bytes, usage.pids), (42_000, 4096, 0));
}

#[test]
fn a_group_that_is_gone_is_an_error_and_not_zeros() {
    let (root, proc) = tree("cgroup-v2");
    let missing = Group::of(Version::Two, &root, &proc, 2003).unwrap().read(&mut Scratch::default(), true);
    assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(Group::of(Version::Two, &root, &proc, 9999).is_err(), "no such process");
    assert!(Group::of(Version::One, &root, &proc, 2001).is_err(), "no version 1 hierarchies");
}

#[test]
fn a_file_with_garbage_is_an_error_and_not_a_figure() {
    let directory = tempfile::tempdir().unwrap();
    let (root, proc) = (directory.path().join("cgroup"), directory.path().join("proc"));
    fs::create_dir_all(proc.join("1")).unwrap();
    fs::create_dir_all(root.join("x")).unwrap();
    fs::write(proc.join("1/cgroup"), "0::/x\n").unwrap();
    fs::write(root.join("x/cpu.stat"), "usage_usec lots\n").unwrap();
    let error = Group::of(Version::Two, &root, &proc, 1).unwrap().read(&mut Scratch::default(), false).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn block_traffic_of_version_1_is_added_up_over_devices() {
    let text = "254:0 Read 4096\n254:0 Write 8192\n254:0 Sync 1\n8:0 Read 1\n8:0 Discard 9\nTotal 12290\n";
    assert_eq!(block_one(text), (4097, 8192));
    assert_eq!(block_one("Total 0\n"), (0, 0));
}

#[test]
fn controllers_that_are_mounted_together_are_found_by_either_name() {
    let table = "4:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n0::/unified\n";
    assert_eq!(path_of(table, "cpuacct"), Some("docker/abc"));
    assert_eq!(path_of(table, ""), Some("unified"));
    assert_eq!(path_of(table, "memory"), None);
}
