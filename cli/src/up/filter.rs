//! What a Docker of ours leaves in the kernel when it has ended: rules in the packet filter, and the pods' bridges.
//! Nobody else clears them away. Forwarding stays as Docker sets it: on, and refused where no rule allows it.

use std::{ffi::OsStr, fs, path::Path, process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

use super::part::find_program;

const TOOL_DEADLINE: Duration = Duration::from_secs(10);
const FILTERS: [&str; 2] = ["iptables", "ip6tables"];
const TABLES: [&str; 2] = ["filter", "nat"];
/// In the folder of a run: no other Docker had rules before ours.
const MARK: &str = "filter-was-clear";

/// Notes before Docker starts whether the packet filter is free of any Docker's rules, but for those that an installation
/// of ours left which was killed: its mark is still among all `runs`.
pub(super) async fn note(runs: &Path, run: &Path) {
    let left = fs::read_dir(runs).into_iter().flatten().flatten().any(|other| is_ours(&other.path()));
    if left || run_tool("iptables", ["-S", "DOCKER-USER"]).await.is_none() {
        // Without the mark what Docker leaves stays, as it does with any Docker.
        let _ = fs::write(run.join(MARK), "");
    }
}

/// Whether all rules of Docker's are those of ours.
pub(super) fn is_ours(run: &Path) -> bool {
    run.join(MARK).exists()
}

/// Removes them, and the bridges. What cannot be removed does nothing by itself.
pub(super) async fn clear() {
    for filter in FILTERS {
        for table in TABLES {
            let Some(rules) = run_tool(filter, ["-w", "5", "-t", table, "-S"]).await else { continue };
            for change in removal(&rules) {
                let _ = run_tool(filter, ["-w", "5", "-t", table].into_iter().chain(change)).await;
            }
        }
    }
    for link in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        let name = link.file_name();
        if name.to_str().is_some_and(is_of_pods) && link.path().join("bridge").is_dir() {
            let _ = run_tool("ip", [OsStr::new("link"), OsStr::new("delete"), &name]).await;
        }
    }
}

/// What removes from these rules all that is Docker's or of pods: first what leads there, then the chains.
fn removal(rules: &str) -> Vec<Vec<&str>> {
    let lines: Vec<Vec<&str>> = rules.lines().map(|line| line.split_whitespace().collect()).collect();
    let chains: Vec<&str> = lines
        .iter()
        .filter_map(|words| match words.as_slice() {
            ["-N", chain] if is_of_docker(chain) || is_of_pods(chain) => Some(*chain),
            _ => None,
        })
        .collect();
    let leading = lines.iter().filter_map(|words| match words.as_slice() {
        ["-A", chain, rest @ ..]
            if !chains.contains(chain) && rest.iter().any(|word| is_of_docker(word) || is_of_pods(word)) =>
        {
            Some([&["-D", chain], rest].concat())
        }
        _ => None,
    });
    let emptied = chains.iter().map(|chain| vec!["-F", chain]);
    let removed = chains.iter().map(|chain| vec!["-X", chain]);
    leading.chain(emptied).chain(removed).collect()
}

fn is_of_docker(word: &str) -> bool {
    word == "DOCKER" || word.starts_with("DOCKER-")
}

/// Bridges, chains and networks of pods.
fn is_of_pods(word: &str) -> bool {
    word.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("pinacle")) || word.starts_with("10.249.")
}

/// What a tool prints; nothing when it is not there or fails.
async fn run_tool(name: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Option<String> {
    let mut command = Command::new(find_program(name)?);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(TOOL_DEADLINE, command.output()).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_dockers_and_of_pods_goes_and_everything_else_stays() {
        let rules = "\
-P INPUT ACCEPT
-P FORWARD DROP
-N DOCKER
-N DOCKER-USER
-N PINACLE-IN
-N KUBE
-A INPUT -i lo -j ACCEPT
-A INPUT -j PINACLE-IN
-A FORWARD -j DOCKER-USER
-A FORWARD -o pinacle7 -j DOCKER
-A FORWARD -i pinacle7 ! -o pinacle7 -j ACCEPT
-A FORWARD -s 10.24.0.0/16 -j KUBE
-A DOCKER -d 10.249.7.2/32 ! -i pinacle7 -o pinacle7 -p tcp -m tcp --dport 80 -j ACCEPT
-A PINACLE-IN -j DROP
";
        let removal: Vec<String> = removal(rules).iter().map(|words| words.join(" ")).collect();
        assert_eq!(
            removal,
            [
                "-D INPUT -j PINACLE-IN",
                "-D FORWARD -j DOCKER-USER",
                "-D FORWARD -o pinacle7 -j DOCKER",
                "-D FORWARD -i pinacle7 ! -o pinacle7 -j ACCEPT",
                "-F DOCKER",
                "-F DOCKER-USER",
                "-F PINACLE-IN",
                "-X DOCKER",
                "-X DOCKER-USER",
                "-X PINACLE-IN",
            ]
        );
    }
}
