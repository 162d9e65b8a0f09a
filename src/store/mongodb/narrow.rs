//! The query of a search: as narrow as the server can make it without knowing the access rule or how words are folded.
//!
//! Pure. Always: it finds at least everything that is meant (what it finds is looked at again); the asker's words reach the
//! server as letters of a pattern made here, never as a pattern, and its DID and ids not at all.

use std::collections::BTreeSet;

use mongodb::bson::{Bson, Document, Regex, doc};

use super::paths::{HEADER, INSTANCES, RESOURCE, anywhere, paths};
use crate::model::NESTS;
use crate::store::words::Wanted;
use crate::wire::DataType;

/// Accents that stand after their letter, where a text is not composed.
const MARKS: &str = "[\u{300}-\u{36f}]*";
/// Letters beyond ASCII that are no such accents, within a class: maybe the wanted one with an accent.
const OTHERS: &str = "\u{80}-\u{2ff}\u{370}-\u{10ffff}";
/// Behind the first letter of a word: no letter before it. There, and not before that letter, since a server looks for the
/// first letter fast.
const BEGINS: &str = "(?<![0-9A-Za-z].)";

/// The documents of `own_did` that may be meant; none when none can be.
pub(super) fn filter(kind: DataType, own_did: &str, trusted: bool, wanted: &Wanted) -> Option<Document> {
    if own_did.is_empty() {
        return None;
    }
    let mut all = vec![anywhere(&HEADER, "creator_id", &own_did.into()), seen(trusted)];
    match wanted {
        Wanted::Nothing => return None,
        Wanted::Everything => {}
        // Each word by itself: that those of a run stand together is decided here. A pattern for a whole run would try
        // every way to part a text into its words.
        Wanted::Words(runs) => {
            let patterns: BTreeSet<String> = runs.iter().flatten().map(|word| beginning(word)).collect();
            all.extend(patterns.into_iter().map(|pattern| somewhere(kind, pattern)));
        }
    }
    Some(doc! { "$and": all })
}

/// Public, or with partnerships: which these are is read here, not there. The rule reads them within the parts that the Go driver
/// nests, too: a document with such a part in an instance is asked for, whatever is in it.
fn seen(trusted: bool) -> Document {
    let public = Bson::Document(doc! { "$in": [1, "public", "PUBLIC"] });
    let there = Bson::Document(doc! { "$exists": true });
    let mut either: Vec<(String, Bson)> = paths(&HEADER, "access_mode")
        .map(|path| (path, public.clone()))
        .collect();
    if trusted {
        let nested = |of: &'static str| NESTS.iter().map(move |nest| format!("{of}.{nest}"));
        let mut granting = vec!["instances.partnerships.peer_groups".to_owned()];
        granting.extend(nested("instances").chain(nested("instances.partnerships")));
        for path in &granting {
            either.extend(paths(&INSTANCES, path).map(|path| (path, there.clone())));
        }
    }
    any_of(either)
}

/// One of these conditions, each on a path. What stands in a nested part is asked for only where there is such a part: most
/// documents of a collection have one form, and each path that is looked for in vain is time of the server.
fn any_of(conditions: Vec<(String, Bson)>) -> Document {
    let part_of = |path: &str| NESTS.iter().position(|nest| path.split('.').next() == Some(nest));
    let mut either = Vec::new();
    let mut nested: [Vec<Bson>; NESTS.len()] = Default::default();
    for (path, condition) in conditions {
        let part = part_of(&path).and_then(|part| nested.get_mut(part));
        part.unwrap_or(&mut either).push(doc! { path: condition }.into());
    }
    let parts = NESTS.iter().zip(nested).filter(|(_, within)| !within.is_empty());
    either.extend(
        parts.map(|(nest, within)| doc! { "$and": [{ *nest: { "$exists": true } }, { "$or": within }] }.into()),
    );
    doc! { "$or": either }
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

fn somewhere(kind: DataType, pattern: String) -> Document {
    let regex = match (pattern.try_into(), "i".to_owned().try_into()) {
        (Ok(pattern), Ok(options)) => Bson::RegularExpression(Regex { pattern, options }),
        // Only for NUL, which is no letter.
        _ => Bson::Null,
    };
    any_of(text_paths(kind).into_iter().map(|path| (path, regex.clone())).collect())
}

/// The pattern of a folded word: its letters, each maybe with an accent, as far as they are ASCII, and that another one follows.
fn beginning(word: &str) -> String {
    let mut out = String::with_capacity(word.len() * 30);
    let mut begins = BEGINS;
    for c in word.chars() {
        if !c.is_ascii_alphanumeric() {
            out.push_str(&format!("[^\\x00-\\x7f]{begins}"));
            break;
        }
        out.push_str(&format!("[{c}{OTHERS}]{begins}{MARKS}"));
        begins = "";
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
        assert_eq!(beginning("ab"), format!("[a{OTHERS}]{BEGINS}{MARKS}[b{OTHERS}]{MARKS}"));
        assert_eq!(beginning("日本"), format!("[^\\x00-\\x7f]{BEGINS}"));
        assert_eq!(beginning("aжb"), format!("[a{OTHERS}]{BEGINS}{MARKS}[^\\x00-\\x7f]"));
    }

    #[test]
    fn what_cannot_be_meant_is_not_asked_for() {
        let of = |own: &str, text: &str| filter(DataType::DataResource, own, false, &Wanted::read(text));
        assert!(of("", "x").is_none() && of("did:me", "%").is_none());
        assert!(of("did:me", "").is_some());
    }

    #[test]
    fn nested_parts_are_looked_into_where_there_are_some() {
        let conditions = ["a", "abstractobject.a", "abstractobjects.a", "abstractresource.b.c"];
        let conditions = conditions.map(|path| (path.to_owned(), Bson::Int32(1)));
        let wanted = doc! { "$or": [
            { "a": 1 },
            { "abstractobjects.a": 1 },
            { "$and": [{ "abstractobject": { "$exists": true } }, { "$or": [{ "abstractobject.a": 1 }] }] },
            { "$and": [{ "abstractresource": { "$exists": true } }, { "$or": [{ "abstractresource.b.c": 1 }] }] },
        ] };
        assert_eq!(any_of(conditions.into()), wanted);
    }
}
