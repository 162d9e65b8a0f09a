//! The connection: the driver's client, made when the address can be resolved, and the time that anything may take.
//!
//! Owns how the driver is set. Always: nothing here waits longer than [`OPERATION_MAX`]; the address is told without its
//! user-info; what the apps wrote is read from the primary, so that an owner is never an older one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mongodb::error::Error;
use mongodb::options::{
    Acknowledgment, ClientOptions, ConnectionString, DatabaseOptions, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Database};
use tokio::sync::OnceCell;

use super::fault;
use crate::store::StoreError;

/// Longest any call may take, a search apart.
pub(super) const OPERATION_MAX: Duration = Duration::from_secs(10);
/// What the server is given of it: it ends what nobody waits for any more.
pub(super) const SERVER_MAX: Duration = Duration::from_secs(8);
/// How long a server is looked for, while there is none.
const SELECTION: Duration = Duration::from_secs(3);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);
/// Pause between two looks at a server: one that is frozen is known after this and [`CONNECT`].
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Connections at once: the apps need that database, too.
const POOL: u32 = 16;
/// Time of a write in the journal of a majority.
const WRITTEN: Duration = Duration::from_secs(8);

/// Where the documents are, and how to get in.
#[derive(Clone)]
pub struct MongoOptions {
    /// The address, with its user-info: never print it.
    pub url: String,
    /// A file with the password of the address' user.
    pub password_file: Option<PathBuf>,
    /// Whether missing indexes may be made.
    pub manage_indexes: bool,
}

/// The two ways to read.
pub(super) struct Handles {
    /// The primary alone.
    pub(super) database: Database,
    /// As the address says (`readPreference`): searches may lean on a secondary.
    pub(super) searching: Database,
}

/// See the module's first lines.
pub(super) struct Link {
    options: MongoOptions,
    /// What people see of the address.
    pub(super) name: String,
    handles: OnceCell<Handles>,
}

impl Link {
    /// Checks what can be checked without the network.
    pub(super) fn new(options: MongoOptions) -> Result<Self, StoreError> {
        let name = told_address(&options.url);
        let link = Self {
            options,
            name,
            handles: OnceCell::new(),
        };
        ConnectionString::parse(&link.options.url).map_err(|error| link.told(&error))?;
        link.password()?;
        Ok(link)
    }

    pub(super) fn manages_indexes(&self) -> bool {
        self.options.manage_indexes
    }

    /// What an error of the driver means.
    pub(super) fn told(&self, error: &Error) -> StoreError {
        fault::told(&self.name, error)
    }

    fn password(&self) -> Result<Option<String>, StoreError> {
        let Some(file) = &self.options.password_file else {
            return Ok(None);
        };
        read_password(file).map(Some).map_err(|why| StoreError::NotLetIn {
            store: self.name.clone(),
            why,
        })
    }

    /// The handles; made at the first use, and tried again as long as a name of the address cannot be resolved.
    pub(super) async fn handles(&self) -> Result<&Handles, StoreError> {
        let making = self.handles.get_or_try_init(|| self.make());
        let made = tokio::time::timeout(OPERATION_MAX, making).await;
        made.unwrap_or(Err(StoreError::Timeout(OPERATION_MAX)))
    }

    async fn make(&self) -> Result<Handles, StoreError> {
        let parsed = ClientOptions::parse(&self.options.url).await;
        let mut options = parsed.map_err(|error| self.told(&error))?;
        options.app_name.get_or_insert_with(|| "oc-discovery".to_owned());
        options.server_selection_timeout.get_or_insert(SELECTION);
        options.connect_timeout.get_or_insert(CONNECT);
        options.heartbeat_freq.get_or_insert(HEARTBEAT);
        options.max_pool_size.get_or_insert(POOL);
        if let Some(password) = self.password()? {
            let no_user = || StoreError::NotLetIn {
                store: self.name.clone(),
                why: "store.password_file needs a user in store.url: mongodb://USER@host/database".to_owned(),
            };
            options.credential.as_mut().ok_or_else(no_user)?.password = Some(password);
        }
        let client = Client::with_options(options).map_err(|error| self.told(&error))?;
        let no_database = || StoreError::Database {
            store: self.name.clone(),
            why: "store.url names no database".to_owned(),
        };
        let searching = client.default_database().ok_or_else(no_database)?;
        let written = WriteConcern::builder()
            .w(Acknowledgment::Majority)
            .journal(true)
            .w_timeout(WRITTEN);
        let primary = DatabaseOptions::builder()
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .write_concern(written.build())
            .build();
        let database = client.database_with_options(searching.name(), primary);
        Ok(Handles { database, searching })
    }
}

fn read_password(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(format!("{} is empty", file.display()));
    }
    Ok(password.to_owned())
}

/// The address without user-info and options.
fn told_address(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("mongodb", url));
    // To the last `@` of the whole: a password may hold what it should not, and must not show for that.
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = host.split(['?', '#']).next().unwrap_or(host);
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_without_secrets() {
        for (url, wanted) in [
            ("mongodb://u:p@h:1/db?tls=true", "mongodb://h:1/db"),
            ("mongodb://u:p@/?x@h,i:2/db", "mongodb://h,i:2/db"),
            ("mongodb+srv://h/db", "mongodb+srv://h/db"),
        ] {
            assert_eq!(told_address(url), wanted);
        }
    }

    #[test]
    fn what_cannot_work_is_said_before_anything_is_tried() {
        let options = |url: &str, file: Option<&str>| MongoOptions {
            url: url.to_owned(),
            password_file: file.map(PathBuf::from),
            manage_indexes: false,
        };
        for (url, file) in [
            ("mongodb://h/db?tls=maybe", None),
            ("mongodb://u:p@h:port/db", None),
            ("mongodb://u@h/db", Some("/nowhere/password")),
        ] {
            let told = Link::new(options(url, file)).map(|_| ()).unwrap_err().to_string();
            assert!(!told.contains("u:p"), "{told}");
        }
        assert!(Link::new(options("mongodb://h/db", None)).is_ok());
    }
}
