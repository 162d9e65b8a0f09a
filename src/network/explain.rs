//! Why there is no connection, in one line for people.
//!
//! Pure. Always: one line of at most 300 characters, whatever the far side or a library wrote into it.

use super::ConnectError;
use libp2p::allow_block_list;
use libp2p::core::upgrade::NegotiationError;
use libp2p::swarm::DialError;

/// A dial's error in one line, the transport's nested causes spelled out.
pub(super) fn explain(error: &DialError) -> ConnectError {
    match error {
        DialError::NoAddresses => ConnectError::NoAddress,
        DialError::Denied { cause } if cause.downcast_ref::<allow_block_list::Blocked>().is_some() => {
            ConnectError::Blocked
        }
        DialError::Transport(failures) => {
            let each = failures
                .iter()
                .map(|(address, why)| format!("{address}: {}", innermost(why)));
            ConnectError::Failed(each.collect::<Vec<_>>().join("; "))
        }
        other => ConnectError::Failed(innermost(other)),
    }
}

/// Another key shows only after its handshake: what is read then is noise, and whoever notices first hangs up.
const OTHER_PSK: &str = " (is the PSK the same on both sides?)";

pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut hint = "";
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(NegotiationError::ProtocolError(_)) = cause.downcast_ref() {
            hint = OTHER_PSK;
        }
        // One line, whatever the far side or a library wrote into it.
        let text = cause.to_string();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = text.trim_matches([':', ' ']).to_owned();
        if !text.is_empty() && !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    let told: String = parts.join(": ").chars().take(300).collect();
    told + hint
}
