//! `id`: who this daemon is.

use serde_json::{Value, json};

use super::{Common, Failure, answer};
use crate::identity::{Identity, IdentityError, own_did, public_key_base64};
use crate::settings::{Settings, load};

/// JSON for people and programs alike; on one line with `--json`.
pub(super) fn id(common: &Common) -> Result<(), Failure> {
    let settings = load(&common.sources())?.settings;
    let value = told(&settings, &Identity::existing(&settings)?)?;
    let text = if common.json {
        value.to_string()
    } else {
        format!("{value:#}")
    };
    answer(&format!("{text}\n"))
}

/// What may be told about this daemon: nothing secret.
pub(super) fn told(settings: &Settings, identity: &Identity) -> Result<Value, IdentityError> {
    Ok(json!({
        "name": settings.name,
        "did": own_did(settings, identity)?,
        "peer_id": identity.peer_id.to_string(),
        "public_key": public_key_base64(&identity.keypair.public()),
        "listen": settings.network.listen,
        "announce": settings.network.announce,
    }))
}
