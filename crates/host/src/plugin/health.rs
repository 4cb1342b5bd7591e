//! Health: asking a running plugin how it is, and judging the answers.
//!
//! Asking is one `GET` over the plugin's socket with a time limit; judging is pure. Nothing is judged while somebody debugs the
//! plugin: a process that a debugger holds cannot answer, and killing it would be the worst thing to do.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::config::HealthPolicy;
use crate::plugin::Link;

/// How a plugin is, as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Not asked yet.
    Unknown,
    /// The last answer was good.
    Ok,
    /// The last answer was not good; not often enough yet to act.
    Failing,
    /// Not asked, because somebody debugs the plugin.
    Suspended,
}

impl Health {
    /// The word in REST, CLI and console.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Ok => "ok",
            Health::Failing => "failing",
            Health::Suspended => "suspended",
        }
    }
}

/// Counts bad answers in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pulse {
    bad_in_a_row: u32,
}

/// What an answer leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Show this, and go on.
    Show(Health),
    /// It failed too often; the text says how.
    Failed(String),
}

impl Pulse {
    /// Judges one answer; `Err` says what was wrong with it.
    pub fn judge(&mut self, answer: Result<(), String>, policy: &HealthPolicy) -> Judgement {
        match answer {
            Ok(()) => {
                self.bad_in_a_row = 0;
                Judgement::Show(Health::Ok)
            }
            Err(why) => {
                self.bad_in_a_row += 1;
                if self.bad_in_a_row >= policy.failures.max(1) {
                    let times = self.bad_in_a_row;
                    return Judgement::Failed(format!("health failed {times} times in a row, last: {why}"));
                }
                Judgement::Show(Health::Failing)
            }
        }
    }

    /// Forgets what was counted, because somebody debugs the plugin.
    pub fn suspend(&mut self) -> Judgement {
        self.bad_in_a_row = 0;
        Judgement::Show(Health::Suspended)
    }
}

/// Asks for a path and expects 200 within `timeout`.
///
/// # Errors
/// What was wrong with the answer, in words.
pub async fn ask(link: &Arc<Link>, path: &str, timeout: Duration) -> Result<(), String> {
    match tokio::time::timeout(timeout, status_of(link, path, timeout)).await {
        Err(_) => Err(format!("GET {path} was not answered within {} s", timeout.as_secs_f32())),
        Ok(Err(why)) => Err(format!("GET {path} failed: {why}")),
        Ok(Ok(200)) => Ok(()),
        Ok(Ok(status)) => Err(format!("GET {path} was answered with status {status}")),
    }
}

async fn status_of(link: &Arc<Link>, path: &str, within: Duration) -> Result<u16, String> {
    let stream = super::socket::connect(&link.socket, link.launcher_pid, within)
        .await
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let request = http::Request::get(path)
        .header(http::header::HOST, "localhost")
        .header("x-temps-plugin", link.name.as_str())
        .header(http::header::AUTHORIZATION, format!("Bearer {}", link.secret.expose()))
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| error.to_string())?;
    let told = link.tap.request("GET", path);
    let exchange = sender.send_request(request);
    tokio::pin!(connection, exchange);
    // The connection is driven only until the head of the answer is here; its body does not matter.
    let answered = tokio::select! {
        response = &mut exchange => response.map(|response| response.status().as_u16()).map_err(|e| e.to_string()),
        ended = &mut connection => match ended {
            Ok(()) => exchange.await.map(|response| response.status().as_u16()).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        },
    };
    answered.inspect(|status| told.answered(*status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> HealthPolicy {
        crate::HostConfig::for_places("p".into(), "s".into(), "r".into()).health
    }

    #[test]
    fn only_failures_in_a_row_count_and_a_debugger_forgives_them() {
        let bad = || Err("status 500".to_owned());
        let mut pulse = Pulse::default();
        assert_eq!(pulse.judge(bad(), &policy()), Judgement::Show(Health::Failing));
        assert_eq!(pulse.judge(bad(), &policy()), Judgement::Show(Health::Failing));
        assert_eq!(pulse.judge(Ok(()), &policy()), Judgement::Show(Health::Ok));
        pulse.judge(bad(), &policy());
        pulse.judge(bad(), &policy());
        assert_eq!(pulse.suspend(), Judgement::Show(Health::Suspended));
        pulse.judge(bad(), &policy());
        pulse.judge(bad(), &policy());
        let Judgement::Failed(why) = pulse.judge(bad(), &policy()) else { panic!("not failed") };
        assert!(why.contains("3 times in a row") && why.contains("status 500"), "{why}");
    }
}
