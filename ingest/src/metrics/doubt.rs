//! Messages whose fate takes a question to the bus: samples of hosts that nobody knows, and of pods that run elsewhere, as
//! far as the cache goes. The bucket has the last word.

use std::time::Duration;

use pinacle_bus::{
    client::{Delivered, Outcome},
    contract::{HostId, PodId, Timestamp},
};

use super::{
    batch::Taken,
    figures::{Figures, Reason},
    judge::{Limits, Refusal},
};
use crate::known::Known;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What came of a doubt.
pub enum Doubt {
    /// It is settled.
    Settled,
    /// Its rows can be written.
    Cleared(Taken),
    /// Judge it anew.
    Again(Delivered),
}

/// How long a message waits before try number `tries` + 1.
pub fn wait(tries: u64) -> Duration {
    FIRST_WAIT.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(LONGEST_WAIT)
}

/// A sample whose host nobody knows, as far as the cache goes. It waits for the host's admission, but not for ever.
pub struct Stranger {
    /// The message.
    pub delivered: Delivered,
    /// Its host.
    pub host: HostId,
    /// How long it waits if it may.
    pub wait: Duration,
    /// There are too many of its kind.
    pub crowded: bool,
}

impl Stranger {
    /// Asks the bucket and decides.
    pub async fn settle(self, known: &Known, limits: &Limits, figures: &Figures) -> Doubt {
        let Self { delivered, host, wait, crowded } = self;
        let over = Timestamp::now() >= delivered.published_at.plus(limits.grace);
        match known.confirm_host(host).await {
            Ok(true) => return Doubt::Again(delivered),
            // More than one try: what lay on the bus while ingest was away gets its chance, too.
            Ok(false) if crowded || (over && delivered.tries > 1) => {
                let text = if over {
                    format!("nobody knows the host {host}; it was not admitted within {} s", limits.grace.as_secs())
                } else {
                    format!("nobody knows the host {host}, and too many samples of such hosts wait already")
                };
                let refusal = Refusal { reason: Reason::UnknownHost, text };
                Taken { delivered, left_out: Vec::new(), refusal: Some(refusal) }.settle(figures).await;
            }
            Ok(false) | Err(_) => delivered.settle(Outcome::Later(wait)).await,
        }
        Doubt::Settled
    }
}

/// Some pods run elsewhere, as far as the cache goes. The host's own row and those of its other pods are written all the
/// same, and the message becomes a dead letter that names the pods.
pub async fn doubt_pods(delivered: Delivered, pods: Vec<PodId>, known: Known) -> Doubt {
    let mut elsewhere = Vec::new();
    let sample_of = delivered.subject.split('.').nth(3).and_then(|host| host.parse::<HostId>().ok());
    for pod in pods {
        match known.confirm_pod(pod).await {
            Ok(placed) if placed.is_some() && placed != sample_of => elsewhere.push((pod, placed)),
            Ok(_) => {}
            Err(_) => {
                delivered.settle(Outcome::Later(Duration::from_secs(1))).await;
                return Doubt::Settled;
            }
        }
    }
    let refusal = (!elsewhere.is_empty()).then(|| {
        let named: Vec<String> = elsewhere
            .iter()
            .map(|(pod, placed)| placed.map_or_else(String::new, |placed| format!("{pod} runs on {placed}")))
            .collect();
        Refusal {
            reason: Reason::PodElsewhere,
            text: format!("it has figures of pods that run elsewhere: {}; the rest of it is stored", named.join(", ")),
        }
    });
    Doubt::Cleared(Taken { delivered, left_out: elsewhere.into_iter().map(|(pod, _)| pod).collect(), refusal })
}
