//! Commands against a gateway that speaks TLS, with an authority that the system does not know.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use pinacle_tests::{machine, stack::ADMIN_TOKEN};
use reqwest::Method;
use serde_json::{Value, json};

use super::fixture::{fed, pinacle};
use crate::{
    enrolment::field::Field,
    gateway::browser::{PASSWORD, secret},
};

/// A process that ends with its test.
struct Follows(Child);

impl Drop for Follows {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn what_happens_is_followed_over_tls() {
    let field = Field::start(&[]).await;
    let (_machine, _agent, _) = field.joined("north", json!({})).await;
    let authority = field.ca_file.to_str().unwrap();
    let known = [("PINACLE_GATEWAY", field.url.as_str()), ("PINACLE_TOKEN", ADMIN_TOKEN)];
    let trusted = [known.as_slice(), &[("PINACLE_GATEWAY_CA", authority)]].concat();
    assert!(pinacle(&["host", "ls"], &trusted).ok().contains("north"));

    let mut command = Command::new(machine::service("pinacle"));
    command.args(["watch", "--json"]).envs(trusted.iter().copied()).current_dir("/");
    let mut follows = Follows(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(follows.0.stdout.take().unwrap()).lines();
    // A sample that came later than the first state of all.
    let mut samples = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()).filter_map(|line| {
        let is_host = line["topic"] == "host" && line["item"]["name"] == "north";
        is_host.then(|| line["item"]["metrics"]["received_at"].as_str().map(str::to_owned))?
    });
    let (first, next) = (samples.next().unwrap(), samples.next().unwrap());
    assert_ne!(first, next);

    // A login keeps the authority with it.
    let (_, first) = field.ask(Method::POST, "/accounts/first", None).await;
    let token = secret(first["link"]["url"].as_str().unwrap());
    let set = field.ask_openly("/accounts/password", &json!({ "token": token, "password": PASSWORD })).await;
    assert_eq!(set.0, 200, "{set:?}");
    let config = field.sandbox.folder("config");
    let own = [("XDG_CONFIG_HOME", config.to_str().unwrap())];
    let login = ["login", "--gateway", &field.url, "--gateway-ca", authority, "--email", "admin@localhost"];
    fed(&[login.as_slice(), &["--password-stdin"]].concat(), &own, &format!("{PASSWORD}\n")).ok();
    assert!(pinacle(&["host", "ls"], &own).ok().contains("north"));
    pinacle(&["watch", "--events", "--for", "1s"], &own).ok();

    // Without the authority nothing is shown to whoever answers there.
    for arguments in [&["host", "ls"][..], &["watch", "--events", "--for", "20s"]] {
        let line = pinacle(arguments, &known).refused(1);
        assert!(line.contains("--gateway-ca"), "{arguments:?}: {line}");
    }
}
