//! Hosts that know a former SSH key alone get the current one: it is added through a connection that stands or by a key
//! that the host knows, tried by a connection of its own, and only then the former ones are withdrawn. Every step may be
//! had twice and is the same. Once no host is behind, the former keys are forgotten.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use pinacle_bus::contract::{
    HostId, OperationId, RequestId, Timestamp,
    host::HostRecord,
    key::SshKeyRing,
    request::{Operation, OperationStep, Progress},
};

use super::{
    ReconcileError, Reconciler, Report,
    context::{Context, PINACLE, is_there},
};
use crate::{
    ssh::{Command, ExecSink, Finished, HostConnection, SshSettings},
    tell,
};

/// A run has little time; the next one goes on at once.
const MOST_AT_ONCE: usize = 8;
const COMMAND_WITHIN: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_secs(1);
const VERB: &str = "exchange-ssh-key";
const WHERE: &str = "umask 077; f=${PINACLE_AUTHORIZED_KEYS:-$HOME/.ssh/authorized_keys}\n";
/// `$1` the new key, then those that it stands beside, with the options that one of them has.
const ADD: &str = r#"n=$1; shift
grep -qF -- "$n" "$f" && exit 0
for o do
l=$(grep -F -- "$o" "$f" | head -n 1)
[ -n "$l" ] || continue
cp -p "$f" "$f.pinacle" && printf '%s%s%s\n' "${l%%"$o"*}" "$n" "${l#*"$o"}" >>"$f.pinacle" && mv -f "$f.pinacle" "$f"
exit
done
echo "no key of the orchestrator's is in $f" >&2; exit 1"#;
/// `$@` the keys that go.
const WITHDRAW: &str = r#"for o do set -- "$@" -e "$o"; shift; done
cp -p "$f" "$f.pinacle" || exit
grep -vF "$@" "$f" >"$f.pinacle"
mv -f "$f.pinacle" "$f""#;

/// See the module.
#[derive(Default)]
pub struct SshKeys;

impl Reconciler for SshKeys {
    const NAME: &'static str = "ssh-keys";

    async fn run(&mut self, context: &Context) -> Result<Report, ReconcileError> {
        let mut report = Report::default();
        let Some(ring) = context.keys.ring().await? else { return Ok(report) };
        if ring.hosts_behind.is_empty() && ring.keys.len() < 2 {
            return Ok(report);
        }
        report.examined = u64::try_from(ring.hosts_behind.len()).unwrap_or(u64::MAX);
        let (mut reachable, mut done) = (Vec::new(), BTreeSet::new());
        for host in &ring.hosts_behind {
            match context.view.host(*host) {
                // It was removed: nobody logs in to it any more.
                None => drop(done.insert(*host)),
                Some(record) if is_there(&record) => reachable.push(record),
                Some(record) => {
                    report.find_host(*host, format!("{} gets the current SSH key when it is back", record.name));
                }
            }
        }
        if reachable.len() > MOST_AT_ONCE {
            report.again_in(SOON);
        }
        let moves = reachable.iter().take(MOST_AT_ONCE).map(|host| exchange(context, &ring, host));
        for (host, outcome) in reachable.iter().zip(join_all(moves).await) {
            match outcome {
                Ok(()) => drop(done.insert(host.host_id)),
                Err(why) => {
                    report.find_host(host.host_id, format!("{} did not get the current SSH key: {why}", host.name))
                }
            }
        }
        context.keys.caught_up(&done).await?;
        report.repaired = u64::try_from(done.len()).unwrap_or(u64::MAX);
        Ok(report)
    }
}

/// Puts a host on the current key; why not, for people.
async fn exchange(context: &Context, ring: &SshKeyRing, host: &HostRecord) -> Result<(), String> {
    let endpoint = context.endpoint(host).ok_or("it does not say where it takes SSH")?;
    let (current, former) = ring.keys.split_first().ok_or("there is no key")?;
    let former: Vec<&str> = former.iter().map(|key| key.public_key.as_str()).collect();
    let key = context.keys.current(ring).map_err(|error| error.to_string())?;
    let started_at = Timestamp::now();
    let operation_id = OperationId::new();
    let sink = ExecSink::new(&context.bus, operation_id, host.host_id, None, 1).at("ssh_key", host.host_id);
    let work = async {
        let add = command("Add the current key", ADD).arg(&current.public_key).args(former.iter().copied());
        let connection = context.connections.host(host.host_id, &endpoint);
        succeeded(connection.run(&add, &sink, &context.shutdown).await)?;
        // Of its own, with the current key and no other: only through it the former ones go.
        let settings = SshSettings { keys: key.into(), ..SshSettings::from(&*context.settings) };
        let fresh = HostConnection::new(endpoint.clone(), Arc::new(settings));
        let withdraw = command("Withdraw former keys", WITHDRAW).args(former.iter().copied());
        let withdrawn = succeeded(fresh.run(&withdraw, &sink, &context.shutdown).await);
        fresh.close().await;
        withdrawn
    };
    let outcome = work.await;
    let operation = operation(operation_id, host.host_id, started_at, outcome.as_ref().err());
    if let Err(error) = tell::operation(&context.bus, &operation, "exchange of the SSH key").await {
        tracing::warn!(%error, host = %host.host_id, "the exchange of an SSH key was not told");
    }
    outcome
}

fn command(label: &str, script: &str) -> Command {
    Command::shell(format!("{WHERE}{script}")).label(label).deadline(COMMAND_WITHIN)
}

fn succeeded<E: std::fmt::Display>(finished: Result<Finished, E>) -> Result<(), String> {
    match finished {
        Ok(finished) if finished.is_success() => Ok(()),
        Ok(finished) => Err(tell::line(finished.stderr.text().trim())),
        Err(error) => Err(error.to_string()),
    }
}

fn operation(operation_id: OperationId, host: HostId, started_at: Timestamp, cause: Option<&String>) -> Operation {
    let progress = if cause.is_none() { Progress::Succeeded } else { Progress::Failed };
    let (now, cause) = (Timestamp::now(), cause.map(|cause| tell::line(cause)));
    let step = OperationStep {
        label: VERB.into(),
        progress,
        cause: cause.clone(),
        note: None,
        started_at: Some(started_at),
        ended_at: Some(now),
    };
    Operation {
        operation_id,
        request_id: RequestId::new(),
        kind: "host".into(),
        target_id: host.to_string(),
        verb: VERB.into(),
        requested_by: PINACLE.into(),
        host_id: Some(host),
        takeovers: 0,
        progress,
        cause,
        started_at,
        deadline_at: now,
        ended_at: Some(now),
        steps: vec![step],
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command as Program;

    use super::*;

    const FIRST: &str = "ssh-ed25519 AAAAfirst";
    const SECOND: &str = "ssh-ed25519 AAAAsecond";
    const OTHER: &str = "from=\"10.0.0.0/8\" ssh-ed25519 AAAAother somebody@else\n";

    fn run(file: &std::path::Path, script: &str, keys: &[&str]) -> bool {
        let script = format!("{WHERE}{script}");
        let mut program = Program::new("sh");
        program.args(["-c", &script, "sh"]).args(keys).env("PINACLE_AUTHORIZED_KEYS", file);
        program.output().unwrap().status.success()
    }

    #[test]
    fn a_key_comes_beside_the_former_one_with_its_options_and_then_stands_alone_however_often() {
        let folder = std::env::temp_dir().join(format!("pinacle-keys-{:032x}", rand::random::<u128>()));
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("authorized_keys");
        let read = || std::fs::read_to_string(&file).unwrap();
        let before = format!("{OTHER}restrict {FIRST} pinacle\n");
        std::fs::write(&file, &before).unwrap();
        let both = format!("{before}restrict {SECOND} pinacle\n");
        for _ in 0..2 {
            assert!(run(&file, ADD, &[SECOND, "ssh-ed25519 AAAAgone", FIRST]));
            assert_eq!(read(), both);
        }
        for _ in 0..2 {
            assert!(run(&file, WITHDRAW, &["ssh-ed25519 AAAAgone", FIRST]));
            assert_eq!(read(), format!("{OTHER}restrict {SECOND} pinacle\n"));
        }
        assert!(!run(&file, ADD, &["ssh-ed25519 AAAAthird", FIRST]), "there was nothing to stand beside");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
