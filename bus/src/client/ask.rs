//! Asking an agent: each question has a deadline, and ends with a result or a typed reason.

use std::time::Duration;

use async_nats::{Request, RequestErrorKind};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::{AskError, Bus, BusError, context::outgoing_headers};
use crate::contract::{
    HostId, Subject,
    command::{Command, Reply},
    encode,
};

impl Bus {
    /// Sends a command to a host's agent and waits for its reply, at most for `deadline`.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn ask<C: Command>(&self, host: HostId, command: &C, deadline: Duration) -> Result<C::Reply, AskError> {
        if !self.is_connected() {
            return Err(AskError::Bus(BusError::not_connected()));
        }
        let payload = encode(command).map_err(AskError::Malformed)?;
        let request = Request::new().payload(payload.into()).headers(outgoing_headers(None)).timeout(Some(deadline));
        let reply =
            self.client().send_request(subject::<C>(host), request).await.map_err(|error| match error.kind() {
                RequestErrorKind::NoResponders => AskError::NoAgent,
                RequestErrorKind::TimedOut => AskError::Timeout,
                _ => AskError::Bus(BusError::from_source("ask")(error)),
            })?;
        read_reply::<C>(&reply.payload)
    }

    /// Sends a command whose result comes in several replies.
    ///
    /// # Errors
    /// When it could not be sent.
    pub async fn ask_for_many<C: Command>(&self, host: HostId, command: &C) -> Result<Replies<C>, AskError> {
        if !self.is_connected() {
            return Err(AskError::Bus(BusError::not_connected()));
        }
        let sent = |error| AskError::Bus(BusError::from_source("ask")(error));
        let inbox = self.client().new_inbox();
        let subscriber = self
            .client()
            .subscribe(inbox.clone())
            .await
            .map_err(|error| AskError::Bus(BusError::from_source("ask")(error)))?;
        let payload = encode(command).map_err(AskError::Malformed)?;
        self.client()
            .publish_with_reply_and_headers(subject::<C>(host), inbox, outgoing_headers(None), payload.into())
            .await
            .map_err(sent)?;
        Ok(Replies { subscriber, command: std::marker::PhantomData })
    }
}

/// The replies to one command. Dropping it ends the interest.
pub struct Replies<C> {
    subscriber: async_nats::Subscriber,
    command: std::marker::PhantomData<fn() -> C>,
}

impl<C: Command> Replies<C> {
    /// The next reply, at most after `deadline`. Cancel-safe.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn next(&mut self, deadline: Duration) -> Result<C::Reply, AskError> {
        match timeout_at(Instant::now() + deadline, self.subscriber.next()).await {
            Err(_) => Err(AskError::Timeout),
            Ok(None) => Err(AskError::Bus(BusError::not_connected())),
            Ok(Some(message)) if message.status == Some(async_nats::StatusCode::NO_RESPONDERS) => {
                Err(AskError::NoAgent)
            }
            Ok(Some(message)) => read_reply::<C>(&message.payload),
        }
    }
}

fn subject<C: Command>(host: HostId) -> String {
    Subject::Command { host, verb: C::VERB.into() }.to_string()
}

fn read_reply<C: Command>(payload: &[u8]) -> Result<C::Reply, AskError> {
    match serde_json::from_slice(payload).map_err(AskError::Malformed)? {
        Reply::Ok(result) => Ok(result),
        Reply::Fault(fault) => Err(AskError::Fault(fault)),
    }
}
