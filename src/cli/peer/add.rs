//! `peer add` and `peer rm`: a peer comes and goes. What is about to happen is shown, and asked about.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::SystemTime;

use anyhow::anyhow;
use clap::{Args, ValueEnum};

use crate::cli::table::plain;
use crate::cli::{Common, Failure, answer_told, asked, tell};
use crate::control::{NewPeer, PeerChanged, Request};
use crate::discovery::{Verified, read_invite};
use crate::identity::{key_of, public_key_base64};

/// What somebody may become to us.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum To {
    /// Resources go both ways
    Partner,
    /// Known: searches and considers
    None,
    /// Refused both ways
    Blacklist,
}

/// What a person may want of `peer add`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Wanted {
    /// The line that they gave, or `-` to read it from stdin
    invite: String,
    /// What they become to us
    #[arg(long, value_enum, default_value = "partner")]
    relation: To,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// What a person may want of `peer rm`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Removed {
    /// A DID, PeerId or name
    who: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) fn add(common: &Common, wanted: &Wanted) -> Result<(), Failure> {
    let line = if wanted.invite == "-" {
        if !wanted.yes {
            let text = "an invite from stdin leaves nobody to ask: add --yes when you have compared the PeerId";
            return Err(Failure::Usage(text.to_owned()));
        }
        io::read_to_string(io::stdin())?
    } else {
        wanted.invite.clone()
    };
    let read = read_invite(&line, SystemTime::now()).map_err(|error| Failure::Failed(error.into()))?;
    let relation = match wanted.relation {
        To::Partner => "partner",
        To::None => "none",
        To::Blacklist => "blacklist",
    };
    tell(&shown(&read, relation));
    confirmed(wanted.yes)?;
    let record = &read.record;
    let peer = NewPeer {
        did: record.did.clone(),
        name: record.name.clone(),
        peer_id: record.peer_id.clone(),
        public_key: key_of(&read.peer)
            .map(|key| public_key_base64(&key))
            .unwrap_or_default(),
        // What was shown, and nothing that could not be read.
        stream_address: stream_address(&read),
        api_url: record.api_url.clone(),
        relation: relation.to_owned(),
    };
    let told: PeerChanged = asked(common, &Request::PeerAdd { peer })?;
    answer_told(common, &told, |told| {
        done(told, "is in our store now; `peer ls` shows it")
    })?;
    match told.message.is_empty() {
        true => Ok(()),
        false => Err(left_to_the_apps("added")),
    }
}

pub(super) fn remove(common: &Common, wanted: &Removed) -> Result<(), Failure> {
    let ask = |who: &str, look| {
        let who = who.to_owned();
        asked(common, &Request::PeerRemove { who, look })
    };
    let meant: PeerChanged = ask(&wanted.who, true)?;
    // Where the apps own the store nothing is done here: there is nothing to ask about, and it is no success.
    if !meant.message.is_empty() {
        answer_told(common, &meant, |told| done(told, ""))?;
        return Err(left_to_the_apps("removed"));
    }
    tell(&goes(&meant));
    confirmed(wanted.yes)?;
    let told: PeerChanged = ask(&meant.did, false)?;
    answer_told(common, &told, |told| done(told, "is removed"))
}

fn left_to_the_apps(what: &str) -> Failure {
    Failure::Failed(anyhow!(
        "nothing was {what}: the apps own the store, and one of them has to publish this message"
    ))
}

fn goes(meant: &PeerChanged) -> String {
    // One whose document is not used has no name here.
    let who = match meant.name.as_str() {
        "" => plain(&meant.did),
        name => format!("{} ({})", plain(name), plain(&meant.did)),
    };
    format!("{who}: its document goes, its streams end, and what it is to us is forgotten, its key too.")
}

fn stream_address(read: &Verified) -> String {
    let each = read
        .addresses
        .iter()
        .map(|address| format!("{address}/p2p/{}", read.peer));
    each.collect::<Vec<_>>().join(",")
}

fn shown(read: &Verified, relation: &str) -> String {
    let addresses: Vec<String> = read.addresses.iter().map(ToString::to_string).collect();
    let proven = if read.proven {
        "follows from the key"
    } else {
        "does not follow from the key: it is theirs if you know so"
    };
    format!(
        "  name       {}\n  did        {} ({proven})\n  peer_id    {}\n  addresses  {}\n  relation   {relation}",
        plain(&read.record.name),
        plain(&read.record.did),
        read.peer,
        plain(&addresses.join(", "))
    )
}

fn confirmed(yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage("there is nobody to ask: add --yes".to_owned()));
    }
    let mut err = io::stderr().lock();
    write!(err, "Go on? [y/N] ")?;
    err.flush()?;
    let mut said = String::new();
    io::stdin().lock().read_line(&mut said)?;
    match said.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Failed(anyhow!("nothing was changed"))),
    }
}

fn done(told: &PeerChanged, what: &str) -> String {
    if told.written {
        return format!("{} {what}\n", plain(&told.did));
    }
    format!(
        "The apps own the store, so that one of them has to write the document. Have it publish on {}:\n{}\n",
        told.subject, told.message
    )
}
