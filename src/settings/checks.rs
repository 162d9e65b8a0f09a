//! What must hold between settings that are each right by themselves.

use super::list::{Settings, StoreUrl};
use super::reading::Reading;

/// What must hold between settings that are each right by themselves.
pub(super) fn together(settings: &Settings, reading: &mut Reading<'_>) {
    subjects_differ(settings, reading);
    log_in_is_one_way(settings, reading);
    bounds_fit(settings, reading);
    store_is_reached(settings, reading);
}

fn store_is_reached(settings: &Settings, reading: &mut Reading<'_>) {
    let store = &settings.store;
    match &store.url {
        StoreUrl::Sqlite(_) => {
            if store.password_file.is_some() {
                reading.mistake_about("store.password_file", "is for mongodb alone: a file has no password");
            }
            if store.manage_indexes {
                reading.mistake_about("store.manage_indexes", "is for mongodb alone: a file has its indexes");
            }
        }
        StoreUrl::MongoDb(url) => {
            if store.password_file.is_some() && !url.contains('@') {
                reading.mistake_about(
                    "store.password_file",
                    "needs a user: `store.url = \"mongodb://USER@host/database\"`",
                );
            }
        }
    }
}

fn subjects_differ(settings: &Settings, reading: &mut Reading<'_>) {
    let subjects = &settings.nats.subjects;
    let all = [
        ("nats.subjects.propalgation_event", &subjects.propalgation_event),
        ("nats.subjects.create_resource", &subjects.create_resource),
        ("nats.subjects.remove_resource", &subjects.remove_resource),
        ("nats.subjects.search_event", &subjects.search_event),
        ("nats.subjects.search_end", &subjects.search_end),
    ];
    for (number, (key, subject)) in all.iter().enumerate() {
        if let Some((other, _)) = all.iter().take(number).find(|(_, earlier)| earlier == subject) {
            reading.mistake_about(key, format!("is the same as {other}: each needs its own"));
        }
    }
}

fn log_in_is_one_way(settings: &Settings, reading: &mut Reading<'_>) {
    let nats = &settings.nats;
    let pairs = [
        (
            "nats.tls.cert_file",
            nats.tls.cert_file.is_some(),
            "nats.tls.key_file",
            nats.tls.key_file.is_some(),
        ),
        (
            "nats.user",
            nats.user.is_some(),
            "nats.password_file",
            nats.password_file.is_some(),
        ),
    ];
    for (first, has_first, second, has_second) in pairs {
        if has_first && !has_second {
            reading.mistake_about(first, format!("needs {second} as well"));
        }
        if has_second && !has_first {
            reading.mistake_about(second, format!("needs {first} as well"));
        }
    }
    let ways = [
        ("nats.creds_file", nats.creds_file.is_some()),
        ("nats.user", nats.user.is_some()),
        ("nats.token_file", nats.token_file.is_some()),
    ];
    let mut used = ways.iter().filter(|(_, used)| *used).map(|(key, _)| *key);
    if let Some(first) = used.next() {
        for other in used {
            reading.mistake_about(other, format!("{first} is set too: only one way to log in can be used"));
        }
    }
}

/// What stands around a document in a message or a line, at the most: names, DIDs, times, a signature.
const AROUND: usize = 1024;

fn base64(bytes: usize) -> usize {
    bytes.div_ceil(3).saturating_mul(4)
}

/// What can be set so and is hardly meant: nothing ends with it, and people are told. A document comes to us and goes to others as
/// base64: where a bound leaves no room for that, the largest ones are refused later.
#[must_use]
pub fn doubts(settings: &Settings) -> Vec<String> {
    let limits = &settings.limits;
    let once = base64(limits.document_bytes).saturating_add(AROUND);
    let fits = [
        ("limits.message_bytes", limits.message_bytes, base64(once), "twice"),
        ("limits.line_bytes", limits.line_bytes, once, "once"),
    ];
    let tight = fits.into_iter().filter(|(_, value, least, _)| value < least);
    tight
        .map(|(key, value, least, times)| {
            format!(
                "{key} is {value} bytes, and the largest document (limits.document_bytes) needs {least}, as base64 ({times}): \
                 larger ones are refused before that bound"
            )
        })
        .collect()
}

fn bounds_fit(settings: &Settings, reading: &mut Reading<'_>) {
    let limits = &settings.limits;
    let fits = [
        (
            "limits.document_bytes",
            limits.document_bytes,
            "limits.message_bytes",
            limits.message_bytes,
        ),
        (
            "limits.document_bytes",
            limits.document_bytes,
            "limits.line_bytes",
            limits.line_bytes,
        ),
        (
            "limits.message_bytes",
            limits.message_bytes,
            "limits.intake_bytes",
            limits.intake_bytes,
        ),
        (
            "limits.line_bytes",
            limits.line_bytes,
            "limits.half_read_bytes",
            limits.half_read_bytes,
        ),
        (
            "limits.line_bytes",
            limits.line_bytes,
            "limits.peer_queue_bytes",
            limits.peer_queue_bytes,
        ),
        (
            "limits.connections_per_peer",
            limits.connections_per_peer,
            "limits.connections",
            limits.connections,
        ),
    ];
    for (small, small_value, big, big_value) in fits {
        if small_value > big_value {
            reading.mistake_about(big, format!("must not be less than {small}"));
        }
    }
}
