//! `config check` and `config show`.

use std::fmt::Write;

use serde_json::json;

use super::{Common, Failure, answer};
use crate::settings::{doubts, load};

/// Tells every mistake; they are the answer, so they go to stdout.
pub(super) fn check(common: &Common) -> Result<(), Failure> {
    let loaded = load(&common.sources());
    if common.json {
        let mistakes: Vec<_> = loaded
            .as_ref()
            .err()
            .into_iter()
            .flat_map(|mistakes| &mistakes.0)
            .map(|mistake| json!({"where": mistake.origin.to_string(), "key": mistake.key, "text": mistake.text}))
            .collect();
        answer(&format!(
            "{}\n",
            json!({"ok": mistakes.is_empty(), "mistakes": mistakes})
        ))?;
    } else {
        match &loaded {
            Ok(loaded) => {
                let file = loaded
                    .file
                    .as_ref()
                    .map_or("no file".to_owned(), |path| path.display().to_string());
                answer(&format!("ok ({file})\n"))?;
                for doubt in doubts(&loaded.settings) {
                    answer(&format!("but {doubt}\n"))?;
                }
            }
            Err(mistakes) => answer(&format!("{mistakes}\n"))?,
        }
    }
    loaded.map(|_| ()).map_err(|_| Failure::Usage(String::new()))
}

/// The effective settings, each with where it came from.
pub(super) fn show(common: &Common) -> Result<(), Failure> {
    let loaded = load(&common.sources())?;
    if common.json {
        let shown: Vec<_> = loaded
            .shown
            .iter()
            .map(|shown| json!({"key": shown.key, "value": shown.value, "origin": shown.origin.to_string()}))
            .collect();
        return answer(&format!("{}\n", json!(shown)));
    }
    let mut out = String::new();
    let width = loaded
        .shown
        .iter()
        .map(|shown| shown.key.len() + shown.value.len())
        .max()
        .unwrap_or(0)
        .min(80);
    for shown in &loaded.shown {
        let pad = width.saturating_sub(shown.key.len() + shown.value.len());
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{} = {}{:pad$}  # {}", shown.key, shown.value, "", shown.origin);
    }
    answer(&out)
}
