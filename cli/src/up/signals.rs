//! The signals that end `up`.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// SIGINT, SIGTERM and SIGHUP, which a terminal that closes sends.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on they no longer end the process by themselves.
    pub fn new() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The name of the next one. Cancel-safe.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            // cancel-safe: a signal that is not taken here is told by the next call.
            _ = self.interrupt.recv() => "Ctrl-C",
            // cancel-safe: as above.
            _ = self.terminate.recv() => "SIGTERM",
            // cancel-safe: as above.
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
