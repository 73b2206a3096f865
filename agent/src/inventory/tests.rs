use std::fs;

use pinacle_bus::{
    contract::{Message, PodId, decode, encode, inventory::ContainerEntry},
    settings::load,
};

use super::*;
use crate::settings::AgentProgram;

struct Machine {
    directory: tempfile::TempDir,
    settings: AgentSettings,
}

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = load::<AgentProgram>(None, []).unwrap().agent;
        settings.etc_dir = directory.path().join("etc");
        settings.lima_env = directory.path().join("lima.env");
        settings.proc_dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/host/proc");
        fs::create_dir_all(settings.etc_dir.join("ssh/sshd_config.d")).unwrap();
        Self { directory, settings }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).unwrap();
    }

    fn endpoint(&self) -> Option<(u16, Vec<String>)> {
        ssh::endpoint(&self.settings, |port| [22, 2222].contains(&port)).map(|found| (found.port, found.host_keys))
    }
}

#[test]
fn the_ssh_port_comes_from_the_configuration_and_its_includes() {
    let mut machine = Machine::new();
    assert_eq!(machine.endpoint(), Some((22, vec![])), "no configuration at all");
    machine.write("etc/ssh/sshd_config", "#Port 9\nInclude /etc/ssh/sshd_config.d/*.conf\nPort 22\nPort 23\n");
    assert_eq!(machine.endpoint().unwrap().0, 22);
    machine.write("etc/ssh/sshd_config.d/10-port.conf", "port=2222\n");
    assert_eq!(machine.endpoint().unwrap().0, 2222);
    machine.write("etc/ssh/sshd_config.d/10-port.conf", "Port 4444\n");
    assert_eq!(machine.endpoint(), None, "nothing listens there");
    machine.settings.ssh_port = 2022;
    assert_eq!(machine.endpoint().unwrap().0, 2022, "set by hand");
}

#[test]
fn a_configuration_that_includes_itself_ends() {
    let machine = Machine::new();
    machine.write("etc/ssh/sshd_config", "Include sshd_config\nMatch User x\nPort 9\n");
    assert_eq!(machine.endpoint().unwrap().0, 22);
}

#[test]
fn host_keys_are_algorithm_and_key() {
    let machine = Machine::new();
    machine.write("etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 AAAAC3Nz root@host\n");
    machine.write("etc/ssh/ssh_host_rsa_key.pub", "broken");
    machine.write("etc/ssh/ssh_host_ed25519_key", "PRIVATE");
    assert_eq!(machine.endpoint().unwrap().1, ["ssh-ed25519 AAAAC3Nz"]);
}

#[test]
fn lima_tells_its_guests_their_name() {
    assert_eq!(facts::lima_name("A=1\nLIMA_CIDATA_NAME=default\n").as_deref(), Some("default"));
    assert_eq!(facts::lima_name("LIMA_CIDATA_NAME=\"my vm\"").as_deref(), Some("my vm"));
    assert_eq!(facts::lima_name("LIMA_CIDATA_NAME=\n"), None);
}

#[test]
fn addresses_are_those_that_lead_here() {
    for (interface, dockers) in [
        ("docker0", true),
        ("br-0123456789ab", true),
        ("vethab12cd3", true),
        ("br-lan", false),
        ("vmbr0", false),
        ("eth0", false),
    ] {
        assert_eq!(facts::is_dockers(interface), dockers, "{interface}");
    }
    for (address, reachable) in [
        ("127.0.0.1", false),
        ("169.254.1.1", false),
        ("fe80::1", false),
        ("::1", false),
        ("10.0.0.1", true),
        ("2001:db8::1", true),
    ] {
        assert_eq!(facts::is_reachable(&address.parse().unwrap()), reachable, "{address}");
    }
}

fn container(number: usize, pod: bool) -> ContainerEntry {
    ContainerEntry {
        container_id: format!("{number:064}"),
        name: format!("container-{number}"),
        image: "image:1".into(),
        state: "running".into(),
        runtime: Some("runsc".into()),
        pod_id: pod.then(PodId::new),
        owner: None,
        operation_id: None,
        started_at: Some(Timestamp::now()),
        exit_code: None,
        oom_killed: false,
    }
}

#[test]
fn an_inventory_of_a_host_without_docker_is_one_that_readers_accept() {
    let machine = Machine::new();
    machine.write("lima.env", "LIMA_CIDATA_NAME=dev\n");
    let inspector = Inspector::new(HostId::new(), &machine.settings);
    let inventory = inspector.take(&View::unknown(), Vec::new(), Vec::new());
    let read: Inventory = decode(1, &encode(&inventory).unwrap()).unwrap();
    assert_eq!(read.facts.lima_name.as_deref(), Some("dev"));
    assert_eq!((read.facts.cpu_count, read.facts.docker_version), (2, None));
    assert_eq!(read.ports, [entry(Protocol::Tcp, [0, 0, 0, 0].into(), 2024)]);
    assert!(!read.truncated && !read.facts.kernel.is_empty());
}

#[test]
fn what_is_too_much_for_a_message_goes_by_how_little_it_matters() {
    let machine = Machine::new();
    let inspector = Inspector::new(HostId::new(), &machine.settings);
    let containers = (0..3000).map(|number| container(number, number % 10 == 0)).collect();
    let images = (0..100)
        .map(|number| ImageEntry { image_id: format!("sha256:{number:064}"), tags: vec![], size_bytes: 1 })
        .collect();
    let inventory = inspector.take(&View::fixed(containers), images, Vec::new());
    assert!(inventory.truncated && inventory.images.is_empty() && inventory.ports.is_empty());
    assert_eq!(inventory.containers.iter().filter(|container| container.pod_id.is_some()).count(), 300);
    let payload = encode(&inventory).unwrap();
    assert!(payload.len() <= Inventory::MAX_BYTES);
    assert!(decode::<Inventory>(1, &payload).is_ok());
}
