//! How messages are taken from NATS, in the words of the door. Owns nothing.

use super::told::IntakePlace;
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
