//! The handshake: two lines on stdout, each with a deadline and a bound, read in the plugin's dialect.
//!
//! The reader never trusts what it reads: a line that does not end, one that is too long, or a stream that closes is an
//! ordinary outcome with words for the plugin's author. What follows the two lines is left in the reader for the log.

use std::sync::Arc;
use std::time::Duration;

use temps_protocol::limits::{MAX_MANIFEST_BYTES, MAX_READY_BYTES};
use temps_protocol::{HandshakeError, PluginManifest, Ready, parse_manifest_line, parse_ready_line};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tokio::sync::watch;

/// How the handshake lines are to be understood. Later versions of the protocol add their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// A manifest line, then a ready line.
    #[default]
    V1,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The line did not come in time.
    #[error("no {line} line within {seconds} s; {hint}", seconds = .after.as_secs_f32())]
    TooLate {
        /// `manifest` or `ready`.
        line: &'static str,
        /// How long was waited.
        after: Duration,
        /// What was seen instead, and what to do.
        hint: &'static str,
    },
    /// The line is longer than it may be.
    #[error(
        "the {line} line is longer than {max} bytes; write one line of JSON, then a newline, and logs to stderr"
    )]
    TooLong {
        /// `manifest` or `ready`.
        line: &'static str,
        /// Most bytes, newline included.
        max: usize,
    },
    /// Stdout was closed first.
    #[error("stdout was closed before the {line} line{half}; its log may say why", half = if *.half { " was complete" } else { "" })]
    Closed {
        /// `manifest` or `ready`.
        line: &'static str,
        /// Whether part of the line was there.
        half: bool,
    },
    /// The line is not text.
    #[error("the {line} line is not UTF-8; write JSON in UTF-8")]
    NotText {
        /// `manifest` or `ready`.
        line: &'static str,
    },
    /// Reading failed.
    #[error("stdout could not be read: {0}")]
    Io(#[from] std::io::Error),
    /// The line was read and is not right.
    #[error(transparent)]
    Refused(#[from] HandshakeError),
}

impl Dialect {
    /// Reads and checks the manifest line.
    ///
    /// # Errors
    /// [`ReadError`] in words that the plugin's author can act on.
    pub async fn read_manifest<R: AsyncBufRead + Unpin>(
        self,
        stdout: &mut R,
        patience: Patience,
    ) -> Result<Arc<PluginManifest>, ReadError> {
        let Dialect::V1 = self;
        let line = read_line(stdout, "manifest", MAX_MANIFEST_BYTES, patience).await?;
        Ok(Arc::new(parse_manifest_line(&line)?))
    }

    /// Reads and checks the ready line.
    ///
    /// # Errors
    /// [`ReadError`] in words that the plugin's author can act on.
    pub async fn read_ready<R: AsyncBufRead + Unpin>(
        self,
        stdout: &mut R,
        patience: Patience,
    ) -> Result<Arc<Ready>, ReadError> {
        let Dialect::V1 = self;
        let line = read_line(stdout, "ready", MAX_READY_BYTES, patience).await?;
        Ok(Arc::new(parse_ready_line(&line)?))
    }
}

/// How long to wait for a line, and the switch that stops the clock while somebody debugs the plugin.
#[derive(Debug, Clone)]
pub struct Patience {
    /// How long each line may take.
    pub limit: Duration,
    /// `true` while deadlines do not count.
    pub suspended: watch::Receiver<bool>,
    /// Asked when the time is up: a process that a debugger holds cannot write.
    pub excuse: Excuse,
}

/// Says whether a line that did not come in time has an excuse. By default it has none.
#[derive(Clone)]
pub struct Excuse(Arc<dyn Fn() -> bool + Send + Sync>);

impl Excuse {
    /// Asks `question` each time that the time is up.
    pub fn when(question: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(question))
    }
}

impl Default for Excuse {
    fn default() -> Self {
        Self::when(|| false)
    }
}

impl std::fmt::Debug for Excuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Excuse")
    }
}

impl Patience {
    /// Ends once the limit has gone by without being suspended or excused. After either the clock begins again.
    pub async fn run_out(mut self) {
        loop {
            if *self.suspended.borrow_and_update() {
                if self.suspended.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(self.limit) => if !(self.excuse.0)() {
                    return;
                },
                changed = self.suspended.changed() => if changed.is_err() {
                    // The switch is gone with its actor; the present value stays.
                    return tokio::time::sleep(self.limit).await;
                },
            }
        }
    }
}

/// Reads one line of at most `max` bytes, newline included, and leaves everything behind it in the reader.
async fn read_line<R: AsyncBufRead + Unpin>(
    stdout: &mut R,
    line: &'static str,
    max: usize,
    patience: Patience,
) -> Result<String, ReadError> {
    let mut bytes = Vec::new();
    let after = patience.limit;
    let reading = fill_line(stdout, &mut bytes, line, max);
    let outcome = tokio::select! {
        outcome = reading => outcome,
        () = patience.run_out() => {
            let hint = if bytes.is_empty() {
                "the plugin has to write it to stdout as soon as it runs"
            } else {
                "part of it came: end the line with a newline, and flush stdout"
            };
            return Err(ReadError::TooLate { line, after, hint });
        }
    };
    outcome?;
    String::from_utf8(bytes).map_err(|_| ReadError::NotText { line })
}

async fn fill_line<R: AsyncBufRead + Unpin>(
    stdout: &mut R,
    bytes: &mut Vec<u8>,
    line: &'static str,
    max: usize,
) -> Result<(), ReadError> {
    loop {
        let (used, done) = {
            let available = stdout.fill_buf().await?;
            if available.is_empty() {
                return Err(ReadError::Closed { line, half: !bytes.is_empty() });
            }
            let (part, done) = match available.iter().position(|byte| *byte == b'\n') {
                Some(end) => (&available[..=end], true),
                None => (available, false),
            };
            if bytes.len() + part.len() > max {
                return Err(ReadError::TooLong { line, max });
            }
            bytes.extend_from_slice(part);
            (part.len(), done)
        };
        stdout.consume(used);
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

    const MANIFEST: &str = "{\"type\":\"manifest\",\"name\":\"hello\",\"version\":\"1.0.0\"}\n";

    fn patience(limit: Duration) -> (watch::Sender<bool>, Patience) {
        let (switch, suspended) = watch::channel(false);
        (switch, Patience { limit, suspended, excuse: Excuse::default() })
    }

    async fn manifest_of(bytes: &[u8]) -> Result<Arc<PluginManifest>, ReadError> {
        let (_switch, patience) = patience(Duration::from_secs(30));
        Dialect::V1.read_manifest(&mut BufReader::new(bytes), patience).await
    }

    #[tokio::test]
    async fn what_follows_the_two_lines_stays_in_the_reader() {
        let stream = format!("{MANIFEST}{{\"type\":\"ready\",\"ready\":true}}\r\nstray print\n");
        let mut reader = BufReader::with_capacity(7, stream.as_bytes());
        let (_switch, patience) = patience(Duration::from_secs(30));
        assert_eq!(Dialect::V1.read_manifest(&mut reader, patience.clone()).await.unwrap().name, "hello");
        assert!(Dialect::V1.read_ready(&mut reader, patience).await.unwrap().ready);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "stray print\n");
    }

    #[tokio::test]
    async fn a_line_that_never_ends_is_cut_at_its_bound() {
        let endless = vec![b'x'; MAX_MANIFEST_BYTES + 1];
        let error = manifest_of(&endless).await.unwrap_err().to_string();
        assert!(error.contains("longer than 65536 bytes"), "{error}");
    }

    #[tokio::test]
    async fn each_failure_says_what_was_seen() {
        let closed = manifest_of(b"").await.unwrap_err().to_string();
        assert!(closed.contains("closed before the manifest line"), "{closed}");
        let half = manifest_of(b"{\"type\":").await.unwrap_err().to_string();
        assert!(half.contains("was complete"), "{half}");
        let bytes = manifest_of(b"\xff\xfe\n").await.unwrap_err().to_string();
        assert!(bytes.contains("UTF-8"), "{bytes}");
        let order = manifest_of(b"{\"type\":\"ready\",\"ready\":true}\n").await.unwrap_err().to_string();
        assert!(order.contains("expected a line of type \"manifest\""), "{order}");
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_line_and_silence_are_told_apart_when_time_is_up() {
        for (sent, expected) in [("", "as soon as it runs"), ("{\"type\":", "flush stdout")] {
            let (mut plugin, host) = tokio::io::duplex(64);
            plugin.write_all(sent.as_bytes()).await.unwrap();
            let (_switch, patience) = patience(Duration::from_secs(30));
            let error = Dialect::V1.read_manifest(&mut BufReader::new(host), patience).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_deadline_counts_while_somebody_debugs() {
        let (mut plugin, host) = tokio::io::duplex(4096);
        let (switch, patience) = patience(Duration::from_secs(30));
        switch.send_replace(true);
        let mut reader = BufReader::new(host);
        let reading = tokio::spawn(async move { Dialect::V1.read_manifest(&mut reader, patience).await });
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        plugin.write_all(MANIFEST.as_bytes()).await.unwrap();
        assert_eq!(reading.await.unwrap().unwrap().name, "hello");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_a_debugger_holds_is_excused_and_one_that_was_let_go_is_not() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let (_plugin, host) = tokio::io::duplex(64);
        let held = Arc::new(AtomicBool::new(true));
        let (_switch, mut patience) = patience(Duration::from_secs(30));
        let seen = Arc::clone(&held);
        patience.excuse = Excuse::when(move || seen.load(Ordering::Relaxed));
        let started = tokio::time::Instant::now();
        let mut reader = BufReader::new(host);
        let reading = tokio::spawn(async move { Dialect::V1.read_manifest(&mut reader, patience).await });
        tokio::time::sleep(Duration::from_secs(100)).await;
        held.store(false, Ordering::Relaxed);
        assert!(matches!(reading.await.unwrap(), Err(ReadError::TooLate { .. })));
        assert_eq!(started.elapsed(), Duration::from_secs(120));
    }
}
