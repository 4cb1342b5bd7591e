//! The Slack stand-in as a program, for demonstrations and for tests in other languages.
//!
//! `slack-standin --port 0` prints the webhook's address as its first line, and serves until it is ended. `GET /` shows what
//! was received, `GET /messages` the same as JSON, `POST /answers` orders the next answers.

use std::io::Write;
use std::process::ExitCode;

use temps_testkit::slack::SlackStandIn;

const USAGE: &str = "usage: slack-standin [--port PORT]   (default 0: any free port; loopback only)";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(port) = read_port(std::env::args().skip(1)) else {
        let _ = writeln!(std::io::stderr(), "{USAGE}");
        return ExitCode::from(2);
    };
    match SlackStandIn::start(port).await {
        Ok(slack) => {
            let mut out = std::io::stdout();
            let _ = writeln!(out, "{}\nmessages: {}/", slack.webhook_url(), slack.base_url());
            let _ = out.flush();
            slack.serve().await;
            ExitCode::SUCCESS
        }
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "error: port {port} on loopback cannot be had: {e}");
            ExitCode::FAILURE
        }
    }
}

fn read_port(mut arguments: impl Iterator<Item = String>) -> Option<u16> {
    match (arguments.next().as_deref(), arguments.next(), arguments.next()) {
        (None, _, _) => Some(0),
        (Some("--port"), Some(port), None) => port.parse().ok(),
        _ => None,
    }
}
