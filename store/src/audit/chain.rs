//! The chain's arithmetic: what is hashed, and what is wrong with a chain.

use sha2::{Digest, Sha256};

use crate::AuditRow;

/// What an entry's hash begins with, so that it can be mistaken for no other hash. Another number when the form changes.
const FORM: &[u8] = b"pinacle.audit.1";
/// Faults beyond these are counted only.
const MOST_FAULTS: usize = 100;
const MOST_SUSPECTS: usize = 1000;

/// An end of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainHead {
    /// The entry's place.
    pub seq: i64,
    /// Its hash.
    pub hash: Vec<u8>,
}

impl ChainHead {
    /// What stands before the first entry.
    pub fn genesis() -> Self {
        Self { seq: 0, hash: vec![0; 32] }
    }
}

impl AuditRow {
    /// What [`hash`](Self::hash) must be: SHA-256 over every other column, each with its length before it, so that
    /// nothing can move from one to the next.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut part = |value: Option<&[u8]>| match value {
            None => hash.update([0]),
            Some(bytes) => {
                hash.update([1]);
                hash.update((bytes.len() as u64).to_be_bytes());
                hash.update(bytes);
            }
        };
        part(Some(FORM));
        part(Some(&self.prev_hash));
        part(Some(&self.seq.to_be_bytes()));
        part(Some(&self.at.timestamp_micros().to_be_bytes()));
        part(Some(&self.stream_sequence.to_be_bytes()));
        part(self.status.map(i32::to_be_bytes).as_ref().map(<[u8; 4]>::as_slice));
        for text in [&self.audit_id, &self.actor, &self.via, &self.address, &self.action, &self.outcome] {
            part(Some(text.as_bytes()));
        }
        part(Some(self.request_id.as_bytes()));
        part(Some(self.detail.as_bytes()));
        for text in [
            &self.credential_id,
            &self.target_kind,
            &self.target_id,
            &self.owner,
            &self.bus_request_id,
            &self.operation_id,
        ] {
            part(text.as_ref().map(String::as_bytes));
        }
        hash.finalize().into()
    }
}

/// Something that is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainFault {
    /// These entries are not there.
    Missing {
        /// The first one.
        from: i64,
        /// The last one.
        to: i64,
    },
    /// An entry does not have the hash that its content has.
    Altered {
        /// Its place.
        seq: i64,
        /// Its id.
        audit_id: String,
    },
    /// An entry stands in another one's place.
    Moved {
        /// Where it stands.
        seq: i64,
        /// Its id.
        audit_id: String,
        /// Where it belongs.
        from: i64,
    },
    /// An entry was hashed behind another one than the one before it: one of the two was replaced.
    Unlinked {
        /// Its place.
        seq: i64,
        /// Its id.
        audit_id: String,
    },
    /// The entry that is known from elsewhere has another hash here: the chain was rewritten from somewhere before it on.
    Rewritten {
        /// Its place.
        seq: i64,
    },
}

/// A check of a chain, entry by entry.
#[derive(Debug)]
pub struct ChainCheck {
    noted: Option<ChainHead>,
    end: ChainHead,
    /// Whether [`end`](Self::end)'s hash can be what the next entry was hashed behind.
    is_sound: bool,
    suspects: Vec<AuditRow>,
    entries: u64,
    faults: Vec<ChainFault>,
    fault_count: u64,
}

impl ChainCheck {
    /// Of a chain that must hold `noted`.
    pub fn new(noted: Option<ChainHead>) -> Self {
        Self {
            noted,
            end: ChainHead::genesis(),
            is_sound: true,
            suspects: Vec::new(),
            entries: 0,
            faults: Vec::new(),
            fault_count: 0,
        }
    }

    /// How many entries there are.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The last one.
    pub fn end(&self) -> &ChainHead {
        &self.end
    }

    /// What is wrong, at most 100 of them.
    pub fn faults(&self) -> &[ChainFault] {
        &self.faults
    }

    /// How many faults there are.
    pub fn fault_count(&self) -> u64 {
        self.fault_count
    }

    fn fault(&mut self, fault: ChainFault) {
        self.fault_count += 1;
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(fault);
        }
    }

    /// The next entry.
    pub fn push(&mut self, row: AuditRow) {
        self.entries += 1;
        let expected = self.end.seq.saturating_add(1);
        if row.seq > expected {
            self.fault(ChainFault::Missing { from: expected, to: row.seq - 1 });
        }
        let follows = row.seq == expected;
        let is_true = row.digest().as_slice() == row.hash;
        if is_true && follows && self.is_sound && row.prev_hash != self.end.hash {
            self.fault(ChainFault::Unlinked { seq: row.seq, audit_id: row.audit_id.clone() });
        }
        if self.noted.as_ref().is_some_and(|noted| noted.seq == row.seq && noted.hash != row.hash) {
            self.fault(ChainFault::Rewritten { seq: row.seq });
        }
        self.end = ChainHead { seq: row.seq, hash: row.hash.clone() };
        self.is_sound = is_true;
        if is_true {
            return;
        }
        if self.suspects.len() < MOST_SUSPECTS {
            self.suspects.push(row);
        } else {
            self.fault(ChainFault::Altered { seq: row.seq, audit_id: row.audit_id });
        }
    }

    /// There are no more entries.
    pub fn finish(&mut self) {
        if let Some(noted) = self.noted.take().filter(|noted| noted.seq > self.end.seq) {
            self.fault(ChainFault::Missing { from: self.end.seq + 1, to: noted.seq });
        }
        let mut suspects = std::mem::take(&mut self.suspects);
        let places: Vec<i64> = suspects.iter().map(|row| row.seq).collect();
        for row in &mut suspects {
            let seq = row.seq;
            // Entries that changed places are each true in the other's.
            let home = places.iter().copied().find(|place| {
                row.seq = *place;
                row.digest().as_slice() == row.hash
            });
            let audit_id = row.audit_id.clone();
            self.fault(match home {
                Some(from) => ChainFault::Moved { seq, audit_id, from },
                None => ChainFault::Altered { seq, audit_id },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn chain(length: i64) -> Vec<AuditRow> {
        let mut end = ChainHead::genesis();
        (1..=length)
            .map(|seq| {
                let mut row = AuditRow {
                    seq,
                    audit_id: format!("audit_{seq}"),
                    at: DateTime::from_timestamp_millis(1_764_000_000_000 + seq).unwrap(),
                    actor: "user_1".into(),
                    via: "session".into(),
                    credential_id: None,
                    address: "192.0.2.1".into(),
                    action: "pod_create".into(),
                    target_kind: Some("pod".into()),
                    target_id: Some(format!("pod_{seq}")),
                    owner: None,
                    outcome: "accepted".into(),
                    status: None,
                    request_id: format!("req_{seq}"),
                    bus_request_id: None,
                    operation_id: None,
                    detail: "{}".into(),
                    stream_sequence: seq * 3,
                    prev_hash: end.hash.clone(),
                    hash: Vec::new(),
                };
                row.hash = row.digest().to_vec();
                end = ChainHead { seq, hash: row.hash.clone() };
                row
            })
            .collect()
    }

    fn faults(rows: Vec<AuditRow>, noted: Option<ChainHead>) -> Vec<ChainFault> {
        let mut check = ChainCheck::new(noted);
        rows.into_iter().for_each(|row| check.push(row));
        check.finish();
        check.faults().to_vec()
    }

    fn head(rows: &[AuditRow]) -> Option<ChainHead> {
        rows.last().map(|row| ChainHead { seq: row.seq, hash: row.hash.clone() })
    }

    #[test]
    fn a_whole_chain_has_no_fault_and_may_be_ahead_of_what_was_noted() {
        let rows = chain(9);
        assert_eq!(faults(rows.clone(), head(&rows)), []);
        assert_eq!(faults(rows.clone(), head(&rows[..5])), []);
        assert_eq!(faults(Vec::new(), None), []);
    }

    #[test]
    fn every_column_counts() {
        let changes: [fn(&mut AuditRow); 19] = [
            |row| row.audit_id.push('x'),
            |row| row.at += chrono::Duration::microseconds(1),
            |row| row.actor = "user_2".into(),
            |row| row.via = "token".into(),
            |row| row.credential_id = Some(String::new()),
            |row| row.address.clear(),
            |row| row.action = "pod_delete".into(),
            |row| row.target_kind = None,
            |row| row.target_id = Some("pod_9".into()),
            |row| row.owner = Some("user_1".into()),
            |row| row.outcome = "refused".into(),
            |row| row.status = Some(200),
            |row| row.request_id.clear(),
            |row| row.bus_request_id = Some("req_1".into()),
            |row| row.operation_id = Some("op_1".into()),
            |row| row.detail = "{ }".into(),
            |row| row.stream_sequence += 1,
            |row| row.prev_hash = vec![1; 32],
            |row| row.hash = vec![1; 32],
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut rows = chain(9);
            change(&mut rows[4]);
            let audit_id = rows[4].audit_id.clone();
            assert_eq!(faults(rows, None), [ChainFault::Altered { seq: 5, audit_id }], "change {number}");
        }
    }

    #[test]
    fn what_is_missing_moved_or_replaced_is_named() {
        let whole = chain(9);
        let mut rows = whole.clone();
        rows.drain(2..4);
        assert_eq!(faults(rows, None), [ChainFault::Missing { from: 3, to: 4 }]);
        assert_eq!(faults(whole[1..].to_vec(), None), [ChainFault::Missing { from: 1, to: 1 }]);
        assert_eq!(faults(whole[..6].to_vec(), head(&whole)), [ChainFault::Missing { from: 7, to: 9 }]);
        assert_eq!(faults(Vec::new(), head(&whole)), [ChainFault::Missing { from: 1, to: 9 }]);

        let mut rows = whole.clone();
        (rows[2].seq, rows[6].seq) = (7, 3);
        rows.sort_by_key(|row| row.seq);
        let moved = |seq, from| ChainFault::Moved { seq, audit_id: format!("audit_{from}"), from };
        assert_eq!(faults(rows, None), [moved(3, 7), moved(7, 3)]);

        let mut rows = whole.clone();
        rows[4].actor = "user_2".into();
        rows[4].hash = rows[4].digest().to_vec();
        assert_eq!(faults(rows, None), [ChainFault::Unlinked { seq: 6, audit_id: "audit_6".into() }]);
    }

    #[test]
    fn a_chain_that_was_hashed_anew_differs_from_what_was_noted() {
        let whole = chain(9);
        let mut rows = whole.clone();
        rows[4].actor = "user_2".into();
        for place in 4..9 {
            rows[place].prev_hash = rows[place - 1].hash.clone();
            rows[place].hash = rows[place].digest().to_vec();
        }
        assert_eq!(faults(rows.clone(), None), []);
        assert_eq!(faults(rows, head(&whole)), [ChainFault::Rewritten { seq: 9 }]);
    }
}
