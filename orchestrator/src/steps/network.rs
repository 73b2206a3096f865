//! A pod's own network, and the host's packet filter that keeps pods apart from each other, from the host, and from
//! addresses that are nobody's business, such as a cloud's metadata.

use super::docker::{docker, failure, labels, must_be_gone, network_name};
use crate::{
    operation::context::{StepContext, StepError},
    ssh::Command,
};

/// Makes the network. `$1` its name, `$2` the `n` of `10.249.n.0/24`, `$3` the pod; then the blocked networks, `--`, and
/// Docker's labels.
const MAKE: &str = include_str!("network.sh");

pub async fn make(context: &mut StepContext) -> Result<(), StepError> {
    let pod = context.pod();
    let Some(subnet) = context.record().subnet else {
        return Err(StepError::Failed("the pod has no network reserved".into()));
    };
    let command = Command::shell(MAKE)
        .args([network_name(pod), subnet.to_string(), pod.to_string()])
        .args(context.engine().settings.blocked_networks.clone())
        .arg("--")
        .args(labels(context))
        .label("Create the network");
    let finished = context.command(command).await?;
    if finished.is_success() { Ok(()) } else { Err(failure(context, "create the network", &finished)) }
}

pub async fn remove(context: &mut StepContext) -> Result<(), StepError> {
    let name = network_name(context.pod());
    must_be_gone(context, "remove the network", docker("Remove the network", ["network", "rm", &name])).await
}
