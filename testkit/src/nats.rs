//! A `nats-server` of one's own.

use crate::jwt::Operator;
use crate::ports::free_port;
use crate::process::Process;
use crate::tools::tool;
use crate::wait::until;
use async_nats::ConnectOptions;
use rustix::process::Signal;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// How a server shall be.
#[derive(Debug, Clone, Default)]
pub struct NatsOptions {
    /// Largest message; the server's own default (1 MiB) when not set.
    pub max_payload: Option<usize>,
    /// Whether it has JetStream.
    pub jetstream: bool,
    /// User and password that it wants.
    pub user: Option<(String, String)>,
    /// Token that it wants.
    pub token: Option<String>,
    /// Belongs to an operator (decentralised authentication): clients show the JWT of a user, from a credentials file.
    pub operator: bool,
    /// Speaks TLS with a certificate of its own authority.
    pub tls: bool,
    /// Lines added to its configuration.
    pub extra: String,
}

/// The server; killed when dropped, and startable again on the same port.
pub struct NatsServer {
    name: String,
    dir: PathBuf,
    port: u16,
    options: NatsOptions,
    operator: Option<Operator>,
    process: Option<Process>,
}

impl NatsServer {
    /// A server that is not started yet; its files go to `dir`.
    ///
    /// # Panics
    /// When its files cannot be written.
    pub fn new(name: &str, dir: &Path, options: NatsOptions) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let server = Self {
            name: format!("nats of {name}"),
            dir: dir.to_owned(),
            port: free_port(),
            operator: options.operator.then(Operator::new),
            options,
            process: None,
        };
        if let Some(operator) = &server.operator {
            std::fs::write(server.creds_file(), &operator.creds).unwrap();
        }
        if server.options.tls {
            certificates(dir);
        }
        std::fs::write(server.config_file(), server.config()).unwrap();
        server
    }

    fn config_file(&self) -> PathBuf {
        self.dir.join("nats.conf")
    }

    fn config(&self) -> String {
        let dir = self.dir.display();
        let mut text = format!(
            "host: 127.0.0.1\nport: {}\nserver_name: \"{}\"\n",
            self.port,
            self.name.replace(' ', "-")
        );
        if let Some(bytes) = self.options.max_payload {
            writeln!(text, "max_payload: {bytes}").unwrap();
        }
        if self.options.jetstream {
            writeln!(text, "jetstream {{ store_dir: \"{dir}/jetstream\" }}").unwrap();
        }
        if let Some((user, password)) = &self.options.user {
            writeln!(text, "authorization {{ user: \"{user}\", password: \"{password}\" }}").unwrap();
        }
        if let Some(token) = &self.options.token {
            writeln!(text, "authorization {{ token: \"{token}\" }}").unwrap();
        }
        if let Some(operator) = &self.operator {
            let (jwt, account, account_jwt) = (&operator.jwt, &operator.account, &operator.account_jwt);
            writeln!(
                text,
                "operator: \"{jwt}\"\nresolver: MEMORY\nresolver_preload {{ {account}: \"{account_jwt}\" }}"
            )
            .unwrap();
        }
        if self.options.tls {
            writeln!(
                text,
                "tls {{ cert_file: \"{dir}/server.pem\", key_file: \"{dir}/server.key\" }}"
            )
            .unwrap();
        }
        text.push_str(&self.options.extra);
        text
    }

    /// Where it listens, as the setting `nats.url` says it.
    pub fn url(&self) -> String {
        let scheme = if self.options.tls { "tls" } else { "nats" };
        let host = if self.options.tls { "localhost" } else { "127.0.0.1" };
        format!("{scheme}://{host}:{}", self.port)
    }

    /// The certificate of the authority, for a server with TLS.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The credentials of a user, for a server with an operator.
    pub fn creds_file(&self) -> PathBuf {
        self.dir.join("user.creds")
    }

    /// Credentials in good order of a user whose account no server knows.
    pub fn creds_of_nobody() -> String {
        Operator::new().creds
    }

    /// How it shall be.
    pub fn options(&self) -> &NatsOptions {
        &self.options
    }

    /// Starts it, and returns when it takes connections.
    ///
    /// # Panics
    /// When there is no nats-server, or it does not start.
    pub async fn start(&mut self) {
        if self.process.is_some() {
            return;
        }
        let binary = tool("nats-server").unwrap_or_else(|missing| panic!("{}", missing.0));
        let mut command = Command::new(binary);
        command.arg("-c").arg(self.config_file());
        self.process = Some(Process::start(self.name.clone(), &mut command));
        let port = self.port;
        until(format!("{} to listen", self.name), || async move {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
            // Its greeting, in the clear also when TLS follows.
            let mut greeting = [0; 4];
            socket.read_exact(&mut greeting).await.ok()?;
            (&greeting == b"INFO").then_some(())
        })
        .await;
    }

    /// Has other lines in its configuration from now on, which it reads while it runs.
    ///
    /// # Panics
    /// When it does not run, or does not read them.
    pub async fn reload(&mut self, extra: String) {
        self.options.extra = extra;
        std::fs::write(self.config_file(), self.config()).unwrap();
        let process = self.process.as_mut().expect("it runs");
        let times = |process: &Process| {
            let said = process.err();
            said.iter()
                .filter(|line| line.contains("Reloaded server configuration"))
                .count()
        };
        let before = times(process);
        process.signal(Signal::HUP);
        until(format!("{} to read its configuration", self.name), || {
            std::future::ready((times(process) > before).then_some(()))
        })
        .await;
    }

    /// Wants another password from its next start on.
    ///
    /// # Panics
    /// When it wants no user, or its configuration cannot be written.
    pub fn wants_password(&mut self, password: &str) {
        let (_, wanted) = self.options.user.as_mut().expect("it wants a user");
        password.clone_into(wanted);
        std::fs::write(self.config_file(), self.config()).unwrap();
    }

    /// Has no JetStream from its next start on.
    pub fn without_jetstream(&mut self) {
        self.options.jetstream = false;
        std::fs::write(self.config_file(), self.config()).unwrap();
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// The server's process, while it runs.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// What an app needs to connect to it.
    pub fn connect_options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .retry_on_initial_connect()
            .reconnect_delay_callback(|_| Duration::from_millis(30));
        if let Some((user, password)) = &self.options.user {
            options = options.user_and_password(user.clone(), password.clone());
        }
        if let Some(token) = &self.options.token {
            options = options.token(token.clone());
        }
        if let Some(operator) = &self.operator {
            options = options.credentials(&operator.creds).expect("they are in good order");
        }
        if self.options.tls {
            options = options.add_root_certificates(self.ca_file()).require_tls(true);
        }
        options
    }
}

/// An authority and a server certificate for `localhost`, made by openssl as an operator would.
pub(crate) fn certificates(dir: &Path) {
    let run = |arguments: &[&str]| {
        let done = Command::new("openssl").args(arguments).current_dir(dir).output();
        let done = done.expect("openssl is on this machine, for tests with TLS");
        assert!(
            done.status.success(),
            "openssl: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    let ec = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ];
    let with_ec = |first: &[&'static str], rest: &[&'static str]| -> Vec<&'static str> {
        first.iter().chain(ec.iter()).chain(rest.iter()).copied().collect()
    };
    run(&with_ec(
        &["req", "-x509"],
        &["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority"],
    ));
    run(&with_ec(
        &["req", "-x509", "-CA", "ca.pem", "-CAkey", "ca.key"],
        &[
            "-keyout",
            "server.key",
            "-out",
            "server.pem",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ],
    ));
}
