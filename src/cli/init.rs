//! `init`: the first run. Makes what is missing, keeps what is there, and says which.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::{Value, json};

use super::{Common, Failure, answer, id, tell};
use crate::identity::{Identity, IdentityError, StateDir, generate_psk, make_dir, parse_psk, write_new};
use crate::settings::{Loaded, Origin, Settings, Sources, commented_file, load};

/// Where the settings are written when nothing says otherwise: the first place in which they are looked for.
const FILE: &str = "oc-discovery.toml";

/// What a person may want of `init`.
#[derive(Debug, Args)]
pub(super) struct Wanted {
    /// One directory for everything: settings, keys and state
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// What partners see as the name of this daemon
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The pre-shared key of the network to join [default: a new one]
    #[arg(long, value_name = "FILE")]
    psk: Option<PathBuf>,
}

/// A file, and whether it was made now.
struct Made {
    what: &'static str,
    path: PathBuf,
    new: bool,
}

pub(super) fn init(common: &Common, wanted: &Wanted) -> Result<(), Failure> {
    let dir = wanted.dir.as_deref().map(std::path::absolute).transpose()?;
    let file = match (&common.config, &dir) {
        (Some(file), _) => file.clone(),
        (None, Some(dir)) => dir.join(FILE),
        (None, None) => std::path::absolute(FILE)?,
    };
    // Everything is checked before anything is written.
    let new_file = !file.exists();
    let values = values(common, wanted, dir.as_deref());
    let planned = planned(common, &file, new_file, &values)?;
    let kept = match new_file {
        true => None,
        // What it says without the command line; with it, it was read just now.
        false => load(&Sources::of_process(Some(file.clone()), Vec::new())).ok(),
    };
    let other = kept.as_ref().map(|kept| other_than(kept, &planned, &file));
    let mut settings = planned.settings;
    if let Some(name) = wanted.name.as_ref().filter(|name| **name != settings.name) {
        let told = "is there already and says another name";
        return Err(Failure::Failed(anyhow!(
            "{} {told} than {name:?}: edit it, it is not overwritten",
            file.display()
        )));
    }
    let psk = wanted.psk.as_deref().map(read_psk).transpose()?;

    if let Some(dir) = &dir {
        make_dir(dir)?;
    }
    let is_all_there = !new_file
        && psk.is_none()
        && settings.identity.key_file.exists()
        && (!settings.network.private || settings.identity.psk_file.exists());
    let _lock = match StateDir::lock(&settings.state_dir) {
        // A daemon runs on what was made before, and there is nothing to make.
        Err(IdentityError::InUse { .. }) if is_all_there => None,
        locked => Some(locked?),
    };
    let mut made = Vec::new();
    let new_psk = settings
        .network
        .private
        .then(|| place_psk(&settings.identity.psk_file, psk))
        .transpose()?;
    let new_key = !settings.identity.key_file.exists();
    let identity = Identity::load(&settings)?;
    if new_file {
        // Readable by others: nothing in it is secret until somebody writes a password into an address.
        write_new(&file, commented_file(&values).as_bytes(), 0o640)
            .with_context(|| format!("{} cannot be made", file.display()))?;
    }
    made.push(Made {
        what: "settings",
        path: file.clone(),
        new: new_file,
    });
    made.push(Made {
        what: "key",
        path: settings.identity.key_file.clone(),
        new: new_key,
    });
    made.extend(new_psk.map(|new| Made {
        what: "psk",
        path: settings.identity.psk_file.clone(),
        new,
    }));

    for said in other.iter().flatten() {
        tell(said);
    }
    if let Some(kept) = kept {
        // What a daemon that starts with this file will be, whatever the command line says now.
        (settings.name, settings.network) = (kept.settings.name, kept.settings.network);
    }
    let mut told = id::told(&settings, &identity)?;
    let text = if common.json {
        let files: Vec<_> = made
            .iter()
            .map(|made| json!({"what": made.what, "path": made.path, "written": made.new}))
            .collect();
        if let Some(told) = told.as_object_mut() {
            told.insert(
                "psk_fingerprint".to_owned(),
                json!(identity.psk.map(|psk| psk.fingerprint())),
            );
            told.insert("files".to_owned(), json!(files));
        }
        format!("{told}\n")
    } else {
        for_people(&made, &told, &settings, &identity, &file)
    };
    answer(&text)
}

/// What the new file shall set: what was given on the command line.
fn values<'a>(common: &'a Common, wanted: &Wanted, dir: Option<&Path>) -> Vec<(&'a str, String)> {
    let mut values: Vec<(&str, String)> = Vec::new();
    values.extend(dir.map(|dir| ("state_dir", dir.display().to_string())));
    values.extend(wanted.name.clone().map(|name| ("name", name)));
    // What is no pair is a mistake that `planned` tells.
    for (key, value) in common.set.iter().filter_map(|pair| pair.split_once('=')) {
        let (key, value) = (key.trim(), value.trim().to_owned());
        values.retain(|(known, _)| *known != key);
        values.push((key, value));
    }
    values
}

/// What the command line says otherwise than the file that is there: a sentence for each.
fn other_than(kept: &Loaded, given: &Loaded, file: &Path) -> Vec<String> {
    let differ = kept.shown.iter().zip(&given.shown);
    let differ = differ.filter(|(kept, given)| given.origin == Origin::Set && kept.value != given.value);
    let said = differ.map(|(kept, given)| {
        format!(
            "{} is there already and is not overwritten: {} stays {} ({}), and does not become {}; edit the file",
            file.display(),
            kept.key,
            kept.value,
            kept.origin,
            given.value
        )
    });
    said.collect()
}

/// The settings as they will be when the file is there.
fn planned(common: &Common, file: &Path, new: bool, values: &[(&str, String)]) -> Result<Loaded, Failure> {
    if !new {
        let sources = Sources::of_process(Some(file.to_owned()), common.set.clone());
        return Ok(load(&sources)?);
    }
    let mut set: Vec<String> = values.iter().map(|(key, value)| format!("{key}={value}")).collect();
    set.extend(common.set.iter().filter(|pair| !pair.contains('=')).cloned());
    // An empty file in place of the usual ones: those are of another daemon.
    Ok(load(&Sources::of_process(Some(PathBuf::from("/dev/null")), set))?)
}

fn read_psk(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    match parse_psk(&text) {
        Ok(psk) => Ok(psk.to_key_file()),
        Err(why) => Err(Failure::Failed(anyhow!(
            "{} holds no pre-shared key: {why}",
            path.display()
        ))),
    }
}

/// Puts the pre-shared key in its place, unless one is there; another one than the given is not overwritten.
fn place_psk(path: &Path, given: Option<String>) -> Result<bool, Failure> {
    let text = given.clone().unwrap_or_else(|| generate_psk().to_key_file());
    match write_new(path, text.as_bytes(), 0o600) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match given {
            Some(given) if read_psk(path)? != given => Err(Failure::Failed(anyhow!(
                "{} is there already and is another key than the given one: it is not overwritten",
                path.display()
            ))),
            _ => Ok(false),
        },
        Err(error) => Err(Failure::Failed(
            anyhow::Error::from(error).context(format!("{} cannot be made", path.display())),
        )),
    }
}

fn for_people(made: &[Made], told: &Value, settings: &Settings, identity: &Identity, file: &Path) -> String {
    let mut out = String::new();
    let said = |key: &str| told.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let addresses = if settings.network.announce.is_empty() {
        &settings.network.listen
    } else {
        &settings.network.announce
    };
    // Writing to a String cannot fail.
    for made in made {
        let _ = writeln!(
            out,
            "{} {}",
            if made.new { "wrote" } else { "kept " },
            made.path.display()
        );
    }
    let _ = writeln!(out, "\nThis daemon, and what to give a partner:");
    for key in ["name", "did", "peer_id", "public_key"] {
        let _ = writeln!(out, "  {key:<11} {}", said(key));
    }
    for address in addresses {
        // A host that listens everywhere cannot say where it is reached.
        let address = address
            .to_string()
            .replace("/0.0.0.0/", "/<this host>/")
            .replace("/::/", "/<this host>/");
        let _ = writeln!(out, "  {:<11} {address}/p2p/{}", "address", identity.peer_id);
    }
    if let Some(psk) = identity.psk {
        let _ = writeln!(
            out,
            "All daemons of one network have the same pre-shared key: give {} over a safe way.\n  {:<11} {}",
            settings.identity.psk_file.display(),
            "fingerprint",
            psk.fingerprint()
        );
    }
    let _ = writeln!(out, "\nStart it: oc-discovery --config {}", file.display());
    out
}
