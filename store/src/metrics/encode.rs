//! Values in Postgres's binary form, straight into the batch's buffer: no allocation for a row.

use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// What stands before the rows of a binary `COPY`: signature, flags, no extension.
pub(super) const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What stands after them.
pub(super) const COPY_TRAILER: &[u8] = &[0xff, 0xff];

/// Postgres counts microseconds from the year 2000.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
const REAL_OID: u32 = 700;

/// A value that its column cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a value does not fit its column")]
pub struct OutOfRange;

/// Anything that serialises as JSON, written without an intermediate value.
pub trait Json: Send + Sync {
    /// Appends the text.
    ///
    /// # Errors
    /// What `serde_json` finds unwritable.
    fn write_json(&self, out: &mut BytesMut) -> Result<(), serde_json::Error>;
}

impl<T: Serialize + Send + Sync> Json for T {
    fn write_json(&self, out: &mut BytesMut) -> Result<(), serde_json::Error> {
        serde_json::to_writer(out.writer(), self)
    }
}

/// A value of one column: its length in four bytes, then itself.
pub(super) trait Field {
    fn put(&self, out: &mut BytesMut) -> Result<(), OutOfRange>;
}

fn put_eight(out: &mut BytesMut, bytes: [u8; 8]) {
    let [a, b, c, d, e, f, g, h] = bytes;
    // One copy, and so one check of the buffer's room, instead of two.
    out.put_slice(&[0, 0, 0, 8, a, b, c, d, e, f, g, h]);
}

fn length(bytes: usize) -> Result<u32, OutOfRange> {
    i32::try_from(bytes).map(i32::cast_unsigned).map_err(|_| OutOfRange)
}

/// Writes a value whose length is known only afterwards.
fn put_counted(
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<(), OutOfRange>,
) -> Result<(), OutOfRange> {
    let start = out.len();
    out.put_u32(0);
    write(out)?;
    let written = length(out.len() - start - 4)?.to_be_bytes();
    match out.get_mut(start..start + 4) {
        Some(place) => place.copy_from_slice(&written),
        None => return Err(OutOfRange),
    }
    Ok(())
}

impl Field for &str {
    fn put(&self, out: &mut BytesMut) -> Result<(), OutOfRange> {
        out.put_u32(length(self.len())?);
        out.put_slice(self.as_bytes());
        Ok(())
    }
}

impl Field for bool {
    fn put(&self, out: &mut BytesMut) -> Result<(), OutOfRange> {
        out.put_slice(&[0, 0, 0, 1, u8::from(*self)]);
        Ok(())
    }
}

impl Field for u64 {
    fn put(&self, out: &mut BytesMut) -> Result<(), OutOfRange> {
        i64::try_from(*self).map_err(|_| OutOfRange)?.put(out)
    }
}

impl Field for i64 {
    fn put(&self, out: &mut BytesMut) -> Result<(), OutOfRange> {
        put_eight(out, self.to_be_bytes());
        Ok(())
    }
}

impl Field for f64 {
    fn put(&self, out: &mut BytesMut) -> Result<(), OutOfRange> {
        put_eight(out, self.to_be_bytes());
        Ok(())
    }
}

impl Field for DateTime<Utc> {
    fn put(&self, out: &mut BytesMut) -> Result<(), OutOfRange> {
        self.timestamp_micros().checked_sub(POSTGRES_EPOCH_MICROS).ok_or(OutOfRange)?.put(out)
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut BytesMut) -> Result<(), OutOfRange> {
        match self {
            Some(value) => value.put(out),
            None => {
                out.put_i32(-1);
                Ok(())
            }
        }
    }
}

impl Field for &[f32] {
    fn put(&self, out: &mut BytesMut) -> Result<(), OutOfRange> {
        put_counted(out, |out| {
            let dimensions = u32::from(!self.is_empty());
            out.put_u32(dimensions);
            // No NULLs in it.
            out.put_u32(0);
            out.put_u32(REAL_OID);
            if !self.is_empty() {
                out.put_u32(length(self.len())?);
                // Postgres counts from 1.
                out.put_u32(1);
            }
            for value in *self {
                out.put_u32(4);
                out.put_f32(*value);
            }
            Ok(())
        })
    }
}

impl Field for &dyn Json {
    fn put(&self, out: &mut BytesMut) -> Result<(), OutOfRange> {
        put_counted(out, |out| {
            // The only version of jsonb's binary form: its text follows.
            out.put_u8(1);
            self.write_json(out).map_err(|_| OutOfRange)
        })
    }
}
