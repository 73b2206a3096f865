//! Whether a sample can be stored: one pure function over the message, what is known, and the clock.

use std::time::Duration;

use pinacle_bus::contract::{DecodeError, HostId, PodId, Subject, Timestamp, metrics::Metrics};

use super::figures::Reason;
use crate::{gate::chain, known::Facts, settings::IngestSettings};

/// The limits of the settings.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How far ahead of our clock a sample may be.
    pub future: Duration,
    /// How long samples are kept.
    pub kept: Duration,
    /// How long a sample waits for its host's admission.
    pub grace: Duration,
}

impl Limits {
    /// From the settings.
    pub fn new(settings: &IngestSettings) -> Self {
        Self {
            future: Duration::from_secs(settings.future_tolerance_s),
            kept: Duration::from_secs(u64::from(settings.raw_days) * 24 * 60 * 60),
            grace: Duration::from_secs(settings.unknown_host_grace_s),
        }
    }
}

/// Why a sample, or a part of it, is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub reason: Reason,
    /// For people.
    pub text: String,
}

/// What is to be done with a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Store it.
    Keep,
    /// Nobody knows its host yet.
    UnknownHost(HostId),
    /// These of its pods seem to run elsewhere.
    PodsElsewhere(Vec<PodId>),
    /// It can never be stored.
    Refuse(Refusal),
}

fn refuse(reason: Reason, text: impl Into<String>) -> Verdict {
    Verdict::Refuse(Refusal { reason, text: text.into() })
}

/// What a message that cannot be decoded is refused for.
pub fn undecodable(error: &DecodeError) -> Refusal {
    let reason = match error {
        DecodeError::TooLarge { .. } => Reason::TooLarge,
        DecodeError::NewerSchema { .. } => Reason::NewerSchema,
        DecodeError::Malformed { .. } => Reason::Malformed,
        DecodeError::Invalid(_) => Reason::OutOfRange,
    };
    Refusal { reason, text: chain(error) }
}

/// Judges a sample that came on `subject`.
pub fn judge(subject: &str, sample: &Metrics, known: &Facts, now: Timestamp, limits: &Limits) -> Verdict {
    let host = sample.host_id;
    if subject.parse() != Ok(Subject::Metrics(host)) {
        return refuse(Reason::WrongSubject, format!("its subject is {subject}, but it says that it is of {host}"));
    }
    let at = sample.sampled_at;
    if at > now.plus(limits.future) {
        let limit = limits.future.as_secs();
        return refuse(
            Reason::Future,
            format!("sampled at {at}, which is more than {limit} s ahead; is the host's clock wrong?"),
        );
    }
    if at < now.minus(limits.kept) {
        let days = limits.kept.as_secs() / (24 * 60 * 60);
        return refuse(Reason::TooOld, format!("sampled at {at}, and samples are kept for {days} days"));
    }
    if !known.has_host(host) {
        return Verdict::UnknownHost(host);
    }
    let elsewhere: Vec<PodId> =
        sample.pods.iter().map(|pod| pod.pod_id).filter(|pod| known.runs_elsewhere(*pod, host)).collect();
    if elsewhere.is_empty() { Verdict::Keep } else { Verdict::PodsElsewhere(elsewhere) }
}

#[cfg(test)]
mod tests;
