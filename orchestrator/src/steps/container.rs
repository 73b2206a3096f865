//! A pod's container: gVisor, its own network, few capabilities, and the limits of its tier.

use pinacle_bus::{contract::pod::Tier, settings::Secret};
use sha2::{Digest, Sha256};

use super::docker::{container_name, docker, failure, labels, must, must_be_gone, network_name, says, volume_name};
use super::secrets;
use crate::{
    operation::context::{StepContext, StepError},
    ssh::Command,
};

/// The label with a digest of all that the container was made from: one with another is made anew.
const MADE_FROM: &str = "pinacle.spec";
/// Processes and threads. gVisor's own threads count, too.
const PIDS: &str = "1024";
/// What package managers, nginx, OpenRC and a change of user need; not raw sockets, devices or a change of capabilities.
const CAPABILITIES: [&str; 9] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT"];

/// Whoever the image runs as writes and reads its own files there.
const SECRETS_MOUNT: &str = "rw,noexec,nosuid,nodev,size=1m,mode=1777";

pub async fn make(context: &mut StepContext) -> Result<(), StepError> {
    let name = container_name(context.pod());
    let digest = digest(context);
    let command = create(context, &name, &digest)?;
    let finished = context.command(command.clone()).await?;
    if finished.is_success() {
        return Ok(());
    }
    if !says(&finished, &["is already in use by container"]) {
        return Err(failure(context, "create the container", &finished));
    }
    // Somebody may have taken it off its network.
    let format = format!(
        "{{{{index .Config.Labels \"{MADE_FROM}\"}}}}{{{{if not (index .NetworkSettings.Networks \"{}\")}}}} alone{{{{end}}}}",
        network_name(context.pod())
    );
    let look = docker("Look at the container", ["container", "inspect", "--format", &format, &name]);
    let found = must(context, "look at the container", look).await?;
    if found.stdout.text().trim() == digest {
        return Ok(());
    }
    remove(context).await?;
    must(context, "create the container", command).await.map(drop)
}

/// Makes it anew, because what is there cannot be used.
pub async fn remake(context: &mut StepContext) -> Result<(), StepError> {
    remove(context).await?;
    make(context).await
}

pub async fn remove(context: &mut StepContext) -> Result<(), StepError> {
    let name = container_name(context.pod());
    must_be_gone(context, "remove the container", docker("Remove the container", ["rm", "--force", &name])).await
}

fn create(context: &StepContext, name: &str, digest: &str) -> Result<Command, StepError> {
    let (record, pod) = (context.record(), context.pod());
    let (Some(port), Some(subnet), Some(tier)) = (record.external_port, record.subnet, Tier::find(&record.spec.tier))
    else {
        return Err(StepError::Failed("the pod has no port and network reserved, or no tier".into()));
    };
    let mut arguments: Vec<String> = Vec::new();
    let mut option = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
    option("name", name.into());
    option("hostname", record.name.clone());
    option("runtime", record.spec.runtime.clone());
    option("network", network_name(pod));
    option("ip", format!("10.249.{subnet}.2"));
    option("publish", format!("{port}:80"));
    option("volume", format!("{}:/workspace", volume_name(pod)));
    option("memory", tier.memory_bytes.to_string());
    // The same = no swap.
    option("memory-swap", tier.memory_bytes.to_string());
    option("cpus", format!("{}.{:03}", tier.cpu_millis / 1000, tier.cpu_millis % 1000));
    option("pids-limit", PIDS.into());
    option("cap-drop", "ALL".into());
    for capability in CAPABILITIES {
        option("cap-add", capability.into());
    }
    option("security-opt", "no-new-privileges".into());
    // What becomes of one that ends is our business: see the reconciler of containers.
    option("restart", "no".into());
    option("log-driver", "json-file".into());
    option("log-opt", "max-size=10m".into());
    option("log-opt", "max-file=3".into());
    option("label", format!("{MADE_FROM}={digest}"));
    if record.secrets.is_some() {
        option("tmpfs", format!("{}:{SECRETS_MOUNT}", secrets::FOLDER));
    }
    arguments.extend(labels(context));
    if record.spec.environment.is_empty() {
        return Ok(docker("Create the container", ["create"]).args(arguments).arg(&record.spec.image));
    }
    // Through a pipe, as sshd's standard input may be a socket, which nobody can open by its name.
    let variables: Vec<String> =
        record.spec.environment.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    Ok(Command::shell("cat | exec \"$@\"")
        .args(["docker", "create", "--env-file", "/dev/stdin"])
        .args(arguments)
        .arg(&record.spec.image)
        .secret_stdin(Secret::new(variables.concat()))
        .label("Create the container"))
}

/// Of all that the container is made from.
fn digest(context: &StepContext) -> String {
    let record = context.record();
    let made_from = (&record.spec, &record.name, record.external_port, record.subnet);
    let text = serde_json::to_string(&made_from).unwrap_or_default();
    Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
