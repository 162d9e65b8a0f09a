//! Two organisations on this machine, and everything that crosses between them, told step by step.
//!
//! Each has a real NATS server and a real daemon in a throw-away directory; an app on either NATS says what an app would
//! say, and what the far app hears is shown. Every step that does not come true ends the demo with exit status 1.
//! `KEEP=1` leaves both running at the end, until Ctrl-C.

mod keep;
mod show;
mod steps;

use oc_testkit::{Federation, daemon_binary, tool};
use show::Show;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    // Whatever goes wrong is one sentence, and then the last words of the processes.
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        let why = text.or_else(|| payload.downcast_ref::<String>().cloned());
        let why = why.unwrap_or_else(|| "something broke".to_owned());
        eprintln!("\nFAILED: {why}");
    }));
    let keep = std::env::var("KEEP").is_ok_and(|keep| !matches!(keep.as_str(), "" | "0"));
    match tokio::spawn(demo(keep)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

async fn demo(keep: bool) {
    let _ = daemon_binary();
    if let Err(missing) = tool("nats-server") {
        panic!("{}", missing.0);
    }
    let show = Show::new();
    let net = Federation::new();
    let (alice, mut bob) = steps::start(&show, &net).await;
    steps::partnership(&show, &alice, &bob).await;
    steps::create(&show, &alice, &bob).await;
    steps::update(&show, &alice, &bob).await;
    steps::absence(&show, &alice, &mut bob).await;
    steps::search_partners(&show, &alice, &bob).await;
    steps::search_everybody(&show, &alice, &bob).await;
    steps::revocation(&show, &alice, &bob).await;
    show.end();
    if keep {
        keep::keep(&show, &alice, &bob).await;
    }
}
