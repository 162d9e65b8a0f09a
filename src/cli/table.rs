//! Text for people: columns, times, and words of others made harmless. Pure.
//!
//! Always: what partners or apps wrote reaches no terminal with a control character in it.

use std::fmt::Write;

use crate::telemetry::moves_text;
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

const TIME: &[FormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");

/// Rows below their heads, columns two spaces apart.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heads.iter().map(|head| head.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    for row in std::iter::once(&heads).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// On one line, and without anything that moves the cursor or other characters.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if moves_text(c) { '\u{fffd}' } else { c })
        .collect()
}

/// A moment in milliseconds since 1970, and how long ago that was.
pub(super) fn moment(at: u64, now: u64) -> String {
    if at == 0 {
        return "never".to_owned();
    }
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000_000);
    let text = moment.ok().and_then(|moment| moment.format(TIME).ok());
    let age = span(now.saturating_sub(at) / 1000);
    format!("{} ({age} ago)", text.unwrap_or_else(|| at.to_string()))
}

/// A span of time, in its largest unit and a half.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Now, in milliseconds since 1970.
pub(super) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["é".to_owned(), "1".to_owned()],
            vec!["long".to_owned(), String::new()],
        ];
        assert_eq!(table(&["A", "B"], &rows), "A     B\né     1\nlong\n");
    }

    #[test]
    fn words_of_others_move_no_cursor() {
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{9b}"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}");
        assert_eq!(plain("a\u{202e}b\u{200b}é"), "a\u{fffd}b\u{fffd}é");
    }

    #[test]
    fn times_are_told_in_utc_and_as_an_age() {
        assert_eq!(moment(0, 5), "never");
        assert_eq!(
            moment(1_700_000_000_000, 1_700_000_060_500),
            "2023-11-14 22:13:20Z (60 s ago)"
        );
        assert_eq!(
            (span(150), span(7_300), span(200_000)),
            ("2 min".into(), "2 h".into(), "2 days".into())
        );
        assert!(moment(u64::MAX, 0).contains("ago"));
    }
}
