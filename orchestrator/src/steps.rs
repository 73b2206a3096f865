//! What each step does. Every one may be had twice and is the same: what is there already is adopted when it is right, and
//! made anew when it is not.

mod container;
mod docker;
mod image;
mod network;
mod place;
mod run;
pub mod secrets;
mod volume;

use crate::{
    operation::{
        context::{StepContext, StepError},
        plan::Step,
    },
    record::Effect,
};

/// Does a step of the operation under way.
///
/// # Errors
/// See [`StepError`].
pub async fn run(step: Step, context: &mut StepContext) -> Result<Effect, StepError> {
    match step {
        Step::Place => return place::place(context).await,
        Step::Release => return place::release(context).await,
        Step::Inspect => return run::inspect(context).await,
        // What is on no host is neither running nor there.
        Step::Stop | Step::RemoveContainer | Step::RemoveNetwork | Step::RemoveVolume
            if context.record().host_id.is_none() => {}
        Step::Image => image::bring(context).await?,
        Step::Network => network::make(context).await?,
        Step::Volume => volume::make(context).await?,
        Step::Container => container::make(context).await?,
        Step::Start => run::start(context).await?,
        Step::Answer => run::answer(context).await?,
        Step::Stop => run::stop(context).await?,
        Step::Pause => run::pause(context).await?,
        Step::Resume => run::resume(context).await?,
        Step::RemoveContainer => container::remove(context).await?,
        Step::RemoveNetwork => network::remove(context).await?,
        Step::RemoveVolume => volume::remove(context).await?,
    }
    Ok(Effect::None)
}
