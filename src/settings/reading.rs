//! One pass over the list: what each setting was given, read in its form, shown, and every mistake kept.

use std::collections::BTreeMap;
use std::fmt;

use super::Shown;
use super::addresses::hide_user_info;
use super::forms::Form;
use super::mistakes::{Mistake, Origin};

/// What stands for the value of `state_dir` in other settings.
const STATE_DIR: &str = "{state_dir}";

/// A line of the list, without its type.
pub(super) struct Row {
    /// `section.setting`.
    pub(super) key: &'static str,
    /// The meaning, for people.
    pub(super) help: &'static str,
    /// Which values it may have, for people.
    pub(super) values: String,
    /// Its default.
    pub(super) preset: Preset,
}

/// A default.
pub(super) enum Preset {
    /// Nothing, for what is optional.
    Unset,
    /// One value.
    Text(&'static str),
    /// Several.
    List(&'static [&'static str]),
    /// It depends.
    Computed {
        /// On what, for people.
        told: &'static str,
        /// A value to show in the commented file.
        sample: &'static str,
        /// The value.
        of: fn(&Reading<'_>) -> Result<Raw, String>,
    },
}

/// A value before it is read: what TOML, the environment and `--set` have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Raw {
    One(String),
    Many(Vec<String>),
}

impl Raw {
    /// The one value, or what to say.
    pub(super) fn one(&self) -> Result<&str, String> {
        match self {
            Self::One(text) => Ok(text),
            Self::Many(_) => Err("takes one value, not a list".to_owned()),
        }
    }

    fn map(self, change: impl Fn(String) -> String) -> Self {
        match self {
            Self::One(text) => Self::One(change(text)),
            Self::Many(list) => Self::Many(list.into_iter().map(change).collect()),
        }
    }
}

/// As TOML writes it: numbers and yes/no bare, the rest quoted.
impl fmt::Display for Raw {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(text) if text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok() => out.write_str(text),
            Self::One(text) => write!(out, "{}", toml::Value::from(text.as_str())),
            Self::Many(list) => {
                let list: Vec<String> = list
                    .iter()
                    .map(|text| toml::Value::from(text.as_str()).to_string())
                    .collect();
                write!(out, "[{}]", list.join(", "))
            }
        }
    }
}

/// What was given, and what came of it so far.
pub(super) struct Reading<'a> {
    /// The environment, for defaults that look there.
    pub(super) env: &'a [(String, String)],
    given: BTreeMap<String, (Raw, Origin)>,
    state_dir: Option<String>,
    shown: Vec<Shown>,
    mistakes: Vec<Mistake>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(env: &'a [(String, String)]) -> Self {
        Self {
            env,
            given: BTreeMap::new(),
            state_dir: None,
            shown: Vec::new(),
            mistakes: Vec::new(),
        }
    }

    /// A value for `key`, in place of any given before.
    pub(super) fn give(&mut self, key: &str, raw: Raw, origin: Origin) {
        self.given.insert(key.to_owned(), (raw, origin));
    }

    /// What `key` was given until now.
    pub(super) fn given(&self, key: &str) -> Option<&Raw> {
        self.given.get(key).map(|(raw, _)| raw)
    }

    /// A variable of the environment that is not empty.
    pub(super) fn variable(&self, name: &str) -> Option<&'a str> {
        self.env
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Notes a mistake.
    pub(super) fn mistake(&mut self, origin: Origin, key: &str, text: impl Into<String>) {
        self.mistakes.push(Mistake {
            origin,
            key: key.to_owned(),
            text: text.into(),
        });
    }

    /// Notes a mistake about a setting that has been read.
    pub(super) fn mistake_about(&mut self, key: &str, text: impl Into<String>) {
        let origin = self
            .shown
            .iter()
            .find(|shown| shown.key == key)
            .map_or(Origin::Default, |shown| shown.origin.clone());
        self.mistake(origin, key, text);
    }

    /// Reads `key` in its form; a mistake is noted and gives `None`.
    pub(super) fn read<T>(&mut self, key: &'static str, preset: &Preset, form: &Form<T>) -> Option<T> {
        let (raw, origin) = match self.given.get(key) {
            Some((raw, origin)) => (raw.clone(), origin.clone()),
            None => match preset.raw(self) {
                Ok(raw) => (raw, Origin::Default),
                Err(text) => {
                    self.mistake(Origin::Default, key, text);
                    return None;
                }
            },
        };
        // Without a state_dir there is a mistake already, and nothing that is read from here on is used.
        let state_dir = self.state_dir.as_deref().unwrap_or(".");
        let raw = raw.map(|text| {
            if key == "state_dir" {
                text
            } else {
                text.replace(STATE_DIR, state_dir)
            }
        });
        let value = (form.read)(&raw).and_then(|value| match &origin {
            Origin::Set if form.user_info && raw_has_user_info(&raw) => {
                Err("a command line can be read by others: put the password in the file or the environment".to_owned())
            }
            _ => Ok(value),
        });
        match value {
            Ok(value) => {
                let raw = if form.user_info {
                    raw.map(|text| hide_user_info(&text))
                } else {
                    raw
                };
                if key == "state_dir" {
                    self.state_dir = raw
                        .one()
                        .ok()
                        .map(super::forms::absolute)
                        .map(|dir| dir.display().to_string());
                }
                self.shown.push(Shown {
                    key,
                    value: raw.to_string(),
                    origin,
                });
                Some(value)
            }
            Err(text) => {
                self.mistake(origin, key, text);
                None
            }
        }
    }

    /// What to show, and the mistakes: by file and line, then the environment, then `--set`.
    pub(super) fn finish(mut self) -> (Vec<Shown>, Vec<Mistake>) {
        self.mistakes.sort_by_key(|mistake| match &mistake.origin {
            Origin::File { line, .. } => (0, *line),
            Origin::Env(_) => (1, 0),
            Origin::Set => (2, 0),
            Origin::Default => (3, 0),
        });
        (self.shown, self.mistakes)
    }
}

impl Preset {
    fn raw(&self, reading: &Reading<'_>) -> Result<Raw, String> {
        match self {
            Self::Unset => Ok(Raw::One(String::new())),
            Self::Text(text) => Ok(Raw::One((*text).to_owned())),
            Self::List(list) => Ok(Raw::Many(list.iter().map(|text| (*text).to_owned()).collect())),
            Self::Computed { of, .. } => of(reading),
        }
    }

    /// The value to write in the commented file.
    pub(super) fn sample(&self) -> Raw {
        match self {
            Self::Unset => Raw::One(String::new()),
            Self::Text(text) => Raw::One((*text).to_owned()),
            Self::List(list) => Raw::Many(list.iter().map(|text| (*text).to_owned()).collect()),
            Self::Computed { sample, .. } => Raw::One((*sample).to_owned()),
        }
    }
}

fn raw_has_user_info(raw: &Raw) -> bool {
    match raw {
        Raw::One(text) => hide_user_info(text) != *text,
        Raw::Many(list) => list.iter().any(|text| hide_user_info(text) != *text),
    }
}
