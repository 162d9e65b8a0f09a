//! Codes of delivery in words for people. Pure.
//!
//! Always: a code that is not known (a partner may have newer ones) is told as it is.

/// What a courier is doing.
pub(super) fn state(state: &str, lag_rows: u64) -> String {
    match (state, lag_rows) {
        ("off", _) => "is not delivered to",
        ("wait", _) => "waits until it is tried again",
        ("greet", _) => "is asked where it stands",
        ("digest", _) => "everything is being compared",
        ("tail", 0) => "has everything",
        ("tail", _) => "is being delivered to",
        ("legacy", 0) => "was sent everything, not confirmed",
        ("legacy", _) => "is being sent to, not confirmed",
        (other, _) => other,
    }
    .to_owned()
}

/// Why a partner takes nothing now.
pub(super) fn hold(code: &str) -> String {
    match code {
        "" => "",
        "not_partner" => "it does not count us as its partner (yet), or not any more; its people have to say so",
        "busy" => "it is starting, stopping, or its journal does not answer",
        "disk" => "its disk is nearly full",
        "nats" => "its NATS does not take what we send",
        "store" => "its document store does not answer",
        "admitted" => "it has just made us its partner",
        "many_deletes" => {
            "a comparison would delete more than 100 documents and a tenth of what it holds of us; \
             `oc-discovery peer resync PARTNER --allow-deletes` lets them through"
        }
        _ => "it gave a reason that this version does not know",
    }
    .to_owned()
}

/// Why a change is parked.
pub(super) fn parked(code: &str, at_intake: bool) -> String {
    match (code, at_intake) {
        ("not_creator", false) => "the partner says that its creator_id is not our DID",
        ("not_creator", true) => "its creator_id is not our DID",
        ("not_owner", _) => "the partner has the id from somebody else, or as its own",
        ("datatype" | "datatype_peer" | "unknown_datatype", _) => "resources of this kind do not cross",
        ("too_large", false) => "it is larger than the partner takes",
        ("too_large", true) => "it is larger than limits.document_bytes",
        ("not_storable", false) => "the partner's document store does not take it",
        ("shape", _) => "the partner cannot read it",
        ("not_partner", _) => "the partner takes it from its own partners only",
        ("poison", _) => "the partner ended ten sessions over it",
        ("expired", _) => "too much waited for this peer (delivery.directed_rows, delivery.directed_bytes)",
        (_, true) => "our intake refused it",
        _ => "the partner refused it for a reason that this version does not know",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_said_to_be_unknown() {
        assert_eq!(state("tail", 0), "has everything");
        assert_eq!(state("newer", 3), "newer");
        assert_eq!(hold(""), "");
        assert!(hold("quota").contains("does not know"));
        assert!(parked("quota", false).contains("does not know"));
        assert_eq!(parked("quota", true), "our intake refused it");
    }
}
