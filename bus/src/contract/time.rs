//! Points in time as the bus writes them.

use std::{fmt, str::FromStr, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time in UTC, to the millisecond, between the years 1970 and 9999.
///
/// Written as RFC 3339, for example `2026-11-21T09:15:40.123Z`. Finer digits are cut when read, so that a value read
/// back equals the value written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(DateTime<Utc>);

const LATEST_MS: i64 = 253_402_300_799_999;

impl Timestamp {
    /// The machine's clock, now.
    pub fn now() -> Self {
        Self::from_millis(Utc::now().timestamp_millis()).unwrap_or(Self(DateTime::UNIX_EPOCH))
    }

    /// From milliseconds since 1970; `None` outside the years 1970 to 9999.
    pub fn from_millis(millis: i64) -> Option<Self> {
        (0..=LATEST_MS).contains(&millis).then(|| DateTime::from_timestamp_millis(millis).map(Self)).flatten()
    }

    /// Milliseconds since 1970.
    pub fn as_millis(self) -> i64 {
        self.0.timestamp_millis()
    }

    /// The same point as chrono knows it.
    pub fn as_utc(self) -> DateTime<Utc> {
        self.0
    }

    /// This point and `by` more, held at the end of the year 9999.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.as_millis().saturating_add(by).min(LATEST_MS)).unwrap_or(self)
    }

    /// This point less `by`, held at 1970.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.as_millis().saturating_sub(by).max(0)).unwrap_or(self)
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self::from_millis(time.timestamp_millis().clamp(0, LATEST_MS)).unwrap_or(Self(DateTime::UNIX_EPOCH))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a [`Timestamp`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a time in RFC 3339 between 1970 and 9999, such as 2026-11-21T09:15:40.123Z")]
pub struct InvalidTimestamp;

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| InvalidTimestamp)?;
        Self::from_millis(time.timestamp_millis()).ok_or(InvalidTimestamp)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time in RFC 3339")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_with_milliseconds_and_read_back_the_same() {
        let time: Timestamp = "2026-11-21T10:15:40.1239+01:00".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-21T09:15:40.123Z");
        assert_eq!(time.to_string().parse(), Ok(time));
    }

    #[test]
    fn years_that_no_table_takes_are_refused() {
        for text in ["1969-12-31T23:59:59Z", "+12026-01-01T00:00:00Z", "yesterday", ""] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }
}
