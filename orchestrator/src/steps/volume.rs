//! The volume that a pod has its work in. It outlives the container.

use super::docker::{docker, labels, must, must_be_gone, volume_name};
use crate::operation::context::{StepContext, StepError};

pub async fn make(context: &mut StepContext) -> Result<(), StepError> {
    let name = volume_name(context.pod());
    // One that is there is as good: Docker says so by itself.
    let command = docker("Create the volume", ["volume", "create"]).args(labels(context)).arg(&name);
    must(context, "create the volume", command).await.map(drop)
}

pub async fn remove(context: &mut StepContext) -> Result<(), StepError> {
    let name = volume_name(context.pod());
    must_be_gone(context, "remove the volume", docker("Remove the volume", ["volume", "rm", &name])).await
}
