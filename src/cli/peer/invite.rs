//! `peer invite`: one line by which another organisation can add us.

use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use clap::Args;
use libp2p::Multiaddr;
use serde_json::json;

use crate::cli::{Common, Failure, answer, tell};
use crate::control::{AskError, OwnAddresses, Request, ask};
use crate::discovery::{Own, write_invite};
use crate::identity::{Identity, own_did};
use crate::network::{Reach, reach_of};
use crate::settings::{Settings, dialable, load};

/// What a person may want of `peer invite`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Wanted {
    /// Where we are reached [default: `network.announce`, else what the running daemon tells others]. Repeatable
    #[arg(long, value_name = "MULTIADDR", value_parser = reachable)]
    address: Vec<Multiaddr>,
    /// For how many days it can be used
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=365))]
    days: u32,
}

pub(super) fn invite(common: &Common, wanted: &Wanted) -> Result<(), Failure> {
    let settings = load(&common.sources())?.settings;
    let identity = Identity::existing(&settings)?;
    let own = Own {
        name: settings.name.clone(),
        did: own_did(&settings, &identity)?,
        keypair: identity.keypair.clone(),
    };
    let addresses = addresses(&settings, wanted)?;
    if addresses.is_empty() {
        return Err(Failure::Failed(anyhow!(
            "nothing says where we are reached: give --address, set network.announce, or start the daemon"
        )));
    }
    let life = Duration::from_secs(u64::from(wanted.days) * 24 * 3600);
    let line = write_invite(&own, &addresses, life, SystemTime::now())
        .map_err(|error| Failure::Failed(anyhow!("the invite cannot be signed: {error}")))?;
    if common.json {
        let told =
            json!({"invite": line, "peer_id": identity.peer_id.to_string(), "did": own.did, "addresses": addresses});
        return answer(&format!("{told}\n"));
    }
    tell(&format!(
        "They add us by `oc-discovery peer add`, and should compare the PeerId with what you tell them by another way:\n{}",
        identity.peer_id
    ));
    let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    tell(&format!("It says that we are reached at {}", shown.join(", ")));
    match addresses.iter().map(reach_of).max() {
        Some(Reach::Host) => tell("Only daemons on this machine can do so: give --address, or set network.announce"),
        Some(Reach::Site) => {
            tell("Only daemons of the same site can do so: else give --address, or set network.announce")
        }
        _ => {}
    }
    answer(&format!("{line}\n"))
}

fn reachable(text: &str) -> Result<Multiaddr, String> {
    let address: Multiaddr = text.parse().map_err(|_| "no multiaddr".to_owned())?;
    dialable(&address)
        .then_some(address)
        .ok_or_else(|| "it cannot be dialled; write /ip4/ADDRESS/tcp/PORT or /dns4/HOST/tcp/PORT".to_owned())
}

fn addresses(settings: &Settings, wanted: &Wanted) -> Result<Vec<Multiaddr>, Failure> {
    if !wanted.address.is_empty() {
        return Ok(wanted.address.clone());
    }
    if !settings.network.announce.is_empty() {
        return Ok(settings.network.announce.clone());
    }
    match ask::<OwnAddresses>(&settings.state_dir, &Request::OwnAddresses {}) {
        Ok(told) => Ok(told.addresses.iter().filter_map(|text| text.parse().ok()).collect()),
        // It is not asked for anything but this.
        Err(AskError::NoDaemon { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
