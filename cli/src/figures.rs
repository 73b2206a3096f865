//! Numbers and times as people read them.

use pinacle_bus::contract::Timestamp;

/// Bytes with three digits at most, in powers of 1024: `512 B`, `1.5 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    scaled(count as f64, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// Bytes a second.
pub(crate) fn rate(per_second: f64) -> String {
    format!("{}/s", scaled(per_second, &["B", "KiB", "MiB", "GiB", "TiB"]))
}

fn scaled(mut value: f64, units: &[&str]) -> String {
    let mut unit = units.iter();
    let mut name = unit.next();
    // Rounded up from 1023.5 it would have four digits.
    while value >= 1023.5 {
        let Some(next) = unit.next() else { break };
        value /= 1024.0;
        name = Some(next);
    }
    let name = name.copied().unwrap_or_default();
    if name == "B" || value >= 99.95 { format!("{value:.0} {name}") } else { format!("{value:.1} {name}") }
}

/// A percentage.
pub(crate) fn percent(value: f64) -> String {
    if value >= 99.95 { format!("{value:.0}%") } else { format!("{value:.1}%") }
}

/// A share in percent; none of nothing.
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// A span in its two largest units: `3d 4h`, `5m 02s`.
pub(crate) fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes:02}m"),
        _ => format!("{days}d {hours:02}h"),
    }
}

/// How long ago a time was.
pub(crate) fn ago(time: Timestamp) -> String {
    let age = Timestamp::now().as_millis() - time.as_millis();
    // Another clock than this one may be a little ahead.
    span(u64::try_from(age / 1000).unwrap_or(0))
}

/// A time of day with the date, in UTC, without what a table has no room for.
pub(crate) fn moment(time: Timestamp) -> String {
    time.as_utc().format("%Y-%m-%d %H:%M:%S").to_string()
}

/// The time of day, for lines that come one after the other.
pub(crate) fn clock(time: Timestamp) -> String {
    time.as_utc().format("%H:%M:%S").to_string()
}

/// A count with its noun: `1 host`, `2 hosts`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Safe to show: what hosts send may hold escape sequences, which a terminal would obey.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_few_digits_and_a_unit() {
        let shown: Vec<String> = [0, 512, 1023, 1024, 1536, 102_400, 1_048_575, 5 << 30, u64::MAX].map(bytes).into();
        assert_eq!(
            shown.join(" | "),
            "0 B | 512 B | 1023 B | 1.0 KiB | 1.5 KiB | 100 KiB | 1.0 MiB | 5.0 GiB | 16384 PiB"
        );
        assert_eq!([percent(0.04), percent(99.94), percent(99.96), percent(400.0)].join(" "), "0.0% 99.9% 100% 400%");
        assert_eq!([span(59), span(61), span(3_660), span(90_000)].join(" | "), "59s | 1m 01s | 1h 01m | 1d 01h");
        assert_eq!(share(1, 0), 0.0);
    }

    #[test]
    fn what_a_host_sends_cannot_command_the_terminal() {
        assert_eq!(clean("web\x1b[2J\r\n"), "web\u{fffd}[2J\u{fffd}\u{fffd}");
    }
}
