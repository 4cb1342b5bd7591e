//! One connection to the relay, from its first words to its end.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::login::Session;
use super::relay::Door;
use super::startup::{self, CancelKey, MAX_STARTUP, Request, Wishes};
use super::traffic::{Broken, Messages, Work};

/// How long a client has for its first words. It sends them at once.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests for encryption that are answered before a client has to begin: one for each kind that there is.
const ENCRYPTION_REQUESTS: usize = 2;

/// What a statement has beyond the role's own time-out, which normally ends it first and with a better message.
const STATEMENT_SLACK: Duration = Duration::from_secs(2);

/// How long the server has to end a statement that was cancelled before its session is cut.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// Silence after which a session is ended. Pools keep connections for minutes, not for hours.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Bytes that are copied at once.
const BUFFER: usize = 16 * 1024;

/// Why a session ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// One of the sides left.
    Left,
    /// A statement took too long, and could not be cancelled.
    TooLong,
    /// Nothing happened.
    Idle,
    /// The plugin's run or its grant ended.
    Closing,
}

/// Serves one connection.
pub(super) async fn run(mut client: UnixStream, door: &Door) {
    let served = tokio::select! {
        served = timeout(STARTUP_TIMEOUT, begin(&mut client)) => served,
        () = door.closing.cancelled() => return,
    };
    let wishes = match served {
        Ok(Ok(Request::Session(wishes))) => wishes,
        Ok(Ok(Request::Cancel(key))) => {
            // A key of somebody else's session goes nowhere, and nobody is told so.
            if door.knows(key) {
                door.databases.cancel(key).await;
            }
            return;
        }
        // Gone, or slow, or not to be understood; whoever could be told was told.
        _ => return,
    };
    let Ok(_place) = door.room.try_acquire() else {
        let most = door.databases.connections();
        let message = format!("this plugin has {most} database sessions already; close some, or use a pool");
        return refuse(&mut client, "53300", &message).await;
    };
    let opened = tokio::select! {
        opened = door.databases.open(&door.plugin, &wishes.settings) => opened,
        () = door.closing.cancelled() => return,
    };
    match opened {
        Ok(session) => {
            let key = session.key;
            key.into_iter().for_each(|key| door.enter(key));
            relay(client, session, &wishes, door).await;
            key.into_iter().for_each(|key| door.leave(key));
        }
        Err(error) => {
            tracing::debug!(plugin = door.plugin, %error, "a database session could not be opened");
            let (code, message) = error.for_the_plugin();
            refuse(&mut client, code, &message).await;
        }
    }
}

/// Reads the first words. What is refused was answered.
async fn begin(client: &mut UnixStream) -> io::Result<Request> {
    for _ in 0..=ENCRYPTION_REQUESTS {
        let length = client.read_u32().await? as usize;
        if !(8..=MAX_STARTUP).contains(&length) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut body = vec![0; length - 4];
        client.read_exact(&mut body).await?;
        match startup::parse(&body) {
            Ok(Request::Encryption) => client.write_all(b"N").await?,
            Ok(request) => return Ok(request),
            Err(refusal) => {
                refuse(client, refusal.code(), &refusal.to_string()).await;
                break;
            }
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Passes everything on in both directions until one side leaves, or something ends the session.
async fn relay(client: UnixStream, session: Session, wishes: &Wishes, door: &Door) {
    let Session { stream, greeting, key } = session;
    let (from_client, mut to_client) = client.into_split();
    let (from_server, to_server) = tokio::io::split(stream);
    let mut hello = wishes.unknown.as_deref().map(other_protocol).unwrap_or_default();
    hello.extend(greeting);
    if to_client.write_all(&hello).await.is_err() {
        return;
    }
    let work = watch::Sender::new(Work::new(Instant::now()));
    let limit = door.databases.statement_timeout() + STATEMENT_SLACK;
    let end = tokio::select! {
        _ = pump(from_client, to_server, &work, Work::asked) => End::Left,
        _ = pump(from_server, &mut to_client, &work, Work::answered) => End::Left,
        end = guard(work.subscribe(), limit, key, door) => end,
        () = door.closing.cancelled() => End::Closing,
    };
    match end {
        End::Idle => {
            let message = format!("nothing was said for {} minutes", IDLE_TIMEOUT.as_secs() / 60);
            let _ = to_client.write_all(&error_message("57P05", &message)).await;
        }
        End::TooLong => {
            tracing::warn!(plugin = door.plugin, "a database session did not end its statement and was cut")
        }
        End::Left | End::Closing => {}
    }
    let is_busy = work.borrow().since.is_some();
    if let (true, Some(key)) = (is_busy, key) {
        // Nobody waits for the answer any more, so the server need not go on.
        door.databases.cancel(key).await;
    }
}

/// Copies one direction and notes what begins in it.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    work: &watch::Sender<Work>,
    note: fn(&mut Work, u8, Instant),
) -> io::Result<()> {
    let (mut messages, mut buffer) = (Messages::default(), vec![0; BUFFER]);
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let (piece, now) = (&buffer[..read], Instant::now());
        let mut fed = Ok(());
        work.send_modify(|work| {
            work.heard = now;
            fed = messages.feed(piece, |kind| note(work, kind, now));
        });
        fed.map_err(|broken: Broken| io::Error::other(broken))?;
        to.write_all(piece).await?;
        to.flush().await?;
    }
}

/// Cancels what takes too long, and returns when that does not help or when nothing happens any more.
async fn guard(mut work: watch::Receiver<Work>, limit: Duration, key: Option<CancelKey>, door: &Door) -> End {
    let mut cancelled = None;
    loop {
        let now = *work.borrow_and_update();
        let (due, end) = match (now.due(limit), cancelled == now.since && cancelled.is_some()) {
            (Some(due), true) => (due + CANCEL_GRACE, Some(End::TooLong)),
            (Some(due), false) => (due, None),
            (None, _) => (now.heard + IDLE_TIMEOUT, Some(End::Idle)),
        };
        tokio::select! {
            changed = work.changed() => if changed.is_err() {
                return End::Left;
            },
            () = sleep_until(due) => match (end, key) {
                (Some(end), _) => return end,
                (None, Some(key)) => {
                    cancelled = now.since;
                    door.databases.cancel(key).await;
                }
                (None, None) => return End::TooLong,
            },
        }
    }
}

async fn refuse(client: &mut UnixStream, code: &str, message: &str) {
    // A client that does not listen learns nothing, and nothing else depends on it.
    let _ = timeout(STARTUP_TIMEOUT, client.write_all(&error_message(code, message))).await;
}

/// An error after which the connection is closed, as PostgreSQL says it.
fn error_message(code: &str, message: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, text) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', message)] {
        body.push(kind);
        body.extend(text.bytes().filter(|byte| *byte != 0));
        body.push(0);
    }
    body.push(0);
    framed(b'E', &body)
}

/// Tells a client of a newer protocol that version 3.0 is spoken, and which options are not known.
fn other_protocol(unknown: &[String]) -> Vec<u8> {
    let mut body = (3u32 << 16).to_be_bytes().to_vec();
    body.extend(u32::try_from(unknown.len()).unwrap_or(0).to_be_bytes());
    for name in unknown {
        body.extend(name.bytes());
        body.push(0);
    }
    framed(b'v', &body)
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes());
    message.extend(body);
    message
}
