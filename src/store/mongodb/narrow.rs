//! The query of a search: as narrow as the server can make it without knowing the access rule or how words are folded.
//!
//! Pure. Always: it finds at least everything that is meant (what it finds is looked at again); the asker's words reach the
//! server as letters of a pattern made here, never as a pattern, and its DID and ids not at all.

use mongodb::bson::{Bson, Document, Regex, doc};

use super::paths::{HEADER, INSTANCES, RESOURCE, anywhere, paths};
use crate::store::words::Wanted;
use crate::wire::DataType;

/// Accents that stand after their letter, where a text is not composed.
const MARKS: &str = "[\u{300}-\u{36f}]*";
/// A letter beyond ASCII that is no such accent: maybe the wanted one with an accent.
const OTHER: &str = "[^\\x00-\\x7f\u{300}-\u{36f}]";

/// The documents of `own_did` that may be meant; none when none can be.
pub(super) fn filter(kind: DataType, own_did: &str, trusted: bool, wanted: &Wanted) -> Option<Document> {
    if own_did.is_empty() {
        return None;
    }
    let mut all = vec![anywhere(&HEADER, "creator_id", &own_did.into()), seen(trusted)];
    match wanted {
        Wanted::Nothing => return None,
        Wanted::Everything => {}
        Wanted::Words(runs) => all.extend(runs.iter().map(|run| somewhere(kind, run))),
    }
    Some(doc! { "$and": all })
}

/// Public, or with partnerships: which these are is read here, not there.
fn seen(trusted: bool) -> Document {
    let public = doc! { "$in": [1, "public", "PUBLIC"] };
    let mut either = condition(&HEADER, "access_mode", &public.into());
    if trusted {
        let there = doc! { "$exists": true };
        either.extend(condition(
            &INSTANCES,
            "instances.partnerships.peer_groups",
            &there.into(),
        ));
    }
    doc! { "$or": either }
}

fn condition(places: &[&str], field: &str, condition: &Bson) -> Vec<Bson> {
    let each = paths(places, field).map(|path| doc! { path: condition.clone() }.into());
    each.collect()
}

/// The texts of a kind.
pub(super) fn text_paths(kind: DataType) -> Vec<String> {
    let mut all: Vec<String> = paths(&HEADER, "name").collect();
    all.extend(paths(&RESOURCE, "description"));
    all.extend(paths(&RESOURCE, "short_description"));
    for attribute in kind.attributes() {
        all.extend(paths(&RESOURCE, attribute));
    }
    all
}

fn somewhere(kind: DataType, run: &[String]) -> Document {
    let regex = pattern(run);
    let either: Vec<Bson> = text_paths(kind)
        .into_iter()
        .map(|path| doc! { path: regex.clone() }.into())
        .collect();
    doc! { "$or": either }
}

fn pattern(run: &[String]) -> Bson {
    let words: Vec<String> = run.iter().map(|word| letters(word)).collect();
    let pattern = format!("(?:^|[^0-9A-Za-z]){}", words.join("[^0-9A-Za-z]+"));
    match (pattern.try_into(), "i".to_owned().try_into()) {
        (Ok(pattern), Ok(options)) => Bson::RegularExpression(Regex { pattern, options }),
        // Only for NUL, which is no letter.
        _ => Bson::Null,
    }
}

/// The letters of a folded word, each maybe with an accent.
fn letters(word: &str) -> String {
    let mut out = String::with_capacity(word.len() * 30);
    let mut other = false;
    for c in word.chars() {
        if c.is_ascii_alphanumeric() {
            out.push_str(&format!("(?:{c}|{OTHER}){MARKS}"));
            other = false;
        } else if !std::mem::replace(&mut other, true) {
            out.push_str("[^\\x00-\\x7f]+");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_server_as_letters() {
        let wanted = Wanted::read("a.*b $where\u{0} [x]é日本");
        let Some(filter) = filter(DataType::DataResource, "did.$me", true, &wanted) else {
            panic!("it can be meant");
        };
        let text = filter.to_string();
        assert!(!text.contains("$where") && !text.contains(".*"), "{text}");
        assert_eq!(letters("a"), format!("(?:a|{OTHER}){MARKS}"));
        assert_eq!(letters("日本"), "[^\\x00-\\x7f]+");
    }

    #[test]
    fn what_cannot_be_meant_is_not_asked_for() {
        let of = |own: &str, text: &str| filter(DataType::DataResource, own, false, &Wanted::read(text));
        assert!(of("", "x").is_none() && of("did:me", "%").is_none());
        assert!(of("did:me", "").is_some());
    }
}
