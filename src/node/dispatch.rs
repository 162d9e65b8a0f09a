//! What a message from NATS asks of this daemon: the `alt` boxes of the diagrams, under their names.
//!
//! Pure: bytes and a view of ourselves in, a [`Decision`] out. Owns the loop guards, the rule "only our own resources go
//! out" and the datatype rules. Never does anything about them. Always: every message ends in exactly one decision, and
//! a refusal names its rule.

pub use super::decision::{Change, Decision, Directed};
use crate::bus::Subject;
use crate::model::{ModelError, Peer, Relation, read_document_id, read_header};
use crate::wire::{
    Action, DataType, Envelope, OWN_NAME, PropalgationMessage, ReadLimits, SearchRequest, WireError, read_id,
    read_peer_id, read_peer_ids,
};
use bytes::Bytes;

/// What dispatch knows of this daemon.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// Our DID.
    pub own_did: &'a str,
    /// Bounds of reading.
    pub limits: ReadLimits,
    /// Largest document that goes out or into the store.
    pub document_bytes: usize,
}

fn refuse(rule: &'static str, detail: impl Into<String>) -> Decision {
    Decision::Refuse {
        rule,
        detail: detail.into(),
    }
}

impl From<WireError> for Decision {
    fn from(error: WireError) -> Self {
        refuse(error.rule(), error.to_string())
    }
}

/// Decides about one message. `origin` is its `Oc-Origin` header.
#[must_use]
pub fn dispatch(subject: Subject, message: &[u8], origin: Option<&str>, view: &View<'_>) -> Decision {
    if origin.is_some() {
        return Decision::Ignore("published by a daemon (Oc-Origin)");
    }
    let envelope = match Envelope::read(message, &view.limits) {
        Ok(envelope) => envelope,
        Err(error) => return error.into(),
    };
    if envelope.from_app == OWN_NAME {
        return Decision::Ignore("published by oc-discovery (from_app)");
    }
    match subject {
        Subject::PropalgationEvent => propalgation(envelope, view),
        Subject::CreateResource => create_resource(envelope, view),
        Subject::RemoveResource => remove_resource(&envelope),
    }
}

/// PROPALGATION_EVENT.
fn propalgation(envelope: Envelope, view: &View<'_>) -> Decision {
    let message = match PropalgationMessage::read(&envelope.payload, &view.limits) {
        Ok(message) => message,
        Err(error) => return error.into(),
    };
    let datatype = message.effective_datatype(envelope.datatype);
    let (user, payload) = (envelope.user, message.payload);
    match message.action {
        Action::Create | Action::Update => own_resource(message.action, datatype, user, payload, view),
        Action::Delete => own_delete(datatype, user, payload, view),
        Action::Considers => match read_peer_ids(&payload) {
            Ok(to) => directed(Action::Considers, datatype, user, to, payload, view),
            Err(error) => error.into(),
        },
        Action::Planner => match read_peer_id(&payload) {
            Ok(peer) => directed(Action::Planner, datatype, user, vec![peer], payload, view),
            Err(error) => error.into(),
        },
        Action::ClosePlanner => match read_peer_id(&payload) {
            Ok(peer) => Decision::ClosePlanner { peer },
            Err(error) => error.into(),
        },
        Action::Search => match SearchRequest::read(&payload) {
            Ok(request) if datatype == DataType::Peer => Decision::SearchPeer { request, user },
            Ok(request) => Decision::Search {
                request,
                datatype,
                user,
            },
            Err(error) => match SearchRequest::id_of(&payload) {
                None => error.into(),
                Some(id) => Decision::RefuseSearch {
                    id,
                    rule: error.rule(),
                    detail: error.to_string(),
                },
            },
        },
        Action::CloseSearch => match read_id(&payload) {
            Ok(id) => Decision::CloseSearch { id },
            Err(error) => error.into(),
        },
        Action::SearchResponse => refuse(
            "unknown_action",
            "search_response is an answer, nothing to ask of a daemon",
        ),
    }
}

/// Which kinds of documents go from one organisation to another.
fn may_travel(datatype: DataType) -> Result<(), Decision> {
    match datatype {
        DataType::Invalid => Err(refuse("unknown_datatype", "the message names no datatype")),
        // It would rewrite the far trust table.
        DataType::Peer => Err(refuse(
            "datatype_peer",
            "peer documents never leave and never enter by a resource stream",
        )),
        _ => Ok(()),
    }
}

fn fits(payload: &[u8], view: &View<'_>) -> Result<(), Decision> {
    let (bytes, most) = (payload.len(), view.document_bytes);
    if bytes > most {
        return Err(refuse(
            "too_large",
            format!("a document of {bytes} bytes, limits.document_bytes is {most}"),
        ));
    }
    Ok(())
}

/// PB_CREATE, PB_UPDATE: `only our proper resource can be propalgate: creator_id == self`.
fn own_resource(action: Action, datatype: DataType, user: String, payload: Bytes, view: &View<'_>) -> Decision {
    if let Err(refusal) = may_travel(datatype).and_then(|()| fits(&payload, view)) {
        return refusal;
    }
    match read_header(&payload) {
        Ok(header) if header.creator_id == view.own_did => Decision::ToPartners(Change {
            action,
            datatype,
            id: header.id,
            user,
            payload,
        }),
        Ok(header) => not_ours(&header.id),
        Err(error) => refuse(error.rule(), error.to_string()),
    }
}

/// The refusal of a resource that is another organisation's.
#[must_use]
pub fn not_ours(id: &str) -> Decision {
    refuse(
        "not_creator",
        format!("resource {id:?}: its creator_id is not this organisation's DID"),
    )
}

/// PB_DELETE: the document, or `{id}`.
fn own_delete(datatype: DataType, user: String, payload: Bytes, view: &View<'_>) -> Decision {
    if let Err(refusal) = may_travel(datatype).and_then(|()| fits(&payload, view)) {
        return refusal;
    }
    let action = Action::Delete;
    match read_header(&payload) {
        Ok(header) if header.creator_id == view.own_did => Decision::ToPartners(Change {
            action,
            datatype,
            id: header.id,
            user,
            payload,
        }),
        Ok(header) => not_ours(&header.id),
        Err(error) if error.rule() != "missing" => refuse(error.rule(), error.to_string()),
        Err(_) => match read_id(&payload) {
            Ok(id) => Decision::DeleteById {
                change: Change {
                    action,
                    datatype,
                    id,
                    user,
                    payload,
                },
            },
            Err(error) => error.into(),
        },
    }
}

fn directed(
    action: Action,
    datatype: DataType,
    user: String,
    to: Vec<String>,
    payload: Bytes,
    view: &View<'_>,
) -> Decision {
    if datatype == DataType::Peer {
        return refuse(
            "datatype_peer",
            "peer documents never leave and never enter by a resource stream",
        );
    }
    match fits(&payload, view) {
        Ok(()) => Decision::ToListed(Directed {
            action,
            datatype,
            user,
            to,
            payload,
        }),
        Err(refusal) => refusal,
    }
}

/// CREATE_RESOURCE.
fn create_resource(envelope: Envelope, view: &View<'_>) -> Decision {
    let (datatype, document) = (envelope.datatype, envelope.payload);
    if let Err(refusal) = fits(&document, view) {
        return refusal;
    }
    match datatype {
        DataType::Invalid => refuse("unknown_datatype", "the message names no datatype"),
        DataType::Peer => match Peer::read_new(&document) {
            Ok(peer) if peer.did == view.own_did && peer.relation != Relation::SelfPeer => {
                refuse("self_relation", "our own peer document must keep relation SELF")
            }
            Ok(peer) if peer.did != view.own_did && peer.relation == Relation::SelfPeer => refuse(
                "self_relation",
                format!(
                    "{:?} is not this organisation's DID, its relation cannot be SELF",
                    peer.did
                ),
            ),
            Ok(peer) => Decision::PeerChanged(Box::new(peer)),
            Err(error) => refuse(error.rule(), format!("a peer document: {error}")),
        },
        _ => match document_id(&document) {
            Ok(id) => Decision::Put { datatype, id, document },
            Err(refusal) => refusal,
        },
    }
}

/// The id of a document, or of `{id}`: as documents are read everywhere, else by the aliases of messages.
fn document_id(document: &[u8]) -> Result<String, Decision> {
    match read_document_id(document) {
        Ok(Some(id)) => Ok(id),
        // An id in another spelling is one, when it is the only one; what is no document is refused in the words of messages.
        Ok(None) | Err(ModelError::CaseVariant(_) | ModelError::NotObject | ModelError::NotJson(_)) => {
            read_id(document).map_err(Into::into)
        }
        Err(error) => Err(refuse(error.rule(), error.to_string())),
    }
}

/// REMOVE_RESOURCE: the document, or `{id}`.
fn remove_resource(envelope: &Envelope) -> Decision {
    match (envelope.datatype, document_id(&envelope.payload)) {
        (_, Err(refusal)) => refusal,
        (DataType::Invalid, _) => refuse("unknown_datatype", "the message names no datatype"),
        (DataType::Peer, Ok(did)) => Decision::PeerRemoved { did },
        (datatype, Ok(id)) => Decision::Remove { datatype, id },
    }
}

#[cfg(test)]
#[path = "dispatch_tests.rs"]
mod tests;
