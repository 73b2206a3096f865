//! Every command that names a host, a pod or an operation, as a stranger types it: it ends the same for what is somebody
//! else's and for what never was. The commands are those of the help, so that a new one is tried by itself.

use std::fs;

use pinacle_bus::contract::{HostId, OperationId, PodId, host::HostRecord, topology::HOSTS};
use pinacle_tests::{eventually, machine};
use reqwest::Method;
use serde_json::json;

use super::fixture::{Outcome, pinacle};
use crate::gateway::{
    stage::{SOON, Stage, TOKEN, golden},
    tenants::text,
};

/// Every usage in the help, as words, and whether it wants to hear `--yes` where something is lost.
fn usages() -> Vec<(Vec<String>, bool)> {
    let file = machine::repository().join("cli/src/args/snapshots/pinacle__args__tests__every_commands_help.snap");
    let help = fs::read_to_string(file).unwrap();
    let mut usages: Vec<(Vec<String>, bool)> = Vec::new();
    for line in help.lines().map(str::trim) {
        if let Some(usage) = line.strip_prefix("Usage: pinacle ") {
            let words = usage.split_whitespace().filter(|word| *word != "[OPTIONS]").map(str::to_owned).collect();
            usages.push((words, false));
        } else if let Some((_, sure)) = usages.last_mut().filter(|_| line.starts_with("-y, --yes")) {
            *sure = true;
        }
    }
    usages
}

fn without(outcome: &Outcome, id: &str) -> (Option<i32>, String, String) {
    (outcome.code, outcome.stdout.replace(id, "<it>"), outcome.stderr.replace(id, "<it>"))
}

#[tokio::test]
async fn no_command_tells_a_stranger_what_there_is() {
    let stage = Stage::start().await;
    let (ann, eve) = (stage.person("ann", false).await, stage.person("eve", false).await);
    let host_id = HostId::new();
    let record =
        HostRecord { host_id, name: "anns-host".into(), owner: Some(ann.user_id.clone()), ..golden("host_record") };
    stage.bus.bucket(&HOSTS).await.unwrap().create(&host_id.to_string(), &record).await.unwrap();
    let made = stage.ask(&ann, Method::POST, "/pods", json!({ "name": "anns-pod" })).await;
    let (pod, operation) = (text(&made.body["pod"], "pod_id"), text(&made.body, "operation_id"));
    eventually(SOON, "the host", async || stage.get("/hosts/anns-host").await.status == 200).await;

    let gateway = format!("http://{}", stage.address);
    let environment = [("PINACLE_GATEWAY", gateway.as_str()), ("PINACLE_TOKEN", eve.token.as_str())];
    let mut tried = 0;
    for (usage, sure) in usages() {
        let pairs = match usage.iter().map(String::as_str).find(|word| ["<POD>", "<HOST>", "<ID>"].contains(word)) {
            Some("<POD>") => vec![(pod.clone(), PodId::new().to_string()), ("anns-pod".into(), "no-such-pod".into())],
            Some("<HOST>") => {
                vec![(host_id.to_string(), HostId::new().to_string()), ("anns-host".into(), "no-such-host".into())]
            }
            Some("<ID>") if usage[0] == "op" => vec![(operation.clone(), OperationId::new().to_string())],
            _ => continue,
        };
        let words = |id: &str| -> Vec<String> {
            let filled = usage.iter().map(|word| match word.as_str() {
                "<POD>" | "<HOST>" | "<ID>" => id.to_owned(),
                "<LABEL>..." => "zone=north".into(),
                "<OWNER>" => eve.user_id.clone(),
                word => word.to_owned(),
            });
            filled.collect()
        };
        for (hers, never) in pairs {
            let run = |id: &str| {
                let mut words = words(id);
                words.extend(sure.then(|| "--yes".into()));
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                pinacle(&words, &environment)
            };
            let (real, none) = (run(&hers), run(&never));
            assert_eq!(without(&real, &hers), without(&none, &never), "{usage:?}");
            assert_eq!(real.code, Some(1), "{usage:?}: {real:?}");
            tried += 1;
        }
    }
    assert!(tried >= 30, "{tried}");
    for list in [&["pod", "ls"][..], &["host", "ls"], &["op", "ls"], &["team", "ls"], &["events"]] {
        let listed = pinacle(list, &environment);
        assert!(!format!("{listed:?}").contains("anns-") && !format!("{listed:?}").contains(&pod), "{listed:?}");
    }
    let own = [("PINACLE_GATEWAY", gateway.as_str()), ("PINACLE_TOKEN", ann.token.as_str())];
    assert!(pinacle(&["pod", "ls", "--json"], &own).ok().contains("anns-pod"));
    // Whose it is, in words: to herself and to an admin.
    let admin = [("PINACLE_GATEWAY", gateway.as_str()), ("PINACLE_TOKEN", TOKEN)];
    for who in [&own, &admin] {
        for shown in [&["pod", "ls"][..], &["pod", "show", "anns-pod"], &["host", "show", "anns-host"]] {
            let shown = pinacle(shown, who).ok();
            assert!(shown.contains(&ann.email) && !shown.contains(&ann.user_id), "{shown}");
        }
    }
}
