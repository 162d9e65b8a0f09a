//! How the demo speaks: at most 80 columns, one line for each thing that was said, its time at the right.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Columns of a line.
const WIDTH: usize = 80;

/// The demo's voice; it counts the steps.
pub struct Show {
    began: Instant,
    step: AtomicUsize,
}

impl Show {
    /// Begins now.
    pub fn new() -> Self {
        println!("oc-discovery, a demo: two organisations on this machine, each with an app, a");
        println!("NATS server and a daemon of its own. Apps speak to their NATS only, daemons to");
        println!("each other over libp2p. Times are from the app's word to the far app's ear.");
        Self {
            began: Instant::now(),
            step: AtomicUsize::new(1),
        }
    }

    /// The next step, and why.
    pub fn step(&self, title: &str, why: &str) {
        let number = self.step.fetch_add(1, Ordering::Relaxed);
        println!("\n{number}. {title}");
        for line in wrapped(why, WIDTH - 3) {
            println!("   {line}");
        }
    }

    /// `who` said `what` on `subject`.
    pub fn said(&self, who: &str, subject: &str, what: &str) {
        println!("   {}", columns(who, subject, what));
    }

    /// The same, heard `took` after what led to it.
    pub fn heard(&self, who: &str, subject: &str, what: &str, took: Duration) {
        let line = format!("   {}", columns(who, subject, what));
        let took = millis(took);
        let gap = WIDTH.saturating_sub(line.chars().count() + took.chars().count()).max(1);
        println!("{line}{:gap$}{took}", "");
    }

    /// Something that is so.
    pub fn fact(&self, text: &str) {
        for (number, line) in wrapped(text, WIDTH - 5).iter().enumerate() {
            println!("   {} {line}", if number == 0 { '=' } else { ' ' });
        }
    }

    /// A line as it is.
    pub fn line(&self, text: &str) {
        println!("{text}");
    }

    /// Everything came true.
    pub fn end(&self) {
        println!(
            "\nEverything came true, in {:.1} s.",
            self.began.elapsed().as_secs_f64()
        );
    }
}

fn columns(who: &str, subject: &str, what: &str) -> String {
    format!("{who:<15}{subject:<20}{what}").trim_end().to_owned()
}

fn millis(took: Duration) -> String {
    let ms = took.as_secs_f64() * 1000.0;
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.0} ms")
    }
}

/// `text` in lines of at most `width` columns.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
