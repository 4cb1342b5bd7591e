//! One post to a webhook, and what its answer means.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::Value;

/// How long one post may take, from the name's look-up to the answer's end.
const POST_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest wait that is honoured when Slack asks for one.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// The wait when Slack asks for one without saying how long.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Most characters of an answer that are shown to an operator. Slack's words are short.
const MAX_WORD: usize = 80;

/// What the answer to a post means for the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The message was posted.
    Posted,
    /// Too many messages: wait so long, then post it again.
    Wait(Duration),
    /// Something that passes: post it again after a while. The text says what.
    Again(String),
    /// The webhook does not take messages any more: stop until the operator has changed something.
    Stop(String),
    /// Slack does not take this message: stop as well, and never post this one again.
    StopAndDrop(String),
}

/// Makes the client. TLS needs the system's certificates, so this can fail.
pub(crate) fn client() -> Result<Client, String> {
    // A second installation is refused, which is fine: the first one stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .timeout(POST_TIMEOUT)
        // A webhook that redirects is not Slack's; the secret in its address must not travel on.
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(1)
        .build()
        .map_err(|e| format!("TLS cannot be used ({e}); install the system's certificates (ca-certificates)"))
}

/// Posts `message`. The address is a secret, so it is in no error.
pub(crate) async fn post(client: &Client, url: &str, message: &Value) -> Verdict {
    match client.post(url).json(message).send().await {
        Ok(response) => {
            let status = response.status();
            let wait = response
                .headers()
                .get("retry-after")
                .and_then(|value| value.to_str().ok()?.trim().parse().ok())
                .map(Duration::from_secs);
            let word = first_word(response).await;
            judge(status, wait, &word)
        }
        Err(e) => Verdict::Again(describe(&e.without_url())),
    }
}

/// What Slack's answer means.
pub(crate) fn judge(status: StatusCode, wait: Option<Duration>, word: &str) -> Verdict {
    let said = format!("{} {word}", status.as_u16()).trim_end().to_owned();
    match status.as_u16() {
        200..=299 => Verdict::Posted,
        429 => Verdict::Wait(wait.unwrap_or(DEFAULT_RETRY_AFTER).min(MAX_RETRY_AFTER)),
        408 | 500..=599 => Verdict::Again(format!("Slack answered {said}")),
        400 | 413 => Verdict::StopAndDrop(format!("Slack refused a message: {said}")),
        _ => Verdict::Stop(format!("Slack refuses the webhook: {said}")),
    }
}

/// The beginning of an answer, made safe for showing. More than a first piece is not read.
async fn first_word(mut response: reqwest::Response) -> String {
    let chunk = response.chunk().await.ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&chunk);
    text.chars()
        .take(MAX_WORD)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>()
        .trim()
        .to_owned()
}

fn describe(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("Slack did not answer within {} s", POST_TIMEOUT.as_secs());
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    format!("Slack was not reached: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, wait: Option<u64>, word: &str) -> Verdict {
        judge(StatusCode::from_u16(status).unwrap(), wait.map(Duration::from_secs), word)
    }

    #[test]
    fn every_answer_of_slack_has_its_meaning() {
        assert_eq!(judged(200, None, "ok"), Verdict::Posted);
        for word in ["invalid_payload", "no_text", "invalid_blocks"] {
            assert!(matches!(judged(400, None, word), Verdict::StopAndDrop(said) if said.contains(word)));
        }
        for (status, word) in [
            (403, "invalid_token"),
            (403, "action_prohibited"),
            (404, "no_service"),
            (404, "channel_not_found"),
            (410, "channel_is_archived"),
            (301, ""),
        ] {
            assert!(matches!(judged(status, None, word), Verdict::Stop(said) if said.contains(word)));
        }
        assert!(matches!(judged(500, None, "rollup_error"), Verdict::Again(_)));
        assert!(matches!(judged(503, None, ""), Verdict::Again(_)));
    }

    #[test]
    fn the_wait_that_slack_asks_for_is_kept_within_bounds() {
        assert_eq!(judged(429, Some(7), ""), Verdict::Wait(Duration::from_secs(7)));
        assert_eq!(judged(429, None, ""), Verdict::Wait(DEFAULT_RETRY_AFTER));
        assert_eq!(judged(429, Some(u64::MAX), ""), Verdict::Wait(MAX_RETRY_AFTER));
    }
}
