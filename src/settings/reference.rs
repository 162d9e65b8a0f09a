//! The list, written for people: the reference and the commented file.

use std::fmt::Write;

use super::list::rows;
use super::reading::{Preset, Raw, Row};
use super::reload::LIVE;
use super::sources::{OTHER_NAMES, env_name};

/// Width of the comments in the file.
const WIDTH: usize = 100;

/// Every setting as Markdown: what `docs/settings.md` holds.
pub fn reference_markdown() -> String {
    let mut out = String::from(
        "# Settings\n\n\
         Made from the list in `src/settings/list.rs`; a test holds the two together.\n\n\
         Default < file < environment < `--set`. A setting `a.b` is `[a] b` in TOML. Unknown settings and unknown\n\
         `OCDISCOVERY_*` variables are mistakes. Durations: `500ms`, `10s`, `5m`, `1h`. Sizes: `512KiB`, `1MiB`, or\n\
         plain bytes. Lists in the environment and in `--set` have commas between. `{state_dir}` stands for the value\n\
         of `state_dir`. A password may stand in an address in the file or the environment, never in `--set`.\n\n\
         Settings marked (SIGHUP) are taken from the file again when the daemon gets a SIGHUP; the others need a\n\
         restart, and the log says so.\n",
    );
    let mut section = None;
    for row in rows() {
        let (of, name) = split(row.key);
        if section != Some(of) {
            section = Some(of);
            let title = if of.is_empty() {
                "General".to_owned()
            } else {
                format!("`[{of}]`")
            };
            let _ = write!(
                out,
                "\n## {title}\n\n| setting | environment | default | values | meaning |\n|---|---|---|---|---|\n"
            );
        }
        let live = if LIVE.contains(&row.key) { " (SIGHUP)" } else { "" };
        let _ = writeln!(
            out,
            "| `{name}`{live} | `{}` | {} | {} | {} |",
            env_name(row.key),
            default_told(&row),
            row.values,
            row.help.trim()
        );
    }
    out.push_str("\n## Names of other services\n\nThese work too, unless the own name above is set; `OCDISCOVERY_PORT` is the port of `admin.listen`, whose host stays:\n\n| environment | sets |\n|---|---|\n");
    for (name, key) in OTHER_NAMES {
        let _ = writeln!(out, "| `{name}` | `{key}` |");
    }
    out
}

/// The commented file: every setting with its meaning and default, those of `values` (`key`, value) set.
pub fn commented_file(values: &[(&str, String)]) -> String {
    let mut out = String::from(
        "# Settings of oc-discovery. A line that begins with # and a name shows the default (or an example where the\n\
         # default depends on the host): remove the # to change it. The environment and --set win over this file.\n\
         # `oc-discovery config check` tells every mistake, `oc-discovery config show` what is in effect.\n\n",
    );
    let mut section = "";
    for row in rows() {
        let (of, name) = split(row.key);
        if section != of {
            section = of;
            let _ = write!(out, "\n[{of}]\n");
        }
        let told = match row.preset {
            Preset::Computed { told, .. } => format!(" Default: {told}."),
            _ => String::new(),
        };
        comment(&mut out, &format!("{} ({}){told}", row.help.trim(), row.values));
        match values.iter().find(|(key, _)| *key == row.key) {
            Some((_, value)) => writeln!(out, "{name} = {}", Raw::One(value.clone())),
            None => writeln!(out, "#{name} = {}", row.preset.sample()),
        }
        // Writing to a String cannot fail.
        .unwrap_or_default();
    }
    out
}

fn split(key: &'static str) -> (&'static str, &'static str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

fn default_told(row: &Row) -> String {
    match &row.preset {
        Preset::Unset => "-".to_owned(),
        Preset::Computed { told, .. } => (*told).to_owned(),
        preset => format!("`{}`", preset.sample()),
    }
}

fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push_str("\n#");
            line.clear();
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}
