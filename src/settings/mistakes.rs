//! Mistakes in settings: where, which key, what to do. And the nearest known name for an unknown one.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1; 0 when it is about the whole file.
        line: usize,
    },
    /// A variable of the environment.
    Env(String),
    /// `--set`.
    Set,
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::File { path, line: 0 } => write!(out, "{}", path.display()),
            Self::File { path, line } => write!(out, "{}:{line}", path.display()),
            Self::Env(name) => write!(out, "environment {name}"),
            Self::Set => out.write_str("--set"),
        }
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where it stands.
    pub origin: Origin,
    /// The setting; empty when it is about more than one.
    pub key: String,
    /// What is wrong and what to do.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(out, "{}: {}", self.origin, self.text)
        } else {
            write!(out, "{}: {}: {}", self.origin, self.key.escape_debug(), self.text)
        }
    }
}

/// Every mistake that was found, at least one; shown one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, mistake) in self.0.iter().enumerate() {
            if number > 0 {
                out.write_str("\n")?;
            }
            write!(out, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// "unknown ..., did you mean ...?" with the nearest of `known`, if one is near.
pub(super) fn unknown<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("unknown {what}; did you mean `{near}`?"),
        None => format!("unknown {what}"),
    }
}

/// The known name nearest to `name`: the fewest changes, but not more than a third of it; or else the one whose last
/// part is the same.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A name this long was never meant to be one; the comparison is quadratic.
    if name.len() > 100 {
        return None;
    }
    let last = |name: &str| name.rsplit('.').next().map(str::to_owned);
    let mut best: Option<(usize, &str)> = None;
    let mut same_end = None;
    for candidate in known {
        let distance = strsim::damerau_levenshtein(name, candidate);
        if best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
        if same_end.is_none() && last(candidate) == last(name) {
            same_end = Some(candidate);
        }
    }
    let allowed = (name.chars().count() / 3).max(2);
    best.filter(|(distance, _)| *distance <= allowed)
        .map(|(_, candidate)| candidate)
        .or(same_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_only_when_it_is_near() {
        let known = ["limits.depth", "limits.peers", "log.level", "name"];
        assert_eq!(nearest("limits.deph", known), Some("limits.depth"));
        assert_eq!(nearest("logging.level", known), Some("log.level"));
        assert_eq!(nearest("depth", known), Some("limits.depth"));
        assert_eq!(nearest("nmae", known), Some("name"));
        assert_eq!(nearest("something.else", known), None);
    }

    #[test]
    fn a_mistake_says_file_line_and_key() {
        let origin = Origin::File {
            path: "a.toml".into(),
            line: 3,
        };
        let mistake = Mistake {
            origin,
            key: "limits.deph".to_owned(),
            text: "unknown setting".to_owned(),
        };
        assert_eq!(mistake.to_string(), "a.toml:3: limits.deph: unknown setting");
    }
}
