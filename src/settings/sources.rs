//! The sources: a TOML file, the environment, `--set`. Each gives texts to the reading, and tells what it does not know.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Sources;
use super::list::rows;
use super::mistakes::{Origin, unknown};
use super::reading::{Raw, Reading};

/// The start of every variable of the environment that is ours.
const ENV_PREFIX: &str = "OCDISCOVERY_";
/// Where a file is looked for when none is named.
const PLACES: [&str; 2] = ["oc-discovery.toml", "/etc/oc-discovery/oc-discovery.toml"];
/// A file beyond this is not one of settings.
const FILE_BYTES: u64 = 1024 * 1024;

/// The names that other services of the platform already use, and what they set here.
pub(super) const OTHER_NAMES: [(&str, &str); 6] = [
    ("OCDISCOVERY_NATSURL", "nats.url"),
    ("OCDISCOVERY_MONGOURL", "store.url"),
    ("OCDISCOVERY_MONGODATABASE", "store.url"),
    ("OCDISCOVERY_LOGLEVEL", "log.level"),
    ("OCDISCOVERY_PORT", "admin.listen"),
    ("OCDISCOVERY_INDEXERADDRESSES", "discovery.indexers"),
];

/// Gives everything to the reading, the weaker first. Returns the file that was read.
pub(super) fn gather(sources: &Sources, reading: &mut Reading<'_>) -> Option<PathBuf> {
    let keys: Vec<&'static str> = rows().iter().map(|row| row.key).collect();
    let found = || PLACES.iter().map(PathBuf::from).find(|place| place.exists());
    let path = sources.config.clone().or_else(found);
    if let Some(path) = &path {
        match read_bounded(path) {
            Ok(text) => from_file(path, &text, &keys, reading),
            Err(error) => {
                reading.mistake(
                    Origin::File {
                        path: path.clone(),
                        line: 0,
                    },
                    "",
                    format!("cannot be read: {error}"),
                );
            }
        }
    }
    from_env(&sources.env, &keys, reading);
    for pair in &sources.set {
        from_set(pair, &keys, reading);
    }
    path
}

/// `a.b` in the environment.
pub(super) fn env_name(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let read = std::fs::File::open(path)?
        .take(FILE_BYTES + 1)
        .read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read > FILE_BYTES) {
        return Err(std::io::Error::other("it is bigger than 1 MiB"));
    }
    Ok(text)
}

struct File<'f> {
    path: &'f Path,
    text: &'f str,
    keys: &'f [&'static str],
}

impl File<'_> {
    fn at(&self, offset: usize) -> Origin {
        let before = self.text.get(..offset).unwrap_or(self.text);
        Origin::File {
            path: self.path.to_owned(),
            line: 1 + before.matches('\n').count(),
        }
    }

    fn table(&self, prefix: &str, table: &DeTable<'_>, reading: &mut Reading<'_>) {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            self.entry(&key, self.at(name.span().start), value, reading);
        }
    }

    fn entry(&self, key: &str, origin: Origin, value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) {
        let known = self.keys.contains(&key);
        let section = self
            .keys
            .iter()
            .any(|known| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')));
        match value.get_ref() {
            DeValue::Table(_) if known => reading.mistake(origin, key, "takes a value, it is no section"),
            DeValue::Table(table) if table.is_empty() && !section => {
                reading.mistake(origin, key, unknown("section", key, self.sections()));
            }
            DeValue::Table(table) => self.table(key, table, reading),
            _ if section => reading.mistake(origin, key, format!("is a section: write `[{key}]`")),
            _ if !known => reading.mistake(origin, key, unknown("setting", key, self.keys.iter().copied())),
            value => match raw(value) {
                Some(raw) => reading.give(key, raw, origin),
                None => reading.mistake(origin, key, format!("takes no {}", value.type_str())),
            },
        }
    }

    fn sections(&self) -> impl Iterator<Item = &'static str> {
        self.keys
            .iter()
            .filter_map(|key| key.rsplit_once('.').map(|(section, _)| section))
    }
}

fn from_file(path: &Path, text: &str, keys: &[&'static str], reading: &mut Reading<'_>) {
    let file = File { path, text, keys };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let origin = error.span().map_or(
            Origin::File {
                path: path.to_owned(),
                line: 0,
            },
            |span| file.at(span.start),
        );
        reading.mistake(origin, "", error.message());
    }
    // What could be read of a torn file is still looked at: all mistakes at once.
    file.table("", table.get_ref(), reading);
}

fn raw(value: &DeValue<'_>) -> Option<Raw> {
    let one = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .map(|number| number.to_string()),
        DeValue::Boolean(yes) => Some(yes.to_string()),
        _ => None,
    };
    match value {
        DeValue::Array(list) => list
            .iter()
            .map(|item| one(item.get_ref()))
            .collect::<Option<_>>()
            .map(Raw::Many),
        value => one(value).map(Raw::One),
    }
}

fn from_env(env: &[(String, String)], keys: &[&'static str], reading: &mut Reading<'_>) {
    let names: Vec<(String, &'static str)> = keys.iter().map(|key| (env_name(key), *key)).collect();
    let native = |key: &str| env.iter().any(|(name, _)| *name == env_name(key));
    let ours = || env.iter().filter(|(name, _)| name.starts_with(ENV_PREFIX));
    for (name, value) in ours() {
        let origin = Origin::Env(name.clone());
        if let Some((_, key)) = names.iter().find(|(known, _)| known == name) {
            reading.give(key, Raw::One(value.clone()), origin);
        } else if !OTHER_NAMES.iter().any(|(known, _)| known == name) {
            let known = names
                .iter()
                .map(|(name, _)| name.as_str())
                .chain(OTHER_NAMES.iter().map(|(name, _)| *name));
            let text = unknown("variable", name, known);
            reading.mistake(origin, "", text);
        }
    }
    // The platform's files set unused names empty. Our own name for the same setting is the more exact one; the port is
    // but a part of its setting.
    for (name, value) in ours().filter(|(_, value)| !value.is_empty()) {
        if let Some((_, key)) = OTHER_NAMES.iter().find(|(known, _)| known == name)
            && (name == "OCDISCOVERY_PORT" || !native(key))
        {
            other_name(name, value, key, Origin::Env(name.clone()), reading);
        }
    }
}

/// A variable that is named, and sometimes shaped, as other services have it.
fn other_name(name: &str, value: &str, key: &'static str, origin: Origin, reading: &mut Reading<'_>) {
    match name {
        "OCDISCOVERY_PORT" => {
            let Ok(port) = value.parse::<u16>() else {
                // Kubernetes sets such names for a service called "ocdiscovery".
                return reading.mistake(
                    origin,
                    key,
                    "is no port number (in Kubernetes: `enableServiceLinks: false`)",
                );
            };
            let set = reading
                .given(key)
                .and_then(|raw| raw.one().ok())
                .and_then(|text| text.parse::<SocketAddr>().ok());
            let mut address = set.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port)));
            address.set_port(port);
            reading.give(key, Raw::One(address.to_string()), origin);
        }
        "OCDISCOVERY_MONGODATABASE" => {
            if reading.variable("OCDISCOVERY_MONGOURL").is_none() {
                reading.mistake(origin, key, "needs OCDISCOVERY_MONGOURL as well");
            }
        }
        "OCDISCOVERY_MONGOURL" => match mongo_url(value, reading.variable("OCDISCOVERY_MONGODATABASE")) {
            Ok(url) => reading.give(key, Raw::One(url), origin),
            Err(text) => reading.mistake(origin, key, text),
        },
        "OCDISCOVERY_LOGLEVEL" => reading.give(key, Raw::One(value.to_ascii_lowercase()), origin),
        _ => reading.give(key, Raw::One(value.to_owned()), origin),
    }
}

/// The address with the database in its place.
fn mongo_url(url: &str, database: Option<&str>) -> Result<String, String> {
    let Some(database) = database else {
        return Ok(url.to_owned());
    };
    let (front, options) = url.split_at(url.find('?').unwrap_or(url.len()));
    let authority = front.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = front.split_at(authority);
    let (host, named) = rest.split_once('/').unwrap_or((rest, ""));
    if !named.is_empty() && named != database {
        return Err("names another database than OCDISCOVERY_MONGODATABASE".to_owned());
    }
    Ok(format!("{scheme}{host}/{database}{options}"))
}

fn from_set(pair: &str, keys: &[&'static str], reading: &mut Reading<'_>) {
    let Some((key, value)) = pair.split_once('=') else {
        return reading.mistake(Origin::Set, "", "needs `key=value`");
    };
    let key = key.trim();
    if keys.contains(&key) {
        reading.give(key, Raw::One(value.trim().to_owned()), Origin::Set);
    } else {
        reading.mistake(Origin::Set, key, unknown("setting", key, keys.iter().copied()));
    }
}
