//! How messages are taken from NATS, in the words of the door. Owns nothing.

use super::told::{IntakePlace, ToPublish};
use crate::bus::IntakeState;
use crate::node::Up;

pub(super) async fn place(up: Option<&Up>) -> IntakePlace {
    let mode = |mode: &str| IntakePlace {
        mode: mode.to_owned(),
        ..IntakePlace::default()
    };
    let Some(up) = up else {
        return mode("starting");
    };
    let state = up.intake.borrow().clone();
    match state {
        IntakeState::Choosing(why) => IntakePlace {
            why,
            ..mode("choosing")
        },
        IntakeState::Core => mode("core"),
        IntakeState::Stream { gaps, .. } => {
            let cursor = up.delivery.place().await.ok().flatten();
            IntakePlace {
                stream: cursor.as_ref().map(|cursor| cursor.source.clone()),
                cursor: cursor.map(|cursor| cursor.last_seq),
                gaps: Some(gaps),
                ..mode("stream")
            }
        }
    }
}

/// What partners have sent and is not published yet.
pub(super) async fn to_publish(up: Option<&Up>) -> ToPublish {
    let Some(up) = up else { return ToPublish::default() };
    match up.delivery.to_publish().await {
        Ok((waiting, stuck)) => {
            let (code, why) = stuck.map_or_else(Default::default, |stuck| (stuck.code.to_owned(), stuck.why));
            ToPublish { waiting, code, why }
        }
        // The check of the journal tells why.
        Err(_) => ToPublish::default(),
    }
}
