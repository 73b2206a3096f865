//! Answering commands: every one gets a reply before its deadline, its result or a typed fault, whatever happens to its
//! handler; and a slow one holds up nothing but itself.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use serde::Serialize;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Bus, BusError, Incoming, in_context};
use crate::contract::{
    Subject,
    command::{Command, Fault, FaultCode, Reply},
};

/// A command that arrived.
pub struct Ask {
    bus: Bus,
    incoming: Incoming,
    verb: String,
}

impl Ask {
    /// What is asked, as spelled in the subject.
    pub fn verb(&self) -> &str {
        &self.verb
    }

    /// Its parameters.
    ///
    /// # Errors
    /// [`FaultCode::BadRequest`] with what is wrong with them.
    pub fn parameters<C: Command>(&self) -> Result<C, Fault> {
        self.incoming.decode().map_err(|error| {
            let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            Fault { code: FaultCode::BadRequest, message: format!("{error}{cause}") }
        })
    }

    /// Sends one of several replies; the last one is the handler's result.
    ///
    /// # Errors
    /// [`FaultCode::Unavailable`] when it cannot be sent.
    pub async fn reply_with<R: Serialize>(&self, reply: &R) -> Result<(), Fault> {
        self.send(&Reply::Ok(reply))
            .await
            .map_err(|error| Fault { code: FaultCode::Unavailable, message: error.to_string() })
    }

    async fn send<R: Serialize>(&self, reply: &Reply<R>) -> Result<(), BusError> {
        let Some(inbox) = self.incoming.reply.clone() else { return Ok(()) };
        let payload = serde_json::to_vec(reply).map_err(BusError::from_source("encode reply"))?;
        self.bus.client().publish(inbox, payload.into()).await.map_err(BusError::from_source("reply"))
    }

    async fn send_fault(&self, code: FaultCode, message: impl Into<String>) {
        let fault = Fault { code, message: message.into() };
        debug!(verb = %self.verb, code = ?fault.code, message = %fault.message, "answer with a fault");
        if let Err(error) = self.send::<()>(&Reply::Fault(fault)).await {
            warn!(%error, verb = %self.verb, "cannot answer");
        }
    }
}

/// Answers what arrives under `filter` until `shutdown`. At most `most_at_once` commands run at a time, a further one is
/// told [`FaultCode::Busy`]; one that runs for longer than `deadline` gives its verb is cut off with
/// [`FaultCode::Timeout`]; a panic becomes [`FaultCode::Internal`].
///
/// The handler returns the reply's result as JSON.
///
/// # Errors
/// When the subscription cannot be made, or ends.
pub async fn respond<F, Fut>(
    bus: &Bus,
    filter: String,
    most_at_once: usize,
    deadline: fn(&str) -> Duration,
    shutdown: CancellationToken,
    handler: F,
) -> Result<(), BusError>
where
    F: Fn(Arc<Ask>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<serde_json::Value, Fault>> + Send + 'static,
{
    let mut subscription = bus.subscribe(filter).await?;
    let permits = Arc::new(Semaphore::new(most_at_once));
    let handler = Arc::new(handler);
    let mut running = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            // cancel-safe: a message not yet taken stays in the subscription.
            incoming = subscription.next() => incoming,
            // cancel-safe: joining an ended task loses nothing.
            Some(_) = running.join_next(), if !running.is_empty() => continue,
            // cancel-safe: only observed.
            () = shutdown.cancelled() => break,
        };
        let Some(incoming) = incoming else { return Err(BusError::not_connected()) };
        let Ok(Subject::Command { verb, .. }) = incoming.subject.parse() else { continue };
        let ask = Arc::new(Ask { bus: bus.clone(), incoming, verb });
        match permits.clone().try_acquire_owned() {
            Err(_) => ask.send_fault(FaultCode::Busy, format!("{most_at_once} commands run already; try again")).await,
            Ok(permit) => {
                let handler = handler.clone();
                running.spawn(in_context(ask.incoming.context, async move {
                    answer(&ask, deadline(&ask.verb), (*handler)(ask.clone())).await;
                    drop(permit);
                }));
            }
        }
    }
    // What is under way still gets its answer; each is bounded by its own deadline, and all by the service's drain.
    while running.join_next().await.is_some() {}
    Ok(())
}

async fn answer(ask: &Ask, deadline: Duration, work: impl Future<Output = Result<serde_json::Value, Fault>> + Send) {
    match tokio::time::timeout(deadline, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(Ok(result))) => {
            if let Err(error) = ask.send(&Reply::Ok(result)).await {
                warn!(%error, verb = %ask.verb, "cannot answer");
            }
        }
        Ok(Ok(Err(fault))) => ask.send_fault(fault.code, fault.message).await,
        Ok(Err(_)) => ask.send_fault(FaultCode::Internal, "the command's handler failed; see the agent's log").await,
        Err(_) => ask.send_fault(FaultCode::Timeout, format!("it took longer than {} s", deadline.as_secs())).await,
    }
}
