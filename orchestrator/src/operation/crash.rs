//! For tests of crashes: kills this process at a place named by the setting `crash_at`, in the development mode only.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tracing::warn;

use super::plan::{Step, Verb};

/// When in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The record says that the step runs; nothing has been done.
    Before,
    /// Something has been done; its result is not on record.
    Inside,
    /// All has been done; the record does not say so.
    After,
}

/// Where the process kills itself.
#[derive(Debug, Clone, Default)]
pub struct CrashPoint(Option<(String, Moment)>);

impl CrashPoint {
    /// From `<verb>/<step>/<before|inside|after>`; empty = nowhere.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let (place, moment) = text.rsplit_once('/').ok_or("must be <verb>/<step>/<before|inside|after>")?;
        let moment = match moment {
            "before" => Moment::Before,
            "inside" => Moment::Inside,
            "after" => Moment::After,
            other => return Err(format!("{other} is none of before, inside, after")),
        };
        Ok(Self(Some((place.to_owned(), moment))))
    }

    /// Whether anything is to happen at all at this place.
    pub fn is_at(&self, verb: Verb, step: Step, moment: Moment) -> bool {
        let Self(Some((place, at))) = self else { return false };
        *at == moment && *place == format!("{}/{}", verb.as_str(), step.label())
    }

    /// Ends this process without any further instruction, if it is to.
    pub fn pass(&self, verb: Verb, step: Step, moment: Moment) {
        if self.is_at(verb, step, moment) {
            warn!(
                verb = verb.as_str(),
                step = step.label(),
                ?moment,
                "killing this process, as the setting crash_at says"
            );
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_verb_a_step_and_a_moment() {
        let point = CrashPoint::parse("create/network/inside").unwrap();
        assert!(point.is_at(Verb::Create, Step::Network, Moment::Inside));
        assert!(!point.is_at(Verb::Start, Step::Network, Moment::Inside));
        assert!(!CrashPoint::default().is_at(Verb::Create, Step::Network, Moment::Inside));
        assert!(CrashPoint::parse("create/network/during").is_err());
    }
}
