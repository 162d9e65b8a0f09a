//! The word index: the words of a resource, and a word for who may see it, so that a search meets nothing in vain.
//!
//! Owns what is written there and how it is asked. Always: kept in the transaction of the document; both sides are folded here,
//! since the index itself knows the accents of few alphabets; no character of a search text is an operator.

use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use crate::model::StoredFields;
use crate::store::words::fold;

/// The table. Prefixes of one to four letters have lists of their own: a search begins to answer before it has merged the lists
/// of every word that begins so.
pub(super) const TABLE: &str = "
    CREATE VIRTUAL TABLE words USING fts5 (
        name, description, short_description, attributes, seen,
        content = '', contentless_delete = 1, detail = full, prefix = '1 2 3 4',
        tokenize = 'unicode61 remove_diacritics 0'
    );";

/// The columns with words of people.
const TEXTS: &str = "{name description short_description attributes}";

/// Keeps the words in step; most changes of a document do not touch them.
pub(super) fn index(
    connection: &Connection,
    n: i64,
    now: &StoredFields,
    before: Option<&StoredFields>,
) -> rusqlite::Result<()> {
    let sql = match before {
        Some(before) if columns(before) == columns(now) => return Ok(()),
        Some(_) => {
            "UPDATE words SET name = ?2, description = ?3, short_description = ?4, attributes = ?5, seen = ?6
             WHERE rowid = ?1"
        }
        None => {
            "INSERT INTO words (rowid, name, description, short_description, attributes, seen)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
        }
    };
    let (texts, seen) = columns(now);
    let [name, description, short_description, attributes] = texts.map(fold);
    connection
        .prepare_cached(sql)?
        .execute(params![n, name, description, short_description, attributes, seen])?;
    Ok(())
}

pub(super) fn unindex(connection: &Connection, n: i64) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached("DELETE FROM words WHERE rowid = ?1")?;
    delete.execute([n]).map(|_| ())
}

fn columns(fields: &StoredFields) -> ([&str; 4], String) {
    (fields.texts(), seen(fields))
}

/// A word for each of those who may find it: everyone (`p`), trusted ones (`s`), of this creator.
fn seen(fields: &StoredFields) -> String {
    let Some(creator) = &fields.creator_id else {
        return String::new();
    };
    let of = mark(creator);
    match (fields.public, fields.shared) {
        (true, _) => format!("p{of} s{of}"),
        (false, true) => format!("s{of}"),
        (false, false) => String::new(),
    }
}

/// A creator as one word that no text of people is.
fn mark(creator: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(creator.as_bytes()).into();
    hex::encode(digest.get(..12).unwrap_or_default())
}

/// The text as index queries: every word quoted, all of them needed, of documents that `own_did` made and the asker may see. First
/// as whole words, which answers at once however many there are; then as beginnings, which finds all of these again, and
/// the rest. None for no words at all.
pub(super) fn expressions(text: &str, own_did: &str, trusted: bool) -> Option<[String; 2]> {
    let words = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty());
    // Folded behind the cutting: an accent alone is a word that nothing has, not no word.
    let quoted: Vec<String> = words
        .map(|word| format!("\"{}\"", fold(word).replace('"', "\"\"")))
        .collect();
    let who = if trusted { 's' } else { 'p' };
    let of = mark(own_did);
    let asked = |words: String| format!("seen : {who}{of} AND {TEXTS} : ({words})");
    (!quoted.is_empty()).then(|| [asked(quoted.join(" ")), asked(format!("{}*", quoted.join("* ")))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_is_an_operator() {
        let of = mark("did:me");
        let asked = |words: &str| format!("seen : s{of} AND {TEXTS} : ({words})");
        assert_eq!(
            expressions("a NEAR\t\"b\"\0c*", "did:me", true),
            Some([
                asked(r#""a" "near" """b""" "c*""#),
                asked(r#""a"* "near"* """b"""* "c*"*"#)
            ])
        );
        assert_eq!(expressions(" \n\0 ", "did:me", false), None);
    }
}
