//! Faults on request, in percent.

use std::str::FromStr;

use serde::Serialize;

/// How often what goes wrong, in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Faults {
    /// Of the samples, that wait as in an agent's spool.
    pub late: f64,
    /// Of the samples, that are sent twice.
    pub duplicate: f64,
    /// Of the samples, beside which a broken message is sent.
    pub malformed: f64,
    /// Of the hosts, that vanish without a farewell.
    pub gone: f64,
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut faults = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, percent) =
                part.split_once('=').ok_or_else(|| format!("{part:?} is no fault; write it as late=5"))?;
            let percent = percent
                .trim()
                .trim_end_matches('%')
                .parse::<f64>()
                .ok()
                .filter(|percent| (0.0..=100.0).contains(percent))
                .ok_or_else(|| format!("{part:?}: the percentage must be from 0 to 100"))?;
            match name.trim() {
                "late" => faults.late = percent,
                "duplicate" => faults.duplicate = percent,
                "malformed" => faults.malformed = percent,
                "gone" => faults.gone = percent,
                other => {
                    return Err(format!("there is no fault {other:?}; there are late, duplicate, malformed, gone"));
                }
            }
        }
        Ok(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_in_any_order_with_or_without_the_sign() {
        let faults: Faults = "gone=10, late=0.5%".parse().unwrap();
        assert_eq!(faults, Faults { late: 0.5, gone: 10.0, ..Faults::default() });
        assert_eq!("".parse(), Ok(Faults::default()));
    }

    #[test]
    fn what_is_no_fault_is_refused_with_what_there_is() {
        for (text, told) in
            [("late", "late=5"), ("late=x", "0 to 100"), ("late=101", "0 to 100"), ("slow=1", "malformed")]
        {
            let error = text.parse::<Faults>().unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
