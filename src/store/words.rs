//! What is the same in a search text and in what is searched, for both stores; and what the text means where no index says it.
//!
//! Pure. Always: no character of the text is an operator; case and accents are nothing, in any alphabet; every word is needed, as
//! the beginning of a word; words written together must stand together in one text.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// A search text, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// No words: everything.
    Everything,
    /// Signs only: nothing.
    Nothing,
    /// All of these, each a run of words that stand together, the last of them maybe only begun.
    Words(Vec<Vec<String>>),
}

/// A text without case and accents.
pub(super) fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let lower = text.chars().flat_map(char::to_lowercase).nfd();
    lower.filter(|c| !is_combining_mark(*c)).map(fold_letter).collect()
}

/// Letters of one upper case are one: the Greek sigmas, the sign of micro and mu, the long s and s.
fn fold_letter(c: char) -> char {
    let only = |letters: &mut dyn Iterator<Item = char>| letters.next().filter(|_| letters.next().is_none());
    let upper = only(&mut c.to_uppercase());
    upper.and_then(|upper| only(&mut upper.to_lowercase())).unwrap_or(c)
}

/// The words of a text, folded.
fn words(text: &str) -> Vec<String> {
    let folded = fold(text);
    let words = folded
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

impl Wanted {
    /// Reads a search text.
    pub(super) fn read(text: &str) -> Self {
        let mut parts = text
            .split(|c: char| c.is_whitespace() || c.is_control())
            .filter(|part| !part.is_empty())
            .peekable();
        if parts.peek().is_none() {
            return Self::Everything;
        }
        let runs: Vec<Vec<String>> = parts.map(words).filter(|run| !run.is_empty()).collect();
        if runs.is_empty() {
            Self::Nothing
        } else {
            Self::Words(runs)
        }
    }

    /// Whether a document with these texts is meant.
    pub(super) fn is_in<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> bool {
        let runs = match self {
            Self::Everything => return true,
            Self::Nothing => return false,
            Self::Words(runs) => runs,
        };
        let texts: Vec<Vec<String>> = texts.into_iter().map(words).collect();
        runs.iter().all(|run| texts.iter().any(|text| stands_in(run, text)))
    }
}

fn stands_in(run: &[String], text: &[String]) -> bool {
    let Some((last, before)) = run.split_last() else {
        return true;
    };
    text.windows(run.len()).any(|window| {
        window
            .split_last()
            .is_some_and(|(end, start)| start == before && end.starts_with(last.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_folded_and_begun() {
        let texts = ["Données Météo", "Zürich-2024 v1.5", "ΑΒΓ \u{202e}שלום"];
        for (text, wanted) in [
            ("", true),
            (" \t\u{0}", true),
            ("*", false),
            ("met", true),
            ("METEO donne", true),
            ("me\u{301}te\u{301}o", true),
            ("eteo", false),
            ("donnees-meteo", true),
            ("meteo-donnees", false),
            ("zurich-20", true),
            ("zur-2024", false),
            ("v1.5", true),
            ("1.5", false),
            ("\"meteo\" *", true),
            ("αβ", true),
            ("שלו", true),
            ("meteo zurich", true),
            ("meteo-zurich", false),
        ] {
            assert_eq!(Wanted::read(text).is_in(texts), wanted, "{text:?}");
        }
    }
}
