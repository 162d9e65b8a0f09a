//! A child process whose words are kept and which never outlives its owner.

use crate::wait::until;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Lines printed when a test fails.
const LAST_LINES: usize = 120;

/// A running, or ended, program.
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    out: Arc<Mutex<Vec<String>>>,
    err: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`; `name` is what it is called in messages.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: impl Into<String>, command: &mut Command) -> Self {
        let name = name.into();
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = piped
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let (out, err) = (Arc::default(), Arc::default());
        let stdin = child.stdin.take();
        let readers = vec![
            keep_lines(child.stdout.take().expect("stdout is piped"), Arc::clone(&out)),
            keep_lines(child.stderr.take().expect("stderr is piped"), Arc::clone(&err)),
        ];
        Self {
            name,
            child,
            stdin,
            out,
            err,
            readers,
            ended: None,
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it wrote on stdout so far, line by line.
    pub fn out(&self) -> Vec<String> {
        self.out.lock().unwrap().clone()
    }

    /// Line `index` of stdout, once it is there.
    pub fn out_line(&self, index: usize) -> Option<String> {
        self.out.lock().unwrap().get(index).cloned()
    }

    /// What it wrote on stderr so far, line by line.
    pub fn err(&self) -> Vec<String> {
        self.err.lock().unwrap().clone()
    }

    /// Writes one line to its stdin.
    ///
    /// # Panics
    /// When it does not read any more.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        writeln!(stdin, "{line}")
            .and_then(|()| stdin.flush())
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Its process id.
    ///
    /// # Panics
    /// Never: a child has one.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal. Nothing happens when it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.exit_status().is_none() {
            kill_process(self.pid(), signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        }
    }

    /// How it ended; `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
            if self.ended.is_some() {
                // What it said last is read before anybody looks at it.
                for reader in self.readers.drain(..) {
                    let _ = reader.join();
                }
            }
        }
        self.ended
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn ended(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        let cell = std::cell::RefCell::new(self);
        until(what, || std::future::ready(cell.borrow_mut().exit_status())).await
    }

    /// SIGKILL, and returns when it is gone.
    pub fn kill(&mut self) {
        if self.exit_status().is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let told = self.err();
            let skip = told.len().saturating_sub(LAST_LINES);
            eprintln!(
                "--- {} ({}), its last words:",
                self.name,
                self.ended.map_or("running".into(), |s| s.to_string())
            );
            for line in told.iter().skip(skip) {
                eprintln!("{line}");
            }
        }
    }
}

fn keep_lines(from: impl Read + Send + 'static, to: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            to.lock()
                .unwrap()
                .push(String::from_utf8_lossy(&line).trim_end().to_owned());
            line.clear();
        }
    })
}
