//! A server that speaks MongoDB's wire protocol: one of a test's own, or a database on one that many share.

use crate::nats::certificates;
use crate::ports::free_port;
use crate::process::Process;
use crate::tools::{Missing, tool};
use crate::wait::until;
use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, Database};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// A server of a test's own; killed when dropped, and startable again on the same port with what it had.
pub struct Mongo {
    file: PathBuf,
    port: u16,
    tls: bool,
    told: usize,
    process: Option<Process>,
}

/// The program, or why there is none; looked for once.
fn program() -> Result<&'static Path, &'static str> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| tool("mongo-server").map_err(|Missing(why)| why));
    found.as_deref().map_err(String::as_str)
}

/// Whether the test goes on; on CI it has to.
fn or_skip<T>(found: Result<T, &str>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "{why}");
            println!("skipped: {why}");
            None
        }
    }
}

impl Mongo {
    /// A running server with its file in `dir`; none when this machine has no Java, which only CI takes amiss.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(dir: &Path) -> Option<Self> {
        let mut server = Self::stopped(dir)?;
        server.start_again().await;
        Some(server)
    }

    /// The same, not started yet.
    pub fn stopped(dir: &Path) -> Option<Self> {
        or_skip(program())?;
        Some(Self {
            file: dir.join("mongo.db"),
            port: free_port(),
            tls: false,
            told: 0,
            process: None,
        })
    }

    /// The same, speaking TLS alone, with a certificate for `localhost` of its own authority, [`Mongo::ca_file`].
    pub fn stopped_with_tls(dir: &Path) -> Option<Self> {
        let server = Self::stopped(dir)?;
        certificates(dir);
        Some(Self { tls: true, ..server })
    }

    fn dir(&self) -> &Path {
        self.file.parent().expect("the file lies in a directory")
    }

    /// The certificate of the authority of a server with TLS.
    pub fn ca_file(&self) -> PathBuf {
        self.dir().join("ca.pem")
    }

    /// As the setting `store.url` says it.
    pub fn url(&self, database: &str) -> String {
        let port = self.port;
        if self.tls {
            let ca = self.ca_file();
            return format!(
                "mongodb://localhost:{port}/{database}?tls=true&tlsCAFile={}",
                ca.display()
            );
        }
        format!("mongodb://127.0.0.1:{port}/{database}")
    }

    /// Starts it, again, and returns when it takes connections.
    ///
    /// # Panics
    /// When it does not get there.
    pub async fn start_again(&mut self) {
        let mut command = Command::new(or_skip(program()).expect("it was there before"));
        command.arg(&self.file).arg(self.port.to_string());
        if self.tls {
            command
                .arg(self.dir().join("server.pem"))
                .arg(self.dir().join("server.key"));
        }
        let process = self.process.insert(Process::start("mongo", &mut command));
        self.told = 1;
        until("the Mongo server to be ready", || {
            std::future::ready(process.out_line(0))
        })
        .await;
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGSTOP: connections stay, nothing is answered.
    pub fn freeze(&mut self) {
        self.process().signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        self.process().signal(Signal::CONT);
    }

    /// From now on each command takes this long.
    pub async fn slow(&mut self, each: Duration) {
        self.order(&format!("delay {}", each.as_millis())).await;
    }

    /// From now on each command is refused with this code.
    pub async fn refuse(&mut self, code: u32) {
        self.order(&format!("fail {code}")).await;
    }

    /// Neither slow nor refusing any more.
    pub async fn well(&mut self) {
        self.order("well").await;
    }

    async fn order(&mut self, line: &str) {
        self.process().tell(line);
        let at = self.told;
        self.told += 1;
        let process = self.process();
        until("the Mongo server to obey", || std::future::ready(process.out_line(at))).await;
    }

    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the Mongo server runs")
    }
}

/// A database of a test's own, which goes with it, on a server that all tests of this process share: that of `MONGO_URL`,
/// else one that lives in memory.
pub struct MongoDatabase {
    url: String,
    name: String,
}

impl MongoDatabase {
    /// An empty database; none when this machine has no Java and `MONGO_URL` is not set, which only CI takes amiss.
    ///
    /// # Panics
    /// When the server does not start.
    pub async fn new() -> Option<Self> {
        let name = format!("oc_test_{:016x}", rand::random::<u64>());
        let url = match std::env::var("MONGO_URL") {
            Ok(url) => with_database(&url, &name),
            Err(_) => format!("mongodb://127.0.0.1:{}/{name}", shared().await?),
        };
        Some(Self { url, name })
    }

    /// As the setting `store.url` says it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As an app sees it.
    ///
    /// # Panics
    /// When the address is none.
    pub async fn connect(&self) -> Database {
        connect(&self.url).await
    }
}

impl Drop for MongoDatabase {
    fn drop(&mut self) {
        let url = self.url.clone();
        // Not on the test's own runtime, which may be ending.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let _ = tokio::time::timeout(Duration::from_secs(10), connect(&url).await.drop()).await;
            });
            std::io::Result::Ok(())
        });
        let _ = dropping.join();
    }
}

/// A connection of an app to the database that an address names.
///
/// # Panics
/// When the address is none.
pub async fn connect(url: &str) -> Database {
    let options = ClientOptions::parse(url).await.expect("an address of a database");
    let client = Client::with_options(options).expect("options that fit");
    client.default_database().expect("a database in the address")
}

/// Writes a document as oc-lib does: its id is the `_id`.
///
/// # Panics
/// When the server does not take it.
pub async fn store_as_oc_lib(database: &Database, collection: &str, id: &str, document: &serde_json::Value) {
    let mut document: Document = mongodb::bson::serialize_to_document(document).expect("a document");
    document.insert("_id", id);
    let collection = database.collection::<Document>(collection);
    let replacing = collection.replace_one(doc! {"_id": id}, document).upsert(true);
    replacing.await.expect("the server takes a document");
}

/// The port of the server that lives in memory, started by the first who asks.
async fn shared() -> Option<u16> {
    static SERVER: Mutex<Option<(u16, Process)>> = Mutex::new(None);
    let locked = || -> MutexGuard<'_, _> { SERVER.lock().unwrap_or_else(PoisonError::into_inner) };
    let program = or_skip(program())?;
    {
        let mut server = locked();
        if server.is_none() {
            let port = free_port();
            let mut command = Command::new(program);
            command.arg("-").arg(port.to_string());
            *server = Some((port, Process::start("mongo of all tests", &mut command)));
        }
    }
    let ready = || {
        let server = locked();
        let (port, process) = server.as_ref().expect("it was started above");
        std::future::ready(process.out_line(0).map(|_| *port))
    };
    Some(until("the Mongo server of all tests to be ready", ready).await)
}

fn with_database(url: &str, name: &str) -> String {
    let (address, options) = url
        .split_once('?')
        .map_or((url, None), |(address, rest)| (address, Some(rest)));
    let (scheme, host) = address
        .split_once("://")
        .expect("MONGO_URL is an address such as mongodb://host");
    let host = host.split('/').next().unwrap_or(host);
    let options = options.map(|options| format!("?{options}")).unwrap_or_default();
    format!("{scheme}://{host}/{name}{options}")
}
