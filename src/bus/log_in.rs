//! How the daemon logs in to NATS: what the settings name is read anew for each connection.
//!
//! Owns the secrets for as long as one log-in takes. Always: a secret that was changed beside a running daemon counts from the next
//! connection on; a file that cannot be read then is told, and read again at the next attempt; no secret is ever told.

use super::connect::ConnectError;
use crate::settings::NatsSettings;
use async_nats::{Auth, AuthError, ConnectOptions, ServerAddr};
use nkeys::KeyPair;
use percent_encoding::percent_decode_str;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What begins and ends a part of a credentials file.
const DASHES: &str = "---";

/// A cheap handle; see the module's first lines.
#[derive(Clone, Default)]
pub(super) struct LogIn(Arc<Files>);

#[derive(Default)]
struct Files {
    creds: Option<PathBuf>,
    user: Option<String>,
    password: Option<PathBuf>,
    token: Option<PathBuf>,
    /// User and password that stand in an address: NATS's client overlooks them there.
    address: Option<(String, String)>,
    /// Why the last one could not be made.
    failed: Mutex<Option<String>>,
}

impl LogIn {
    pub(super) fn new(nats: &NatsSettings) -> Self {
        Self(Arc::new(Files {
            creds: nats.creds_file.clone(),
            user: nats.user.clone(),
            password: nats.password_file.clone(),
            token: nats.token_file.clone(),
            address: nats.url.iter().find_map(|url| of_address(url)),
            failed: Mutex::new(None),
        }))
    }

    fn failure(&self) -> MutexGuard<'_, Option<String>> {
        self.0.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the last connection could not be logged in, when it failed on our side.
    pub(super) fn failed(&self) -> Option<String> {
        // Once: a later failure to connect has another reason, unless it is told anew.
        self.failure().take()
    }

    /// Options that log in so.
    ///
    /// # Errors
    /// What is named cannot be used now: whoever has set it is at hand at the start.
    pub(super) async fn options(&self) -> Result<ConnectOptions, ConnectError> {
        self.0.read(&[]).await?;
        let this = self.clone();
        Ok(ConnectOptions::with_auth_callback(move |nonce| {
            let this = this.clone();
            async move { this.log_in(&nonce).await }
        }))
    }

    async fn log_in(&self, nonce: &[u8]) -> Result<Auth, AuthError> {
        let read = self.0.read(nonce).await;
        *self.failure() = read.as_ref().err().map(ToString::to_string);
        read.map_err(AuthError::new)
    }
}

impl Files {
    /// What the server is shown; `nonce` is what it wants signed.
    async fn read(&self, nonce: &[u8]) -> Result<Auth, ConnectError> {
        let mut auth = Auth::new();
        if let Some(path) = &self.creds {
            let text = secret("nats.creds_file", path).await?;
            let (jwt, signature) = sign(&text, nonce).map_err(|why| ConnectError::File {
                setting: "nats.creds_file",
                path: path.clone(),
                why: std::io::Error::new(std::io::ErrorKind::InvalidData, why),
            })?;
            (auth.jwt, auth.signature) = (Some(jwt), Some(signature));
        }
        if let Some(user) = &self.user {
            auth.username = Some(user.clone());
            auth.password = Some(match &self.password {
                Some(path) => secret("nats.password_file", path).await?,
                None => String::new(),
            });
        }
        if let Some(path) = &self.token {
            auth.token = Some(secret("nats.token_file", path).await?);
        }
        // What is set by a setting of its own counts, also beside that.
        let named = self.creds.is_some() || self.user.is_some() || self.token.is_some();
        if let Some((user, password)) = self.address.as_ref().filter(|_| !named) {
            (auth.username, auth.password) = (Some(user.clone()), Some(password.clone()));
        }
        Ok(auth)
    }
}

/// The user and the password in an address, when there are any.
fn of_address(url: &str) -> Option<(String, String)> {
    let address: ServerAddr = url.parse().ok()?;
    let plain = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let user = address.username().filter(|user| !user.is_empty())?;
    Some((plain(user), address.password().map(plain).unwrap_or_default()))
}

/// The JWT of a credentials file, and `nonce` signed with its key.
fn sign(creds: &str, nonce: &[u8]) -> Result<(String, Vec<u8>), &'static str> {
    let mut parts = parts(creds);
    let jwt = parts.next().ok_or("it holds no JWT of a user")?;
    let seed = parts.next().ok_or("it holds no seed of a user's key")?;
    // Its own errors may repeat what it was given.
    let key = KeyPair::from_seed(seed).map_err(|_| "what stands in it as the seed of a user's key is none")?;
    let signed = key.sign(nonce).map_err(|_| "its key signs nothing")?;
    Ok((jwt.to_owned(), signed))
}

/// The lines that stand alone between two lines of dashes.
fn parts(creds: &str) -> impl Iterator<Item = &str> {
    let lines = || creds.lines().map(str::trim);
    let dashes = |line: &str| line.starts_with(DASHES) && line.ends_with(DASHES);
    let is_word = |line: &str| {
        !line.is_empty()
            && line
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '='))
    };
    let three = lines().zip(lines().skip(1)).zip(lines().skip(2));
    three.filter_map(move |((begin, part), end)| {
        (dashes(begin) && dashes(end) && is_word(part) && !dashes(part)).then_some(part)
    })
}

/// The bytes of a file that a setting names.
pub(super) async fn readable(setting: &'static str, path: &Path) -> Result<Vec<u8>, ConnectError> {
    tokio::fs::read(path).await.map_err(|why| ConnectError::File {
        setting,
        path: path.to_owned(),
        why,
    })
}

/// A secret from its file, without the newline that editors leave.
async fn secret(setting: &'static str, path: &Path) -> Result<String, ConnectError> {
    let bytes = readable(setting, path).await?;
    Ok(String::from_utf8_lossy(&bytes)
        .trim_end_matches(['\r', '\n'])
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oc_testkit::NatsServer;

    #[tokio::test]
    async fn what_stands_in_an_address_is_shown_when_nothing_else_is() {
        let files = Files {
            address: of_address("tls://a%40b:s3cret%20pass@host:4222"),
            ..Files::default()
        };
        let shown = files.read(b"nonce").await.unwrap();
        let both = (shown.username.as_deref(), shown.password.as_deref());
        assert_eq!(both, (Some("a@b"), Some("s3cret pass")));
        assert_eq!(of_address("nats://host:4222"), None);
        assert_eq!(Files::default().read(b"").await.unwrap().username, None);
    }

    #[tokio::test]
    async fn what_is_shown_is_what_the_files_hold_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let files = Files {
            creds: Some(path("creds")),
            user: Some("u".to_owned()),
            password: Some(path("password")),
            token: Some(path("token")),
            address: of_address("nats://of:the-address@h"),
            failed: Mutex::default(),
        };
        let log_in = LogIn(Arc::new(files));
        for round in ["one", "two"] {
            let creds = NatsServer::creds_of_nobody();
            std::fs::write(path("creds"), creds.replace('\n', "\r\n")).unwrap();
            std::fs::write(path("password"), format!("{round}\n")).unwrap();
            std::fs::write(path("token"), format!("token {round}\r\n")).unwrap();
            let shown = log_in.log_in(b"nonce").await.unwrap();
            assert_eq!(shown.username.as_deref(), Some("u"));
            assert_eq!(shown.password.as_deref(), Some(round));
            assert_eq!(shown.token, Some(format!("token {round}")));
            assert_eq!(shown.jwt.as_deref(), creds.lines().nth(1));
            let seed = parts(&creds).nth(1).unwrap();
            let key = KeyPair::from_seed(seed).unwrap();
            key.verify(b"nonce", &shown.signature.unwrap()).unwrap();
            assert_eq!(log_in.failed(), None);
        }
        std::fs::remove_file(path("password")).unwrap();
        assert!(log_in.log_in(b"nonce").await.is_err());
        let why = log_in.failed().unwrap();
        assert!(why.contains("nats.password_file") && !why.contains("two"), "{why}");
        std::fs::write(path("password"), "three").unwrap();
        assert_eq!(log_in.log_in(b"").await.unwrap().password.as_deref(), Some("three"));
        assert_eq!(log_in.failed(), None);
    }
}
