//! Times as the profile writes them: RFC 3339, UTC, `Z`, fraction without trailing zeros (what a Go reader re-marshals).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Last second that has a four-digit year; a clock beyond it is written as this.
const LAST_SECOND: i64 = 253_402_300_799;

/// The text of a time. Times before 1970 or after 9999 are written as the nearest bound.
pub fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = i64::try_from(since.as_secs()).unwrap_or(LAST_SECOND).min(LAST_SECOND);
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|whole| whole.replace_nanosecond(since.subsec_nanos()).ok())
        .and_then(|exact| exact.format(&Rfc3339).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}

/// The time of an RFC 3339 text, in whatever zone it was written.
pub fn parse_timestamp(text: &str) -> Option<SystemTime> {
    let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    let magnitude = nanos.unsigned_abs();
    let span = Duration::new(
        u64::try_from(magnitude / 1_000_000_000).ok()?,
        u32::try_from(magnitude % 1_000_000_000).ok()?,
    );
    if nanos < 0 {
        UNIX_EPOCH.checked_sub(span)
    } else {
        UNIX_EPOCH.checked_add(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_zeros_are_not_written() {
        let at = |nanos| timestamp(UNIX_EPOCH + Duration::new(1_700_000_000, nanos));
        assert_eq!(at(0), "2023-11-14T22:13:20Z");
        assert_eq!(at(500_000_000), "2023-11-14T22:13:20.5Z");
        assert_eq!(at(120_000_000), "2023-11-14T22:13:20.12Z");
        assert_eq!(at(1), "2023-11-14T22:13:20.000000001Z");
    }

    #[test]
    fn texts_read_back() {
        for nanos in [0, 1, 10, 123_456_789, 999_999_999] {
            let at = UNIX_EPOCH + Duration::new(1_700_000_000, nanos);
            assert_eq!(parse_timestamp(&timestamp(at)), Some(at));
        }
        assert_eq!(parse_timestamp("1970-01-01T02:00:00+02:00"), Some(UNIX_EPOCH));
        assert_eq!(
            parse_timestamp("1969-12-31T23:59:59.5Z"),
            Some(UNIX_EPOCH - Duration::from_millis(500))
        );
        for bad in ["", "now", "2023-11-14", "2023-11-14T22:13:20", "2023-13-14T22:13:20Z"] {
            assert_eq!(parse_timestamp(bad), None, "{bad}");
        }
    }

    #[test]
    fn clocks_outside_the_calendar_are_clamped() {
        assert_eq!(timestamp(UNIX_EPOCH - Duration::from_secs(9)), "1970-01-01T00:00:00Z");
        assert_eq!(
            timestamp(UNIX_EPOCH + Duration::from_secs(1 << 40)),
            "9999-12-31T23:59:59Z"
        );
    }
}
