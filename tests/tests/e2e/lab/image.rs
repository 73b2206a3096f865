//! The image that pods are made from: how it gets to a host, and what runs in a pod that is made from it.

use std::{net::SocketAddr, time::Duration};

use pinacle_bus::contract::{PodId, event::Event, request::Operation, topology::StreamName};
use pinacle_tests::{
    eventually,
    lab::{BASE_IMAGE, Lab, base_image},
    process::http_get,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::stage::{LONG, Stage, container, pod, read_all};

/// A service as somebody writes one for OpenRC.
const SERVICE: &str = "#!/sbin/openrc-run
supervisor=supervise-daemon
command=/bin/sleep
command_args=1000000
command_user=nobody
depend() { need net; after localmount; }
";
/// Tells what it was asked, and gives back what it is sent by WebSocket.
const ECHO: &str = r#"
use IO::Socket::INET;
# Waits until there is something to read, as servers do.
sub next_bytes { vec(my $set = "", fileno $_[0], 1) = 1; select $set, undef, undef, undef; sysread $_[0], my $bytes, 4096; $bytes }
my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 5000, Listen => 5, ReuseAddr => 1) or die;
while (my $client = $server->accept) {
    my $head = "";
    while ($head !~ /\r\n\r\n/) { $head .= next_bytes($client) || last; }
    if ($head =~ /^Upgrade: websocket/mi) {
        syswrite $client, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        while (my $bytes = next_bytes($client)) { syswrite $client, $bytes; }
    } else {
        syswrite $client, "HTTP/1.0 200 OK\r\n\r\n$head";
    }
    close $client;
}
"#;

/// A host that lacks the image, and an orchestrator that has it.
async fn stage() -> Stage {
    let archive = base_image().await;
    let lab = Lab::builder()
        .hosts(1)
        .set("orchestrator.base_image", BASE_IMAGE)
        .set("orchestrator.base_image_archive", archive.to_str().unwrap());
    let stage = Stage::on(lab.start().await).await;
    assert_eq!(stage.host("alpha").docker(&["images", "--quiet", BASE_IMAGE]), "");
    stage
}

/// Where a pod answers from outside of its host.
async fn door(stage: &Stage, id: PodId) -> SocketAddr {
    let port = stage.record(id).await.external_port.unwrap();
    format!("{}:{port}", stage.host_of(id).await.address()).parse().unwrap()
}

async fn page(door: SocketAddr) -> String {
    eventually(LONG, "the pod's page", async || match http_get(door, "/").await {
        Ok((200, body)) => Ok(body),
        other => Err(other),
    })
    .await
}

/// What an operation told of itself while it ran.
async fn told(stage: &Stage, operation: &Operation) -> Vec<Operation> {
    let events = read_all(&stage.bus, StreamName::Events).await;
    let events = events.iter().map(|stored| stored.decode::<Event>().unwrap());
    let own = events.filter(|event| event.target_id == operation.operation_id.to_string());
    own.map(|event| serde_json::from_value(event.detail).unwrap()).collect()
}

#[tokio::test]
async fn the_image_is_copied_to_a_host_that_lacks_it_once_and_the_operation_tells_so() {
    let stage = stage().await;
    let asked = [stage.create(&pod("first")).await, stage.create(&pod("second")).await];
    let mut copies = 0;
    let mut notes = Vec::new();
    for (id, operation) in asked {
        let ended = stage.succeeds(operation).await;
        for step in told(&stage, &ended).await.iter().flat_map(|told| &told.steps).filter(|step| step.label == "image")
        {
            notes.extend(step.note.clone());
        }
        let commands = stage.commands(id).await;
        copies += commands.iter().filter(|command| command.command.contains("docker load")).count();
        assert!(page(door(&stage, id).await).await.contains("Pinacle pod"));
        stage.is_whole(id, "running").await;
    }
    assert_eq!(copies, 1);
    assert!(notes.iter().any(|note| note == "copying the image to alpha"), "{notes:?}");
    assert!(notes.iter().any(|note| note == "waiting for the image on alpha"), "{notes:?}");

    let third = stage.running("third").await;
    let commands = stage.commands(third).await;
    assert!(!commands.iter().any(|command| command.command.contains("docker load")), "{commands:#?}");
}

#[tokio::test]
async fn services_in_a_pod_are_supervised_and_come_back_with_it() {
    let stage = stage().await;
    let id = stage.running("serves").await;
    let (host, door) = (stage.host("alpha"), door(&stage, id).await);
    let inside = |script: &str| host.docker(&["exec", &container(id), "sh", "-c", script]);
    assert!(inside("dmesg").contains("gVisor"));
    page(door).await;

    // Its own web server, killed with all its processes.
    let first = inside("pgrep --oldest nginx");
    inside("pkill -KILL nginx");
    page(door).await;
    assert_ne!(inside("pgrep --oldest nginx"), first);

    // One of its owner's.
    inside(&format!("cat >/etc/init.d/own <<'END'\n{SERVICE}END\nchmod +x /etc/init.d/own; rc-update add own default"));
    inside("rc-service own start");
    let first = inside("pgrep -u nobody -x sleep");
    inside(&format!("kill -KILL {first}"));
    let second = eventually(LONG, "the service to be back", async || {
        match host.try_docker(&["exec", &container(id), "pgrep", "-u", "nobody", "-x", "sleep"]) {
            (true, number) if number != first => Ok(number),
            other => Err(other),
        }
    })
    .await;
    assert!(second.parse::<u32>().is_ok(), "{second}");
    assert!(inside("rc-status default").contains("own"));

    // Whatever has lost its parent ends for good.
    inside("for number in 1 2 3; do (true &); done");
    eventually(LONG, "no dead process to be left", async || {
        let processes = inside("ps -eo stat=,ppid=,comm=");
        if processes.lines().any(|line| line.starts_with('Z')) { Err(processes) } else { Ok(()) }
    })
    .await;

    // Told to end, it stops its services, and is not killed.
    stage.done(id, "stop").await;
    assert_eq!(host.docker(&["inspect", "--format", "{{.State.ExitCode}}", &container(id)]), "0");
    assert!(host.try_docker(&["logs", &container(id)]).1.contains("Stopping own"));
    stage.done(id, "start").await;
    page(door).await;
    assert!(inside("pgrep -u nobody -x sleep").parse::<u32>().is_ok());
    // After a death without warning, too.
    host.docker(&["kill", &container(id)]);
    stage.done(id, "start").await;
    page(door).await;
    assert!(inside("pgrep -u nobody -x sleep").parse::<u32>().is_ok());
}

/// What comes back for a request with this head.
async fn exchange(door: SocketAddr, head: &str, body: &[u8], until: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(door).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains(until) {
            if stream.read_buf(&mut answer).await.unwrap() == 0 {
                break;
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    timeout(Duration::from_secs(30), exchange).await.expect("an answer")
}

#[tokio::test]
async fn names_lead_to_ports_of_the_pod_and_websockets_pass() {
    let stage = stage().await;
    let id = stage.running("web").await;
    let (host, door) = (stage.host("alpha"), door(&stage, id).await);
    host.docker(&["exec", "--detach", &container(id), "perl", "-e", ECHO]);
    let asks = "perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(\"127.0.0.1:5000\")'";
    eventually(LONG, "the server in the pod", async || host.try_docker(&["exec", &container(id), "sh", "-c", asks]).0)
        .await;
    for name in ["localhost-5000.pod-web.example.com", "localhost-5000-pod-web.example.com"] {
        let head = format!("GET /a?b HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        let answer = exchange(door, &head, b"", "\r\n\r\nGET").await;
        assert!(answer.contains("GET /a?b HTTP/1.1"), "{answer}");
        assert!(answer.contains("Host: localhost:5000\r\n"), "{answer}");
        assert!(answer.contains(&format!("X-Forwarded-Host: {name}\r\n")), "{answer}");
    }
    let head = "GET / HTTP/1.1\r\nHost: localhost-5000.pod-web.example.com\r\nConnection: Upgrade\r\n\
                Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2l4dGVlbiBieXRlcyEhIQ==\r\n\r\n";
    let answer = exchange(door, head, b"back and forth", "back and forth").await;
    assert!(answer.starts_with("HTTP/1.1 101") && answer.ends_with("back and forth"), "{answer}");
    // Nothing listens there.
    let head = "GET / HTTP/1.1\r\nHost: localhost-5001.pod-web.example.com\r\nConnection: close\r\n\r\n";
    assert!(exchange(door, head, b"", "</html>").await.starts_with("HTTP/1.1 502"));
    // Every other name is the pod's page.
    let head = "GET / HTTP/1.1\r\nHost: pod-web.example.com\r\nConnection: close\r\n\r\n";
    assert!(exchange(door, head, b"", "</html>").await.contains("Pinacle pod"));
}
