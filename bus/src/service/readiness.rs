//! Whether a service can do its work now, and if not, why.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tracing::{info, warn};

/// The conditions of a service. Ready = all of them are met.
#[derive(Clone, Default)]
pub struct Readiness {
    unmet: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
}

impl Readiness {
    /// Adds a condition, not met at first because of `reason`.
    pub fn condition(&self, name: &'static str, reason: &str) -> Condition {
        self.unmet.lock().insert(name, Some(reason.to_owned()));
        Condition { readiness: self.clone(), name }
    }

    /// Each condition with why it is not met; `None` = it is.
    pub fn conditions(&self) -> BTreeMap<&'static str, Option<String>> {
        self.unmet.lock().clone()
    }

    /// Whether all conditions are met.
    pub fn is_ready(&self) -> bool {
        self.unmet.lock().values().all(Option::is_none)
    }
}

/// One condition of a service's readiness.
#[derive(Clone)]
pub struct Condition {
    readiness: Readiness,
    name: &'static str,
}

impl Condition {
    /// It is met.
    pub fn met(&self) {
        if let Some(Some(reason)) = self.readiness.unmet.lock().insert(self.name, None) {
            info!(condition = self.name, was = reason, "ready");
        }
    }

    /// It is not met, because of `reason`. Logged when that is new.
    pub fn unmet(&self, reason: impl Into<String>) {
        let reason = reason.into();
        let before = self.readiness.unmet.lock().insert(self.name, Some(reason.clone()));
        if before.flatten().as_ref() != Some(&reason) {
            warn!(condition = self.name, reason, "not ready");
        }
    }
}
