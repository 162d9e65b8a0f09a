//! The forms of values: how each kind is read from its text, and which values it takes. Pure.

use std::path::PathBuf;
use std::time::Duration;

use super::reading::Raw;
use crate::telemetry::check_filter;

/// How a value of type `T` is read.
pub(super) struct Form<T> {
    /// Which values, for people.
    pub(super) told: String,
    /// Whether it is an address that may hold user-info.
    pub(super) user_info: bool,
    /// The reading itself; the error says what is wrong and never repeats a secret.
    pub(super) read: Reader<T>,
}

type Reader<T> = Box<dyn Fn(&Raw) -> Result<T, String>>;

/// A form of one value.
pub(super) fn form<T: 'static>(told: impl Into<String>, read: impl Fn(&str) -> Result<T, String> + 'static) -> Form<T> {
    Form {
        told: told.into(),
        user_info: false,
        read: Box::new(move |raw| read(raw.one()?)),
    }
}

/// Nothing when the value is empty.
pub(super) fn optional<T: 'static>(form: Form<T>) -> Form<Option<T>> {
    let Form { told, user_info, read } = form;
    let read = Box::new(move |raw: &Raw| match raw {
        Raw::One(text) if text.is_empty() => Ok(None),
        raw => read(raw).map(Some),
    });
    Form {
        told: format!("{told}, or empty"),
        user_info,
        read,
    }
}

/// A list of at least `least`, or one text with commas between.
pub(super) fn several<T: 'static>(least: usize, form: Form<T>) -> Form<Vec<T>> {
    let Form { told, user_info, read } = form;
    let read = Box::new(move |raw: &Raw| {
        let list: Vec<Raw> = match raw {
            // Also as it stands in the file: people copy a line from there to the command line.
            Raw::One(text) => text
                .trim()
                .trim_start_matches('[')
                .trim_end_matches(']')
                .split(',')
                .map(|text| text.trim().trim_matches(['"', '\'']))
                .filter(|text| !text.is_empty())
                .map(one)
                .collect(),
            Raw::Many(list) => list.iter().map(|text| one(text)).collect(),
        };
        if list.len() < least {
            return Err("must not be empty".to_owned());
        }
        let mistakes: Vec<String> = list.iter().filter_map(|raw| read(raw).err()).collect();
        if mistakes.is_empty() {
            list.iter().map(&read).collect()
        } else {
            Err(mistakes.join("; "))
        }
    });
    Form {
        told: format!("one or a list: {told}"),
        user_info,
        read,
    }
}

/// One value.
pub(super) fn one(text: &str) -> Raw {
    Raw::One(text.to_owned())
}

/// A text of 1 to `most` bytes without control characters.
pub(super) fn text(what: &'static str, most: usize) -> Form<String> {
    form(what, move |text| {
        if text.trim().is_empty() {
            Err("must not be empty".to_owned())
        } else if text.len() > most {
            Err(format!("is longer than {most} bytes"))
        } else if text.chars().any(char::is_control) {
            Err("holds control characters".to_owned())
        } else {
            Ok(text.to_owned())
        }
    })
}

/// A path.
pub(super) fn path() -> Form<PathBuf> {
    form("a path", |text| {
        if text.is_empty() || text.contains('\0') {
            Err("needs a path".to_owned())
        } else {
            Ok(PathBuf::from(text))
        }
    })
}

/// A path, made absolute.
pub(super) fn directory() -> Form<PathBuf> {
    form("a path", |text| {
        if text.is_empty() || text.contains(['\0', '{']) {
            Err("needs a path".to_owned())
        } else {
            Ok(absolute(text))
        }
    })
}

/// `path` from the working directory of now.
pub(super) fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path))
}

/// `true` or `false`.
pub(super) fn flag() -> Form<bool> {
    form("true or false", |text| {
        text.parse()
            .map_err(|_| format!("`{}` is neither true nor false", text.escape_debug()))
    })
}

/// One of some words.
pub(super) fn choice<T: Copy + 'static>(words: &'static [(&'static str, T)]) -> Form<T> {
    let told = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
    let names = told.clone();
    form(told, move |text| {
        let found = words.iter().find(|(word, _)| *word == text);
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| format!("`{}` is none of {names}", text.escape_debug()))
    })
}

/// A whole number.
pub(super) fn count(least: usize, most: usize) -> Form<usize> {
    form(format!("{least} to {most}"), move |text| {
        let number = text
            .parse()
            .map_err(|_| format!("`{}` is no whole number", text.escape_debug()))?;
        within(number, least, most, |number| number.to_string())
    })
}

/// A whole number that is a rate.
pub(super) fn rate(least: u32, most: u32) -> Form<u32> {
    form(format!("{least} to {most}"), move |text| {
        let number = text
            .parse()
            .map_err(|_| format!("`{}` is no whole number", text.escape_debug()))?;
        within(number, least, most, |number| number.to_string())
    })
}

/// A size in bytes: `512KiB`, `1MiB`, `64KB`, or the plain number.
pub(super) fn size(least: usize, most: usize) -> Form<usize> {
    form(format!("{} to {}", size_text(least), size_text(most)), move |text| {
        let (number, unit) = number_and_unit(text);
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            _ => 0,
        };
        let bytes = number
            .parse::<usize>()
            .ok()
            .filter(|_| factor > 0)
            .and_then(|number| number.checked_mul(factor));
        let bytes =
            bytes.ok_or_else(|| format!("`{}` is no size; write `512KiB`, for example", text.escape_debug()))?;
        within(bytes, least, most, |bytes| size_text(*bytes))
    })
}

/// A duration: `500ms`, `10s`, `5m`, `1h`.
pub(super) fn duration(least: Duration, most: Duration) -> Form<Duration> {
    form(
        format!("{} to {}", duration_text(least), duration_text(most)),
        move |text| {
            let (number, unit) = number_and_unit(text);
            let factor = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => 0,
            };
            let ms = number
                .parse::<u64>()
                .ok()
                .filter(|_| factor > 0)
                .and_then(|number| number.checked_mul(factor));
            let ms = ms.ok_or_else(|| {
                format!(
                    "`{}` is no duration; write `500ms`, `10s` or `5m`, for example",
                    text.escape_debug()
                )
            })?;
            within(Duration::from_millis(ms), least, most, |value| duration_text(*value))
        },
    )
}

fn number_and_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

fn within<T: PartialOrd>(value: T, least: T, most: T, told: impl Fn(&T) -> String) -> Result<T, String> {
    if value < least {
        Err(format!("{} is too little; {} at least", told(&value), told(&least)))
    } else if value > most {
        Err(format!("{} is too much; {} at most", told(&value), told(&most)))
    } else {
        Ok(value)
    }
}

fn size_text(bytes: usize) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
}

fn duration_text(value: Duration) -> String {
    let ms = value.as_millis();
    for (factor, unit) in [(3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if ms >= factor && ms.is_multiple_of(factor) {
            return format!("{}{unit}", ms / factor);
        }
    }
    format!("{ms}ms")
}

/// A filter for the log.
pub(super) fn log_filter() -> Form<String> {
    form("a level or a filter", |text| {
        check_filter(text).map_err(|error| error.to_string())?;
        Ok(text.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(form: &Form<T>, text: &str) -> Result<T, String> {
        (form.read)(&one(text))
    }

    #[test]
    fn sizes_and_durations_have_units_and_bounds() {
        let size = size(1, 1 << 30);
        assert_eq!(read(&size, "512KiB"), Ok(512 << 10));
        assert_eq!(read(&size, "1 mib"), Ok(1 << 20));
        assert_eq!(read(&size, "64KB"), Ok(64_000));
        assert_eq!(read(&size, "77"), Ok(77));
        assert_eq!(
            read(&size, "0"),
            Err("0 bytes is too little; 1 bytes at least".to_owned())
        );
        for bad in [
            "",
            "KiB",
            "-1",
            "1.5MiB",
            "99999999999999999999",
            "18446744073709551615GiB",
            "5 parsecs",
        ] {
            assert!(read(&size, bad).is_err(), "{bad}");
        }
        let duration = duration(Duration::from_millis(1), Duration::from_secs(3600));
        assert_eq!(read(&duration, "500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(read(&duration, "5m"), Ok(Duration::from_secs(300)));
        assert_eq!(read(&duration, "2h"), Err("2h is too much; 1h at most".to_owned()));
        for bad in ["", "10", "0s", "s", "1d", "99999999999999999999h"] {
            assert!(read(&duration, bad).is_err(), "{bad}");
        }
    }
}
