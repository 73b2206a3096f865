//! Buckets of typed records, written by compare-and-set only.

use async_nats::jetstream::kv::{self, CreateErrorKind, Operation, UpdateErrorKind};
use futures_util::TryStreamExt;

use super::{Bus, BusError, BusErrorKind, Reader, Start, Stored};
use crate::contract::{DecodeError, Message, SCHEMA_VERSION, Timestamp, decode, encode, topology::BucketSpec};

/// A bucket whose values are `T`.
pub struct Bucket<T> {
    bus: Bus,
    store: kv::Store,
    record: std::marker::PhantomData<fn() -> T>,
}

impl<T> Clone for Bucket<T> {
    fn clone(&self) -> Self {
        Self { bus: self.bus.clone(), store: self.store.clone(), record: std::marker::PhantomData }
    }
}

/// A record and its revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<T> {
    /// What a following update must name.
    pub revision: u64,
    /// When it was written, by the server's clock.
    pub written_at: Timestamp,
    /// The record.
    pub record: T,
}

/// A change in a bucket.
#[derive(Debug)]
pub enum Change<T> {
    /// A record was written.
    Put {
        /// Its key.
        key: String,
        /// The record and its revision.
        entry: Entry<T>,
    },
    /// A record was removed.
    Deleted {
        /// Its key.
        key: String,
        /// The revision of the removal.
        revision: u64,
    },
    /// A record was written that cannot be read.
    Malformed {
        /// Its key.
        key: String,
        /// Its revision.
        revision: u64,
        /// Why not.
        error: DecodeError,
    },
    /// All that was in the bucket when the watch began has been told. Comes once.
    Current,
}

impl Bus {
    /// Opens a bucket that the topology declares.
    ///
    /// # Errors
    /// When it does not exist or the server does not answer.
    pub async fn bucket<T: Message>(&self, spec: &BucketSpec) -> Result<Bucket<T>, BusError> {
        let store = self.jetstream().get_key_value(spec.name).await.map_err(BusError::from_source("open bucket"))?;
        Ok(Bucket { bus: self.clone(), store, record: std::marker::PhantomData })
    }
}

impl<T: Message> Bucket<T> {
    /// Reads a record; `None` when there is none.
    ///
    /// # Errors
    /// When the server does not answer; [`BusErrorKind::Malformed`] when what is there cannot be read.
    pub async fn get(&self, key: &str) -> Result<Option<Entry<T>>, BusError> {
        let entry = self.store.entry(key).await.map_err(BusError::from_source("read record"))?;
        match entry {
            Some(entry) if entry.operation == Operation::Put => Ok(Some(read(&entry).map_err(malformed)?)),
            _ => Ok(None),
        }
    }

    /// Writes a record that does not exist yet; returns its revision.
    ///
    /// # Errors
    /// [`BusErrorKind::Conflict`] when it exists.
    pub async fn create(&self, key: &str, record: &T) -> Result<u64, BusError> {
        let value = encoded(record)?;
        self.store.create(key, value).await.map_err(|error| {
            let kind = match error.kind() {
                CreateErrorKind::AlreadyExists => BusErrorKind::Conflict,
                CreateErrorKind::Ack => BusErrorKind::Timeout,
                _ => BusErrorKind::Refused,
            };
            BusError::new(kind, format!("create record {key}"), error)
        })
    }

    /// Writes a record whose newest revision is `revision`; returns the new one.
    ///
    /// # Errors
    /// [`BusErrorKind::Conflict`] when somebody else wrote meanwhile: read again and decide again.
    pub async fn update(&self, key: &str, record: &T, revision: u64) -> Result<u64, BusError> {
        let value = encoded(record)?;
        self.store.update(key, value, revision).await.map_err(|error| {
            let kind = match error.kind() {
                UpdateErrorKind::WrongLastRevision => BusErrorKind::Conflict,
                UpdateErrorKind::TimedOut => BusErrorKind::Timeout,
                _ => BusErrorKind::Refused,
            };
            BusError::new(kind, format!("update record {key}"), error)
        })
    }

    /// Removes a record whose newest revision is `revision`.
    ///
    /// # Errors
    /// When somebody else wrote meanwhile, or the server does not answer.
    pub async fn delete(&self, key: &str, revision: u64) -> Result<(), BusError> {
        self.store
            .delete_expect_revision(key, Some(revision))
            .await
            .map_err(|error| BusError::new(BusErrorKind::Conflict, format!("delete record {key}"), error))
    }

    /// The keys of all records.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn keys(&self) -> Result<Vec<String>, BusError> {
        let keys = self.store.keys().await.map_err(BusError::from_source("list records"))?;
        keys.try_collect().await.map_err(BusError::from_source("list records"))
    }

    /// The newest revision of any record; 0 when the bucket is empty.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn newest_revision(&self) -> Result<u64, BusError> {
        self.bus.newest_of(&format!("KV_{}", self.store.name)).await
    }

    /// Follows the bucket: all records as they are, then each change.
    pub fn watch(&self) -> Watch<T> {
        let stream = format!("KV_{}", self.store.name);
        let reader = Reader::new(&self.bus, &stream, Start::LastOfEach, None);
        Watch { reader, bus: self.bus.clone(), stream, revision: 0, current: None, told: false, record: self.record }
    }
}

/// Follows a bucket across reconnects. A record that is written several times while nobody listens is told once, with
/// its newest value.
pub struct Watch<T> {
    reader: Reader,
    bus: Bus,
    stream: String,
    revision: u64,
    /// The bucket's newest revision when the watch began.
    current: Option<u64>,
    told: bool,
    record: std::marker::PhantomData<fn() -> T>,
}

impl<T: Message> Watch<T> {
    /// The next change. Cancel-safe.
    ///
    /// # Errors
    /// When the flow broke off: call again, and it goes on behind the last change.
    pub async fn next(&mut self) -> Result<Change<T>, BusError> {
        let current = match self.current {
            Some(current) => current,
            None => {
                // A bucket keeps one value a key, so the newest revision is among what is told, unless it is empty.
                *self.current.insert(self.bus.newest_of(&self.stream).await?)
            }
        };
        if !self.told && self.revision >= current {
            self.told = true;
            return Ok(Change::Current);
        }
        let stored = self.reader.next().await?;
        self.revision = stored.sequence;
        Ok(change(&stored))
    }
}

fn change<T: Message>(stored: &Stored) -> Change<T> {
    // The subject is $KV.<bucket>.<key>.
    let key = stored.subject.splitn(3, '.').nth(2).unwrap_or_default().to_owned();
    if stored.deleted {
        return Change::Deleted { key, revision: stored.sequence };
    }
    match decode(SCHEMA_VERSION, &stored.payload) {
        Ok(record) => {
            Change::Put { key, entry: Entry { revision: stored.sequence, written_at: stored.published_at, record } }
        }
        Err(error) => Change::Malformed { key, revision: stored.sequence, error },
    }
}

fn read<T: Message>(entry: &kv::Entry) -> Result<Entry<T>, DecodeError> {
    // Records carry no headers: whoever writes them runs this release or an older one.
    let record = decode(SCHEMA_VERSION, &entry.value)?;
    Ok(Entry { revision: entry.revision, written_at: entry.created.into(), record })
}

fn malformed(error: DecodeError) -> BusError {
    BusError::new(BusErrorKind::Malformed, "read record", error)
}

fn encoded<T: Message>(record: &T) -> Result<bytes::Bytes, BusError> {
    let value = encode(record).map_err(|error| BusError::new(BusErrorKind::Malformed, "encode record", error))?;
    if value.len() > T::MAX_BYTES {
        return Err(BusError::new(BusErrorKind::TooLarge, "write record", format!("it has {} bytes", value.len())));
    }
    Ok(value.into())
}
