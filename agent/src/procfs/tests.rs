use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

fn recorded(name: &str) -> String {
    let path = format!("{}/testdata/host/proc/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn cpu_time_is_read_for_all_and_for_each_core() {
    let mut cores = Vec::new();
    let all = cpu_ticks(&recorded("stat"), &mut cores);
    // cpu 34532 0 10276 383858 683 0 105 19
    assert_eq!(all, CpuTicks { busy: 44_932, total: 429_473 });
    assert_eq!(cores.len(), 2);
    assert_eq!(cores[0], CpuTicks { busy: 20_844, total: 214_757 });
}

#[test]
fn busy_time_is_a_share_of_what_passed() {
    let earlier = CpuTicks { busy: 100, total: 1000 };
    assert!((CpuTicks { busy: 150, total: 1200 }.busy_since(earlier) - 0.25).abs() < 1e-9);
    assert!(earlier.busy_since(earlier).abs() < 1e-9);
    // Idle time of a core that was taken away and came back may run backwards.
    assert!(CpuTicks { busy: 50, total: 900 }.busy_since(earlier).abs() < 1e-9);
}

#[test]
fn memory_is_in_bytes_and_cache_counts_what_can_be_reclaimed() {
    let text = "MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 600 kB\nBuffers: 1 kB\nCached: 20 kB\n\
        SwapCached: 5 kB\nSReclaimable: 300 kB\nSwapTotal: 50 kB\nSwapFree: 40 kB\n";
    let expected = Memory { total: 1000, available: 600, cached: 321, swap_total: 50, swap_free: 40 };
    let found = memory(text);
    assert_eq!(found.total, expected.total * 1024);
    assert_eq!(found.available, expected.available * 1024);
    assert_eq!(found.cached, expected.cached * 1024);
    assert_eq!((found.swap_total, found.swap_free), (expected.swap_total * 1024, expected.swap_free * 1024));
    let real = memory(&recorded("meminfo"));
    assert!(real.total > 20 << 30 && real.available <= real.total && real.cached > 0);
}

#[test]
fn a_kernel_that_does_not_know_what_is_available_is_helped_out() {
    assert_eq!(memory("MemTotal: 100 kB\nMemFree: 10 kB\nCached: 20 kB\n").available, 30 * 1024);
}

#[test]
fn loads_and_uptime_are_read() {
    let [one, five, fifteen] = loads("0.50 1.25 2.00 1/234 5678\n");
    assert!((one - 0.5).abs() < 1e-9 && (five - 1.25).abs() < 1e-9 && (fifteen - 2.0).abs() < 1e-9);
    assert_eq!(loads("nan -1").map(f64::to_bits), [0.0_f64; 3].map(f64::to_bits));
    assert_eq!(uptime_seconds("1746.53 3344.11\n"), 1746);
}

#[test]
fn disks_count_in_sectors_of_512_bytes() {
    let text = recorded("diskstats");
    let (_, vda) = disk_traffic(&text).find(|(name, _)| *name == "vda").unwrap();
    let line = text.lines().find(|line| line.contains(" vda ")).unwrap();
    let fields: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // major minor (name) reads merged sectors ms writes merged sectors
    assert_eq!(vda, Traffic { input: fields[4] * 512, output: fields[8] * 512 });
}

#[test]
fn interfaces_have_bytes_in_and_out_even_without_a_blank_after_the_colon() {
    let text = recorded("net/dev");
    let eth0 = interface_traffic(&text).find(|(name, _)| *name == "eth0").unwrap().1;
    assert_eq!(eth0, Traffic { input: 513_473_496, output: 1_318_344 });
    let old = "eth1:123 1 0 0 0 0 0 0 456 1 0 0 0 0 0 0\n";
    assert_eq!(interface_traffic(old).next(), Some(("eth1", Traffic { input: 123, output: 456 })));
    assert_eq!(default_routes(&recorded("net/route")).collect::<Vec<_>>(), ["eth0"]);
}

#[test]
fn pressure_is_the_average_of_ten_seconds() {
    let text = "some avg10=1.50 avg60=0.57 avg300=0.22 total=5339992\nfull avg10=0.25 avg60=0.0 avg300=0 total=1\n";
    assert_eq!(pressure(text, "some"), Some(1.5));
    assert_eq!(pressure(text, "full"), Some(0.25));
    // Kernels before 5.13 have no such line for the CPU.
    assert_eq!(pressure("some avg10=1.50", "full"), None);
    assert!(pressure(&recorded("pressure/memory"), "some").is_some());
}

const MOUNTINFO: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
42 27 254:0 /var/lib/docker /var/lib/docker rw shared:1 - ext4 /dev/vda rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
46 42 0:39 / /var/lib/docker/overlay2/x/merged rw shared:2 - overlay overlay rw,lowerdir=/a:/b
50 27 8:1 / /mnt/with\\040blank rw - xfs /dev/sda1 rw
51 27 8:1 / /mnt/again rw - xfs /dev/sda1 rw
60 27 0:50 /@ /pool rw - btrfs /dev/sdb1 rw
61 27 0:51 /@home /pool/home rw - btrfs /dev/sdb1 rw
62 27 0:60 / /tank rw - zfs tank rw
63 27 0:61 / /tank/data rw - zfs tank/data rw
64 27 7:1 / /snap/core/1 ro - squashfs /dev/loop1 ro
65 27 0:70 / /nfs rw - nfs4 server:/export rw
66 27 0:71 / /ssh rw - fuse.sshfs me@there:/ rw
not a line
67 27 8:2 - ext4
";

#[test]
fn every_real_disk_is_named_once_at_the_mount_that_shows_all_of_it() {
    let found: Vec<_> = mounts(MOUNTINFO).into_iter().map(|mount| (mount.device, mount.point)).collect();
    let expected = [("/dev/vda", "/"), ("tank", "/tank"), ("/dev/sda1", "/mnt/again"), ("/dev/sdb1", "/pool")];
    assert_eq!(found, expected.map(|(device, point)| (device.to_owned(), point.to_owned())));
    let blank = mounts("50 27 8:1 / /mnt/with\\040blank rw - xfs /dev/sda1 rw");
    assert_eq!(blank[0].point, "/mnt/with blank");
}

#[test]
fn listening_sockets_are_found_in_both_families() {
    let tcp = recorded("net/tcp");
    assert_eq!(
        listening(&tcp, Protocol::Tcp).collect::<Vec<_>>(),
        [(Ipv4Addr::UNSPECIFIED.into(), 2024)],
        "connections and the head line do not count"
    );
    let line = "sl\n 0: 0100007F:1F90 00000000:0000 0A x\n 1: 0100007F:1F91 0100007F:0001 01 x\n";
    assert_eq!(listening(line, Protocol::Tcp).collect::<Vec<_>>(), [(Ipv4Addr::LOCALHOST.into(), 8080)]);
    let six = "sl\n 0: 00000000000000000000000001000000:0016 0:0 0A x\n 1: 0000:22 0:0 0A\n";
    assert_eq!(listening(six, Protocol::Tcp).collect::<Vec<_>>(), [("::1".parse().unwrap(), 22)]);
    let udp = "sl\n 0: 00000000:0044 00000000:0000 07 x\n";
    assert_eq!(listening(udp, Protocol::Udp).collect::<Vec<_>>(), [(Ipv4Addr::UNSPECIFIED.into(), 68)]);
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in "(cpu|sl|some|MemTotal:|eth0:|[0-9a-f: -/\\\\\n.=]){0,200}") {
        let mut cores = Vec::new();
        cpu_ticks(&text, &mut cores);
        memory(&text);
        loads(&text);
        uptime_seconds(&text);
        disk_traffic(&text).count();
        interface_traffic(&text).count();
        default_routes(&text).count();
        pressure(&text, "some");
        mounts(&text);
        listening(&text, Protocol::Tcp).count();
    }
}
