//! What a message carries besides itself: the trace it belongs to, and the request that led to it.
//!
//! Whoever handles a message does so inside its context, and what is published meanwhile carries it on.

use std::{fmt, str::FromStr};

use async_nats::HeaderMap;
use rand::RngExt;

use crate::contract::{RequestId, SCHEMA_VERSION, header};

/// W3C trace context: the trace, and the span within it that a message was sent from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    flags: u8,
}

impl TraceParent {
    /// A new trace.
    pub fn root() -> Self {
        let mut random = rand::rng();
        // Neither id may be zero.
        Self { trace: random.random_range(1..=u128::MAX), span: random.random_range(1..=u64::MAX), flags: 1 }
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span: rand::rng().random_range(1..=u64::MAX), ..self }
    }

    /// The trace's id, 32 hexadecimal digits.
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl FromStr for TraceParent {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('-');
        let mut next = |digits: usize| {
            parts
                .next()
                .filter(|part| part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
        };
        if next(2) != Some("00") {
            return Err(());
        }
        let parsed = (|| {
            let trace = u128::from_str_radix(next(32)?, 16).ok()?;
            let span = u64::from_str_radix(next(16)?, 16).ok()?;
            let flags = u8::from_str_radix(next(2)?, 16).ok()?;
            (trace != 0 && span != 0).then_some(Self { trace, span, flags })
        })();
        if parts.next().is_some() { Err(()) } else { parsed.ok_or(()) }
    }
}

/// The context of the message at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageContext {
    /// Its trace.
    pub trace: TraceParent,
    /// The request that led to it.
    pub cause: Option<RequestId>,
}

tokio::task_local! {
    static CONTEXT: MessageContext;
}

/// Runs `future` in `context`.
pub async fn in_context<F: Future>(context: MessageContext, future: F) -> F::Output {
    CONTEXT.scope(context, future).await
}

/// The context that the caller runs in; a new trace outside of any.
pub fn current_context() -> MessageContext {
    CONTEXT.try_with(|context| *context).unwrap_or_else(|_| MessageContext { trace: TraceParent::root(), cause: None })
}

/// The headers of a message that is published now.
pub(super) fn outgoing_headers(message_id: Option<&str>) -> HeaderMap {
    let context = current_context();
    let mut headers = HeaderMap::new();
    if let Some(id) = message_id {
        headers.insert(header::MESSAGE_ID, id);
    }
    headers.insert(header::SCHEMA, SCHEMA_VERSION.to_string());
    headers.insert(header::TRACE_PARENT, context.trace.child().to_string());
    if let Some(cause) = context.cause {
        headers.insert(header::CAUSE, cause.to_string());
    }
    headers
}

/// The context and the schema version that a received message names. What cannot be read counts as absent, but for a
/// schema that is no number: such a message is of no version that anybody knows.
pub(super) fn incoming(headers: Option<&HeaderMap>) -> (MessageContext, u32) {
    let value = |name: &str| headers.and_then(|headers| headers.get(name)).map(|value| value.as_str());
    let trace = value(header::TRACE_PARENT).and_then(|text| text.parse().ok()).unwrap_or_else(TraceParent::root);
    let cause = value(header::CAUSE).and_then(|text| text.parse().ok());
    let schema = value(header::SCHEMA).map_or(1, |text| text.parse().unwrap_or(u32::MAX));
    (MessageContext { trace, cause }, schema)
}

/// In a bucket's change feed: whether a message with these headers says that the key is gone.
pub(super) fn deletes(headers: Option<&HeaderMap>) -> bool {
    headers
        .and_then(|headers| headers.get("KV-Operation"))
        .is_some_and(|operation| matches!(operation.as_str(), "DEL" | "PURGE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_survives_text_and_its_children_stay_in_it() {
        let root = TraceParent::root();
        assert_eq!(root.to_string().parse(), Ok(root));
        let child = root.child();
        assert_eq!(child.trace_id(), root.trace_id());
        assert_ne!(child, root);
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        let zero = format!("00-{:032x}-{:016x}-01", 0, 1);
        for text in [
            "",
            "00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            zero.as_str(),
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        ] {
            assert!(text.parse::<TraceParent>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn what_is_published_inside_a_context_carries_it() {
        let context = MessageContext { trace: TraceParent::root(), cause: Some(RequestId::new()) };
        let headers = in_context(context, async { outgoing_headers(Some("id")) }).await;
        let (received, schema) = incoming(Some(&headers));
        assert_eq!(received.trace.trace_id(), context.trace.trace_id());
        assert_eq!((received.cause, schema), (context.cause, SCHEMA_VERSION));
    }
}
