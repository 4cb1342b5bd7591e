//! The Slack stand-in as a program: what it prints, takes, shows and can be ordered to answer.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

struct StandIn {
    child: Child,
    address: String,
    webhook: String,
}

impl StandIn {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_slack-standin"))
            .args(["--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (address, path) = line.trim().strip_prefix("http://").unwrap().split_once('/').unwrap();
        Self { child, address: address.to_owned(), webhook: format!("/{path}") }
    }

    fn send(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        );
        write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is(answer: &str, status: u16, word: &str) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.ends_with(&format!("\r\n\r\n{word}"))
}

#[test]
fn it_prints_its_webhook_and_answers_in_slacks_words() {
    let slack = StandIn::start();
    let post = |body: &str| slack.send("POST", &slack.webhook, body);
    assert!(is(&post(r#"{"text":"<hi>"}"#), 200, "ok"));
    assert!(is(&post("{"), 400, "invalid_payload"));
    assert!(is(&post("{}"), 400, "no_text"));
    assert!(is(&post(r#"{"text":"x","blocks":[{"type":"poem"}]}"#), 400, "invalid_blocks"));
    assert!(is(&slack.send("POST", &format!("{}x", slack.webhook), r#"{"text":"x"}"#), 403, "invalid_token"));
    assert!(is(&slack.send("POST", "/services/T/B/x", r#"{"text":"x"}"#), 404, "no_service"));

    let ordered = slack.send("POST", "/answers", r#"{"answers":["channel_is_archived",{"rate_limited":3}]}"#);
    assert!(ordered.starts_with("HTTP/1.1 204"), "{ordered}");
    assert!(is(&post(r#"{"text":"x"}"#), 410, "channel_is_archived"));
    let limited = post(r#"{"text":"x"}"#);
    assert!(is(&limited, 429, "rate_limited") && limited.contains("retry-after: 3"), "{limited}");

    let messages = slack.send("GET", "/messages", "");
    assert!(messages.contains(r#""payload":{"text":"<hi>"}"#), "{messages}");
    let page = slack.send("GET", "/", "");
    assert!(page.contains("&lt;hi&gt;") && !page.contains("<hi>"), "{page}");
    slack.send("DELETE", "/messages", "");
    assert!(slack.send("GET", "/messages", "").ends_with(r#"{"messages":[]}"#));
}
