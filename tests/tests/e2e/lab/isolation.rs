//! What a pod cannot reach, and what it cannot take. For everything that it cannot reach there is something that can, so
//! that no test passes because nobody was there.

use pinacle_bus::contract::PodId;
use pinacle_tests::{
    eventually,
    lab::{Host, Lab},
    machine,
    process::http_get,
};

use super::stage::{LONG, Stage, container};

/// What every listener of these tests answers.
const WORD: &str = "somebody is here";
const METADATA: &str = "169.254.169.254";
/// A port of listeners on hosts.
const PORT: u16 = 8081;

/// The world outside of a host: a network namespace that knows the way to the host's end of its link and nothing else, so
/// that it answers only what comes in the host's name. It has a metadata address, too.
const WORLD: &str = "
ip netns add world
ip link add there type veth peer name here netns world
ip address add 192.0.2.1/24 dev there
ip link set there up
ip -n world address add 192.0.2.2/24 dev here
ip -n world address add 169.254.169.254/32 dev here
ip -n world link set here up
ip route add 169.254.169.254 via 192.0.2.2
";
const OUTSIDE: &str = "192.0.2.2";

/// A host with a world around it.
async fn stage() -> Stage {
    let stage = Stage::on(Lab::builder().hosts(1).start().await).await;
    let host = stage.host("alpha");
    host.shell(WORLD);
    serve(host, "ip netns exec world");
    stage
}

/// A web server on all addresses of a host, or of where `inside` leads.
fn serve(host: &Host, inside: &str) {
    let folder = host.folder().join("www");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("index.html"), WORD).unwrap();
    // It goes into the background by itself, and ends with its host.
    host.shell(&format!("{inside} {} httpd -p {PORT} -h {}", machine::tool("busybox").display(), folder.display()));
}

/// A pod on `alpha` with a web server on its port 80.
async fn serving_pod(stage: &Stage, name: &str) -> PodId {
    let id = stage.running(name).await;
    let script = format!("mkdir -p /www && echo '{WORD}' > /www/index.html && httpd -p 80 -h /www");
    stage.host("alpha").docker(&["exec", &container(id), "sh", "-c", &script]);
    id
}

/// Whether a pod gets the word from there.
fn reaches(host: &Host, pod: PodId, address: &str, port: u16) -> bool {
    let ask = format!(r"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 3 {address} {port}");
    host.try_docker(&["exec", &container(pod), "sh", "-c", &ask]).1.contains(WORD)
}

/// Whether the host itself does.
fn host_reaches(host: &Host, address: &str, port: u16) -> bool {
    let ask = format!(r"exec 3<>/dev/tcp/{address}/{port} && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && cat <&3");
    host.shell(&format!(r#"timeout 5 bash -c "{ask}" || true"#)).contains(WORD)
}

/// Whether somebody outside of all hosts does.
async fn reaches_from_here(address: &str, port: u16) -> bool {
    http_get(format!("{address}:{port}").parse().unwrap(), "/").await.is_ok_and(|(_, body)| body.contains(WORD))
}

#[tokio::test]
async fn a_pod_reaches_the_world_but_no_other_pod_and_not_its_host() {
    let stage = stage().await;
    let host = stage.host("alpha");
    let (pod, other) = (serving_pod(&stage, "curious").await, serving_pod(&stage, "private").await);
    let (own, theirs) = (stage.record(pod).await, stage.record(other).await);
    let address = host.address().to_owned();
    assert_ne!(own.subnet, theirs.subnet);

    // The other pod, by its address, and by the port that leads to it from outside.
    let (inner, external) = (format!("10.249.{}.2", theirs.subnet.unwrap()), theirs.external_port.unwrap());
    assert!(host_reaches(host, &inner, 80), "the other pod serves");
    assert!(reaches_from_here(&address, external).await);
    assert!(!reaches(host, pod, &inner, 80));
    assert!(!reaches(host, pod, &address, external));

    // The host, by each of its addresses.
    serve(host, "");
    for gateway in [own.subnet, theirs.subnet] {
        let gateway = format!("10.249.{}.1", gateway.unwrap());
        assert!(host_reaches(host, &gateway, PORT), "{gateway}");
        assert!(!reaches(host, pod, &gateway, PORT), "{gateway}");
    }
    assert!(reaches_from_here(&address, PORT).await);
    assert!(!reaches(host, pod, &address, PORT));
    // Its SSH server speaks first.
    let greeting = format!("echo | nc -w 3 {address} 22 | head -n 1");
    let here = host.shell(&format!("timeout 5 bash -c 'read -r line </dev/tcp/{address}/22; echo $line'"));
    assert!(here.starts_with("SSH-2.0"), "{here}");
    let (_, there) = host.try_docker(&["exec", &container(pod), "sh", "-c", &greeting]);
    assert!(!there.contains("SSH-2.0"), "{there}");

    // The world outside, in its host's name.
    assert!(reaches(host, pod, OUTSIDE, PORT));
}

#[tokio::test]
async fn a_pod_reaches_no_metadata_address_wherever_that_is() {
    let stage = stage().await;
    let host = stage.host("alpha");
    let pod = stage.running("curious").await;

    // Somewhere in the network, as in a cloud.
    assert!(host_reaches(host, METADATA, PORT));
    assert!(reaches(host, pod, OUTSIDE, PORT));
    assert!(!reaches(host, pod, METADATA, PORT));

    // On the host itself.
    host.shell(&format!("ip route del {METADATA}; ip address add {METADATA}/32 dev lo"));
    serve(host, "");
    assert!(host_reaches(host, METADATA, PORT));
    assert!(!reaches(host, pod, METADATA, PORT));
}

#[tokio::test]
async fn the_rules_that_keep_pods_apart_are_there_again_after_docker_was_restarted() {
    let mut stage = stage().await;
    stage.lab.hosts_mut()[0].restart_dockerd().await;
    let (pod, other) = (serving_pod(&stage, "curious").await, serving_pod(&stage, "private").await);
    let (host, theirs) = (stage.host("alpha"), stage.record(other).await);
    let inner = format!("10.249.{}.2", theirs.subnet.unwrap());
    assert!(host_reaches(host, &inner, 80));
    assert!(!reaches(host, pod, &inner, 80));
    assert!(!reaches(host, pod, host.address(), theirs.external_port.unwrap()));
    assert!(reaches(host, pod, OUTSIDE, PORT));
}

#[tokio::test]
async fn a_pod_runs_on_gvisor_and_sees_nothing_of_its_host() {
    let stage = Stage::on(Lab::builder().hosts(1).start().await).await;
    let id = stage.running("inside").await;
    let host = stage.host("alpha");
    let inside = |script: &str| host.docker(&["exec", &container(id), "sh", "-c", script]);
    assert!(inside("dmesg").contains("gVisor"));
    assert_ne!(inside("uname -r"), host.shell("uname -r"));
    assert_eq!(inside("hostname"), "inside");

    let on_host = host.shell("cat /proc/[0-9]*/comm");
    assert!(on_host.contains("dockerd") && on_host.contains("sshd"), "{on_host}");
    let processes = inside("cat /proc/[0-9]*/comm");
    assert!(processes.lines().all(|name| ["sh", "sleep", "cat"].contains(&name)), "{processes}");
    assert_eq!(inside("cat /proc/1/comm"), "sh", "its own first process");
    let devices = inside("ls /dev");
    assert!(devices.contains("null") && !devices.contains("vda") && !devices.contains("kvm"), "{devices}");
    // What it may do as root.
    for refused in [
        "mount -t tmpfs none /mnt",
        "mknod /tmp/disk b 8 0 && head -c 1 /tmp/disk",
        "hostname other",
        "chroot /nowhere",
    ] {
        let (done, text) = host.try_docker(&["exec", &container(id), "sh", "-c", &format!("mkdir -p /mnt; {refused}")]);
        assert!(!done, "{refused}: {text}");
    }
    eventually(LONG, "the pod to run on", async || host.try_docker(&["exec", &container(id), "true"]).0).await;
}
