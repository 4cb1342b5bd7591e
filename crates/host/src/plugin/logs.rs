//! A plugin's log: what it writes to stderr (and stray lines on stdout), and what the host says about it.
//!
//! Lines come from an untrusted program: they are bounded, counted against a rate, freed of control characters and of the
//! plugin's secret, and only then kept. The log belongs to the plugin's name, so it outlives every restart.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tokio::sync::broadcast;

use super::logfile::LogFiles;
use super::logline;
use crate::host::LogLine;
use crate::metrics::Metrics;
use crate::secrets::Secret;

/// Lines kept in memory per plugin.
pub const RING_LINES: usize = 1_000;

/// Longest line in bytes; the rest of a longer one is left out, and said so.
pub const MAX_LINE_BYTES: usize = 16 * 1024;

/// Lines per second, and in one burst, that a plugin may log; beyond them lines are dropped, counted and said.
pub const LINES_PER_SECOND: f64 = 1_000.0;

/// Lines that a slow follower may be behind before it misses some.
const FOLLOWER_LINES: usize = 1_024;

/// Longest time for which dropped lines are only counted.
const SAY_DROPPED_EVERY: Duration = Duration::from_secs(1);

/// The log of one plugin. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PluginLog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    plugin: String,
    // A std mutex: it is held for a push only, never over an await.
    state: Mutex<State>,
    followers: broadcast::Sender<LogLine>,
    files: Option<LogFiles>,
    metrics: Metrics,
}

#[derive(Debug)]
struct State {
    ring: VecDeque<LogLine>,
    budget: Budget,
    dropped: u64,
    dropped_said_at: Instant,
}

impl PluginLog {
    /// Opens the log of a plugin, with what its newest file holds.
    #[must_use]
    pub fn open(plugin: &str, directory: PathBuf, files: &LogFiles, metrics: Metrics) -> Self {
        let ring = logline::read_tail(&directory, RING_LINES);
        Self::with(plugin, ring, Some(files.of(directory)), metrics)
    }

    /// A log that is not kept anywhere; for a program that is only looked at.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::with("", Vec::new(), None, Metrics::default())
    }

    fn with(plugin: &str, ring: Vec<LogLine>, files: Option<LogFiles>, metrics: Metrics) -> Self {
        let now = Instant::now();
        let state = State { ring: ring.into(), budget: Budget::new(now), dropped: 0, dropped_said_at: now };
        let inner = Inner {
            plugin: plugin.to_owned(),
            state: Mutex::new(state),
            followers: broadcast::channel(FOLLOWER_LINES).0,
            files,
            metrics,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The last `count` lines, oldest first, and a receiver for those that follow, without a gap between them.
    #[must_use]
    pub fn read(&self, count: usize) -> (Vec<LogLine>, broadcast::Receiver<LogLine>) {
        let Ok(state) = self.inner.state.lock() else {
            return (Vec::new(), self.inner.followers.subscribe());
        };
        let skip = state.ring.len().saturating_sub(count);
        (state.ring.iter().skip(skip).cloned().collect(), self.inner.followers.subscribe())
    }

    /// The messages of the last `count` lines on stderr, oldest first.
    #[must_use]
    pub fn last_stderr(&self, count: usize) -> Vec<String> {
        let Ok(state) = self.inner.state.lock() else { return Vec::new() };
        let from_stderr = state.ring.iter().rev().filter(|line| line.stream == "stderr");
        let mut lines: Vec<String> = from_stderr.take(count).map(|line| line.message.clone()).collect();
        lines.reverse();
        lines
    }

    /// Writes what the host says about the plugin.
    pub fn say(&self, level: &'static str, message: impl Into<String>) {
        let line = LogLine {
            at: Utc::now(),
            level,
            stream: "host",
            message: logline::printable(&message.into()),
            fields: serde_json::Value::Null,
        };
        if let Ok(mut state) = self.inner.state.lock() {
            self.keep(&mut state, line);
        }
    }

    /// Reads a stream of the plugin until it ends, for ever draining it, whatever it writes.
    pub async fn drain<R: AsyncBufRead + Unpin>(&self, mut stream: R, name: &'static str, secret: Secret) {
        let mut line = Vec::new();
        loop {
            match next_line(&mut stream, &mut line).await {
                Ok(Some(left_out)) => self.take(&line, left_out, name, &secret),
                Ok(None) => return,
                Err(error) => {
                    self.say("warn", format!("{name} could not be read any further: {error}"));
                    return;
                }
            }
        }
    }

    fn take(&self, bytes: &[u8], left_out: usize, stream: &'static str, secret: &Secret) {
        let Ok(mut state) = self.inner.state.lock() else { return };
        let now = Instant::now();
        if !state.budget.take(now) {
            state.dropped += 1;
            self.inner.metrics.log_lines_dropped.get_or_create(&Metrics::of(&self.inner.plugin)).inc();
            return;
        }
        if state.dropped > 0 && now.duration_since(state.dropped_said_at) >= SAY_DROPPED_EVERY {
            let message =
                format!("{} lines were dropped: more than {LINES_PER_SECOND} a second", state.dropped);
            state.dropped = 0;
            state.dropped_said_at = now;
            let said = LogLine {
                at: Utc::now(),
                level: "warn",
                stream: "host",
                message,
                fields: serde_json::Value::Null,
            };
            self.keep(&mut state, said);
        }
        let line = logline::parse(bytes, left_out, stream, secret);
        self.keep(&mut state, line);
    }

    fn keep(&self, state: &mut State, line: LogLine) {
        if state.ring.len() == RING_LINES {
            state.ring.pop_front();
        }
        if let Some(files) = &self.inner.files {
            files.write(&line);
        }
        state.ring.push_back(line.clone());
        // Nobody listening is not an error.
        let _ = self.inner.followers.send(line);
    }
}

/// Reads one line without its newline into `line`, at most [`MAX_LINE_BYTES`] of it, and says how many bytes were left out.
/// `None` at the end of the stream.
async fn next_line<R: AsyncBufRead + Unpin>(
    stream: &mut R,
    line: &mut Vec<u8>,
) -> std::io::Result<Option<usize>> {
    line.clear();
    let mut left_out = 0;
    loop {
        let available = stream.fill_buf().await?;
        if available.is_empty() {
            return Ok((!line.is_empty() || left_out > 0).then_some(left_out));
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        let kept = part.len().min(MAX_LINE_BYTES - line.len());
        line.extend_from_slice(&part[..kept]);
        left_out += part.len() - kept;
        let used = part.len() + usize::from(end.is_some());
        stream.consume(used);
        if end.is_some() {
            return Ok(Some(left_out));
        }
    }
}

/// A budget of lines that fills with time.
#[derive(Debug)]
struct Budget {
    lines: f64,
    at: Instant,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { lines: LINES_PER_SECOND, at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.lines = (self.lines + elapsed * LINES_PER_SECOND).min(LINES_PER_SECOND);
        let enough = self.lines >= 1.0;
        if enough {
            self.lines -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(directory: &tempfile::TempDir) -> (PluginLog, LogFiles) {
        let files = LogFiles::start();
        (PluginLog::open("hello", directory.path().to_owned(), &files, Metrics::default()), files)
    }

    #[tokio::test]
    async fn lines_are_kept_with_their_level_and_followers_miss_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (log, _files) = log(&directory);
        log.drain(&b"one\ntwo\n"[..], "stderr", Secret::new("s3cret".into())).await;
        let (lines, mut following) = log.read(10);
        assert_eq!(lines.iter().map(|l| l.message.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        log.say("warn", "three");
        assert_eq!(following.recv().await.unwrap().message, "three");
        assert_eq!(log.last_stderr(1), ["two"]);
    }

    #[tokio::test]
    async fn a_flood_is_drained_capped_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        let (log, _files) = log(&directory);
        let flood = "x\n".repeat(50_000);
        log.drain(flood.as_bytes(), "stderr", Secret::new("s3cret".into())).await;
        let dropped = log.inner.metrics.log_lines_dropped.get_or_create(&Metrics::of("hello")).get();
        assert!(dropped > 10_000, "only {dropped} of 50,000 lines were dropped");
        assert!(log.read(usize::MAX).0.len() <= RING_LINES);
    }

    #[tokio::test]
    async fn a_line_without_an_end_takes_no_more_than_its_bound() {
        let directory = tempfile::tempdir().unwrap();
        let (log, _files) = log(&directory);
        let mut endless = vec![b'x'; 10 * MAX_LINE_BYTES];
        endless.extend_from_slice(b"\nnext\n");
        log.drain(&endless[..], "stdout", Secret::new("s3cret".into())).await;
        let (lines, _) = log.read(10);
        assert!(lines[0].message.len() < MAX_LINE_BYTES + 100, "{}", lines[0].message.len());
        assert!(lines[0].message.ends_with("(147456 more bytes left out)"), "{}", lines[0].message.len());
        assert_eq!(lines[1].message, "next");
    }
}
