//! Writes. A server that stands alone has no transactions, so a batch is not one: it is done in the order of each id, each
//! write by itself whole, and said to be done when all are.
//!
//! Always: every document is read before anything is written, so that what cannot be kept leaves all as it was; a write meets
//! exactly the document that its decision was made on, or is decided again; all of it can be repeated, and a batch that failed
//! midway is repeated whole by whoever asked; what the server refuses for good is answered so, and holds up no other write.

use std::collections::{HashMap, HashSet, VecDeque};

use futures::stream::{self, StreamExt, TryStreamExt};
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Error;
use mongodb::{Collection, Database};
use serde_json::{Map, Value};

use super::fault::{is_duplicate, is_of_document, reason};
use super::fits::read;
use super::from_json::put;
use super::link::Link;
use super::paths::{HEADER, text_at};
use super::read::{Keys, Part, by_ids, owner};
use crate::store::{Applied, Change, StoreError, Write};
use crate::wire::DataType;

/// Ids written at once: what a server of modest size takes without its apps noticing.
const AT_ONCE: usize = 16;
/// How often a write is decided anew because the document changed meanwhile; an app that writes faster is the owner of it.
const DECISIONS: usize = 8;

/// A write whose document was read.
struct Step {
    place: usize,
    fields: Option<Map<String, Value>>,
    only_if_owner: Option<String>,
}

/// The writes of one id, in their order.
struct Chain {
    datatype: DataType,
    id: String,
    steps: VecDeque<Step>,
    answers: Vec<(usize, Applied)>,
    stored: Option<Document>,
}

/// What is to be done about a write.
#[derive(Debug, PartialEq)]
enum Plan {
    Answer(Applied),
    Insert(Document),
    Replace { only: Document, with: Document },
    Delete { only: Document },
}

/// What became of a plan.
enum Outcome {
    Applied(Applied),
    /// The stored document is another one by now.
    Changed,
    /// A key that must be unique is taken: the document's own, by now, or another one.
    Taken(String),
}

/// Applies the writes, and says what became of each.
pub(super) async fn all(
    link: &Link,
    database: &Database,
    keys: &Keys,
    writes: Vec<Write>,
) -> Result<Vec<Applied>, StoreError> {
    let count = writes.len();
    let mut chains = chains(writes)?;
    let failed = |error: Error| link.told(&error);
    let mut by_kind: HashMap<DataType, HashSet<&str>> = HashMap::new();
    for chain in &chains {
        by_kind.entry(chain.datatype).or_default().insert(&chain.id);
    }
    let mut stored = HashMap::new();
    for (datatype, ids) in &by_kind {
        let found = by_ids(database, keys, *datatype, ids, Part::Whole)
            .await
            .map_err(failed)?;
        stored.extend(found.into_iter().map(|(id, document)| ((*datatype, id), document)));
    }
    for chain in &mut chains {
        chain.stored = stored.remove(&(chain.datatype, chain.id.clone()));
    }
    let writing = stream::iter(chains.into_iter().map(|chain| chain.run(database, keys, false)));
    let mut chains: Vec<Chain> = writing.buffer_unordered(AT_ONCE).try_collect().await.map_err(failed)?;
    // What another write of this batch may yet set free is tried again behind all of them, in the order of the batch.
    chains.sort_by_key(|chain| chain.steps.front().map(|step| step.place));
    let mut answers = vec![Applied::Unchanged; count];
    for chain in chains {
        let done = chain.run(database, keys, true).await.map_err(failed)?;
        for (place, applied) in done.answers {
            if let Some(answer) = answers.get_mut(place) {
                *answer = applied;
            }
        }
    }
    Ok(answers)
}

fn chains(writes: Vec<Write>) -> Result<Vec<Chain>, StoreError> {
    let mut chains: Vec<Chain> = Vec::new();
    let mut known: HashMap<(DataType, String), usize> = HashMap::new();
    for (place, write) in writes.into_iter().enumerate() {
        let Write {
            datatype,
            id,
            change,
            only_if_owner,
        } = write;
        let fields = match change {
            Change::Remove => None,
            Change::Put(document) => Some(read(&document).map_err(|why| StoreError::Document {
                datatype: datatype.name(),
                id: id.clone(),
                why,
            })?),
        };
        let step = Step {
            place,
            fields,
            only_if_owner,
        };
        let at = *known.entry((datatype, id.clone())).or_insert(chains.len());
        match chains.get_mut(at) {
            Some(chain) => chain.steps.push_back(step),
            None => chains.push(Chain {
                datatype,
                id,
                steps: VecDeque::from([step]),
                answers: Vec::new(),
                stored: None,
            }),
        }
    }
    Ok(chains)
}

impl Chain {
    /// Until its end; or, when others are at work beside it, until a key that must be unique is taken.
    async fn run(mut self, database: &Database, keys: &Keys, alone: bool) -> Result<Self, Error> {
        let collection: Collection<Document> = database.collection(self.datatype.name());
        while let Some(step) = self.steps.pop_front() {
            let mut decided = 0;
            let applied = loop {
                let plan = plan(&self.id, &step, self.stored.as_ref());
                let inserts = matches!(plan, Plan::Insert(_));
                let taken = match self.carry_out(&collection, plan).await? {
                    Outcome::Applied(applied) => break applied,
                    Outcome::Changed => None,
                    Outcome::Taken(why) => Some(why),
                };
                decided += 1;
                if decided == DECISIONS {
                    return Err(Error::custom(
                        "somebody else keeps changing a document that is being written".to_owned(),
                    ));
                }
                let ids = HashSet::from([self.id.as_str()]);
                let mut found = by_ids(database, keys, self.datatype, &ids, Part::Whole).await?;
                self.stored = found.remove(&self.id);
                // Not its own key, by somebody who was faster: another one, which an index of the apps wants to be unique.
                if let Some(why) = taken.filter(|_| !inserts || self.stored.is_none()) {
                    if alone {
                        break Applied::Refused(why);
                    }
                    self.steps.push_front(step);
                    return Ok(self);
                }
            };
            self.answers.push((step.place, applied));
        }
        Ok(self)
    }

    async fn carry_out(&mut self, collection: &Collection<Document>, plan: Plan) -> Result<Outcome, Error> {
        match plan {
            Plan::Answer(applied) => Ok(Outcome::Applied(applied)),
            Plan::Insert(document) => match collection.insert_one(&document).await {
                Ok(_) => {
                    self.stored = Some(document);
                    Ok(Outcome::Applied(Applied::Done))
                }
                Err(error) if is_duplicate(&error) => Ok(Outcome::Taken(reason(&error))),
                Err(error) => refused(error),
            },
            Plan::Replace { only, with } => match collection.replace_one(only, &with).await {
                Ok(done) if done.matched_count > 0 => {
                    self.stored = Some(with);
                    Ok(Outcome::Applied(Applied::Done))
                }
                Ok(_) => Ok(Outcome::Changed),
                Err(error) if is_duplicate(&error) => Ok(Outcome::Taken(reason(&error))),
                Err(error) => refused(error),
            },
            Plan::Delete { only } => {
                if collection.delete_one(only).await?.deleted_count == 0 {
                    return Ok(Outcome::Changed);
                }
                self.stored = None;
                Ok(Outcome::Applied(Applied::Done))
            }
        }
    }
}

/// What cannot ever be stored is answered, so that nothing waits for it; of anything else the caller is told.
fn refused(error: Error) -> Result<Outcome, Error> {
    if is_of_document(&error) {
        return Ok(Outcome::Applied(Applied::Refused(reason(&error))));
    }
    Err(error)
}

fn plan(id: &str, step: &Step, stored: Option<&Document>) -> Plan {
    if let (Some(stored), Some(wanted)) = (stored, &step.only_if_owner)
        && owner(stored) != Some(wanted.as_str())
    {
        return Plan::Answer(Applied::NotOwner);
    }
    let key = stored.and_then(|stored| stored.get("_id").cloned());
    match (&step.fields, stored) {
        (None, None) => Plan::Answer(Applied::Unchanged),
        (None, Some(stored)) => Plan::Delete {
            only: exactly(stored, step),
        },
        (Some(fields), stored) => {
            let document = put(key.unwrap_or_else(|| id.into()), fields.clone(), stored);
            match stored {
                None => Plan::Insert(document),
                Some(stored) if is_same(stored, &document) => Plan::Answer(Applied::Unchanged),
                Some(stored) => Plan::Replace {
                    only: exactly(stored, step),
                    with: document,
                },
            }
        }
    }
}

/// Whether two documents have the same fields, in whatever order.
fn is_same(one: &Document, other: &Document) -> bool {
    one.len() == other.len() && one.iter().all(|(key, value)| other.get(key) == Some(value))
}

/// The stored document, as long as it is still whose it was decided to be.
fn exactly(stored: &Document, step: &Step) -> Document {
    let mut only = doc! { "_id": stored.get("_id").cloned().unwrap_or(Bson::Null) };
    if step.only_if_owner.is_some()
        && let Some((path, creator)) = text_at(stored, &HEADER, "creator_id")
    {
        only.insert(path, creator);
    }
    only
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::to_json::to_json;
    use super::*;

    fn step(document: Option<Value>, owner: Option<&str>) -> Step {
        Step {
            place: 0,
            fields: document.map(|document| read(document.to_string().as_bytes()).unwrap()),
            only_if_owner: owner.map(str::to_owned),
        }
    }

    #[test]
    fn many_fields_cost_as_many_steps() {
        let many: Map<String, Value> = (0..65_000).map(|n| (format!("k{n}"), json!(n))).collect();
        let stored: Document = many.keys().map(|key| (key.clone(), Bson::Int32(-1))).collect();
        let flat = doc! { "_id": "r", "creator_id": "a" };
        let flat: Document = flat.into_iter().chain(stored.clone()).collect();
        let nested = doc! { "_id": "r", "creator_id": "a", "abstractobject": stored, "k0": -1 };
        let mut new = Value::Object(many);
        new["creator_id"] = json!("a");
        let step = step(Some(new), Some("a"));
        // In steps by the square of them this would take minutes.
        for stored in [flat, nested] {
            assert!(matches!(plan("r", &step, Some(&stored)), Plan::Replace { .. }));
            to_json(&stored);
        }
    }

    #[test]
    fn a_write_is_decided_on_what_is_stored() {
        let theirs = doc! { "_id": "r", "abstractobject": { "id": "r", "creator_id": "a" } };
        let new = || Some(json!({ "id": "r", "creator_id": "a", "n": 1 }));
        let only = doc! { "_id": "r", "abstractobject.creator_id": "a" };
        assert_eq!(
            plan("r", &step(new(), Some("a")), Some(&theirs)),
            Plan::Replace {
                only: only.clone(),
                with: doc! { "_id": "r", "abstractobject": { "id": "r", "creator_id": "a" }, "n": 1 }
            }
        );
        assert_eq!(plan("r", &step(None, Some("a")), Some(&theirs)), Plan::Delete { only });
        assert_eq!(
            plan("r", &step(new(), Some("b")), Some(&theirs)),
            Plan::Answer(Applied::NotOwner)
        );
        assert_eq!(
            plan("r", &step(None, Some("b")), None),
            Plan::Answer(Applied::Unchanged)
        );
        let same = Some(json!({ "creator_id": "a", "id": "r" }));
        assert_eq!(
            plan("r", &step(same, Some("a")), Some(&theirs)),
            Plan::Answer(Applied::Unchanged)
        );
        assert!(matches!(plan("r", &step(new(), Some("b")), None), Plan::Insert(_)));
    }
}
