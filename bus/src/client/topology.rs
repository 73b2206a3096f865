//! Applies the declared streams, consumers and buckets. Whoever starts first makes them; whoever starts with other limits
//! changes them in place.

use std::time::Duration;

use async_nats::jetstream::{kv, stream};

use super::{Bus, BusError};
use crate::contract::topology::{BUCKETS, BucketSpec, CONSUMERS, Keep, StreamName, StreamSpec};

impl Bus {
    /// Makes every stream, consumer and bucket as it is declared, or changes it to that. Idempotent, and safe for
    /// several services at once.
    ///
    /// # Errors
    /// When the server refuses, for example for want of storage, or does not answer.
    pub async fn apply_topology(&self) -> Result<(), BusError> {
        for spec in StreamName::DECLARED.into_iter().filter_map(StreamName::spec) {
            self.apply_stream(&spec).await?;
        }
        for bucket in &BUCKETS {
            self.apply_bucket(bucket).await?;
        }
        for consumer in &CONSUMERS {
            self.apply_consumer(consumer).await?;
        }
        Ok(())
    }

    /// Applies the topology, again and again until the bus takes it: for the start of a service.
    ///
    /// # Errors
    /// When it has not succeeded within `deadline`: the last reason.
    pub async fn await_topology(&self, deadline: Duration) -> Result<(), BusError> {
        let deadline = tokio::time::Instant::now() + deadline;
        loop {
            let applied = async {
                self.connected(deadline.saturating_duration_since(tokio::time::Instant::now())).await?;
                self.apply_topology().await
            };
            let Err(error) = applied.await else { return Ok(()) };
            if tokio::time::Instant::now() >= deadline {
                return Err(error);
            }
            tracing::warn!(%error, "cannot apply the bus's topology; trying again");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn share(&self, percent: u64) -> i64 {
        i64::try_from(self.settings().storage_bytes / 100 * percent).unwrap_or(i64::MAX)
    }

    async fn apply_stream(&self, spec: &StreamSpec) -> Result<(), BusError> {
        let (max_age, max_messages_per_subject) = match spec.keep {
            Keep::For(age) => (age, -1),
            Keep::LastOfEach => (Duration::ZERO, 1),
        };
        let config = stream::Config {
            name: spec.name.as_str().into(),
            description: Some(spec.description.into()),
            subjects: spec.subjects.clone(),
            storage: if spec.in_memory { stream::StorageType::Memory } else { stream::StorageType::File },
            max_age,
            max_messages_per_subject,
            max_bytes: self.share(spec.storage_percent),
            discard: stream::DiscardPolicy::Old,
            duplicate_window: spec.duplicate_window,
            num_replicas: self.settings().replicas,
            allow_direct: true,
            // The server has no such mode for copies; there the others have a message that one of them loses.
            persist_mode: (spec.async_persist && self.settings().replicas == 1)
                .then_some(stream::PersistenceMode::Async),
            ..Default::default()
        };
        self.jetstream()
            .create_or_update_stream(config)
            .await
            .map(drop)
            .map_err(|error| BusError::from_source("make stream")(format!("{}: {error}", spec.name.as_str())))
    }

    async fn apply_bucket(&self, spec: &BucketSpec) -> Result<(), BusError> {
        let config = kv::Config {
            bucket: spec.name.into(),
            description: spec.description.into(),
            history: 1,
            max_age: spec.time_to_live,
            max_value_size: spec.max_value_bytes,
            max_bytes: self.share(spec.storage_percent),
            num_replicas: self.settings().replicas,
            ..Default::default()
        };
        self.jetstream()
            .create_or_update_key_value(config)
            .await
            .map(drop)
            .map_err(|error| BusError::from_source("make bucket")(format!("{}: {error}", spec.name)))
    }
}
