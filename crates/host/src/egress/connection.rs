//! One wish of a plugin: asked for in a line, decided, and then, for a connection, checked, opened and passed on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use temps_sandbox::{Answer, MAX_LINE, Question};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout};

use super::hello::{self, Hello, MAX_HELLO_BYTES};
use super::listener::Door;
use super::policy::{self, Permit};
use super::resolve;
use crate::grants::Grants;
use crate::metrics::Metrics;

/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;

/// Why a connection was not opened, or did not end by itself: a word for metrics and audit, and words for people.
struct Failure(&'static str, String);

/// What became of an open connection.
#[derive(Default)]
struct Account {
    address: Option<SocketAddr>,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Account {
    fn passed(&self) -> u64 {
        self.sent.load(Ordering::Relaxed) + self.received.load(Ordering::Relaxed)
    }
}

/// Serves one wish to its end.
pub(super) async fn run(mut stream: UnixStream, door: &Door) {
    let asked = timeout(door.of.bounds.first_bytes, read_line(&mut stream));
    let (question, first) = tokio::select! {
        asked = asked => match asked {
            Ok(Ok(asked)) => asked,
            _ => return,
        },
        () = door.closing.cancelled() => return,
    };
    match question {
        Question::Ports(name) => {
            let granted = door.of.grants.borrow().egress.clone();
            let answer = policy::ports(&name, &granted).map_or_else(
                |refusal| {
                    door.refused(&name, refusal.as_str(), &refusal.to_string());
                    Answer::No(refusal.to_string())
                },
                Answer::Yes,
            );
            // A plugin that does not want to know any more need not.
            let _ = say(&mut stream, &answer).await;
        }
        Question::Connect(host, port) => connect(stream, first, &host, port, door).await,
    }
}

/// The question, and what was sent behind it.
async fn read_line(stream: &mut UnixStream) -> io::Result<(Question, Vec<u8>)> {
    let mut read = Vec::with_capacity(MAX_LINE);
    loop {
        if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            let rest = read.split_off(end + 1);
            let line = std::str::from_utf8(&read).map_err(io::Error::other)?;
            return Ok((line.parse().map_err(io::Error::other)?, rest));
        }
        if read_more(stream, &mut read, MAX_LINE).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

/// Reads once, up to `most` bytes in all; 0 means that there are no more or that there is no room.
async fn read_more(stream: &mut UnixStream, to: &mut Vec<u8>, most: usize) -> io::Result<usize> {
    let mut chunk = vec![0; most.saturating_sub(to.len()).min(CHUNK)];
    let read = stream.read(&mut chunk).await?;
    to.extend_from_slice(&chunk[..read]);
    Ok(read)
}

async fn say(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    stream.write_all(answer.to_string().as_bytes()).await
}

async fn connect(mut stream: UnixStream, first: Vec<u8>, host: &str, port: u16, door: &Door) {
    let target = format!("{host}:{port}");
    let granted = door.of.grants.borrow().egress.clone();
    let permit = match policy::decide(host, port, &granted, &door.of.set) {
        Ok(permit) => permit,
        Err(refusal) => {
            door.refused(&target, refusal.as_str(), &refusal.to_string());
            let _ = say(&mut stream, &Answer::No(format!("{target}: {refusal}"))).await;
            return;
        }
    };
    let target = permit.to_string();
    let Ok(_place) = door.room.try_acquire() else {
        let why = "too many connections are open";
        door.refused(&target, "too_many", why);
        let _ = say(&mut stream, &Answer::No(format!("{target}: {why}"))).await;
        return;
    };
    if !door.in_time() {
        let why = format!("more than {} connections in a minute", door.of.bounds.a_minute);
        door.refused(&target, "too_many", &why);
        let _ = say(&mut stream, &Answer::No(format!("{target}: {why}"))).await;
        return;
    }
    if say(&mut stream, &Answer::Yes(Vec::new())).await.is_err() {
        return;
    }
    let began = Instant::now();
    let mut account = Account::default();
    let ended = tokio::select! {
        ended = pass(stream, first, &permit, door, &mut account) => ended,
        () = revoked(host, port, door) => Err(Failure("revoked", "its grant was taken back".to_owned())),
        () = door.closing.cancelled() => Err(Failure("plugin_ended", "the plugin ended".to_owned())),
    };
    record(&target, &account, &ended, began, door);
}

/// Ends when what permits a connection is gone.
async fn revoked(host: &str, port: u16, door: &Door) {
    let mut grants = door.of.grants.clone();
    let refused = |grants: &Arc<Grants>| policy::decide(host, port, &grants.egress, &door.of.set).is_err();
    let ended = grants.wait_for(refused).await.is_err();
    if ended {
        // The sender ends with the plugin's actor, and that is told in another way.
        std::future::pending::<()>().await;
    }
}

/// Checks the beginning, opens the connection and passes bytes on until it ends.
async fn pass(
    mut plugin: UnixStream,
    mut first: Vec<u8>,
    permit: &Permit,
    door: &Door,
    account: &mut Account,
) -> Result<(), Failure> {
    let bounds = &door.of.bounds;
    let addresses = match permit {
        Permit::Loopback(address) => vec![SocketAddr::V4(*address)],
        Permit::Name { name, port, tls } => {
            if *tls {
                check_hello(&mut plugin, &mut first, name, bounds.first_bytes).await?;
            }
            let found = resolve::public(&door.of.resolver, &door.lookups, name, *port).await;
            found.map_err(|error| Failure(error.word(), error.to_string()))?
        }
    };
    let mut outside = open(&addresses, bounds.connect).await?;
    account.address = outside.peer_addr().ok();
    outside.write_all(&first).await.map_err(|error| broken(&error))?;
    account.sent.fetch_add(first.len() as u64, Ordering::Relaxed);
    let (mut from_plugin, mut to_plugin) = plugin.split();
    let (mut from_outside, mut to_outside) = outside.split();
    let room = &|read: usize| account.passed() + read as u64 <= bounds.bytes;
    let flows = async {
        tokio::try_join!(
            pump(&mut from_plugin, &mut to_outside, &account.sent, room),
            pump(&mut from_outside, &mut to_plugin, &account.received, room),
        )
    };
    tokio::select! {
        ended = flows => match ended {
            Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => {
                Err(Failure("too_much", format!("it carried {} bytes", bounds.bytes)))
            }
            ended => ended.map(drop).map_err(|error| broken(&error)),
        },
        () = idle(account, bounds.idle) => {
            Err(Failure("idle", format!("nothing was sent for {} s", bounds.idle.as_secs())))
        }
        () = sleep(bounds.longest) => {
            Err(Failure("too_long", format!("it was open for {} s", bounds.longest.as_secs())))
        }
    }
}

fn broken(error: &io::Error) -> Failure {
    Failure("broken", error.to_string())
}

/// Reads the plugin's first bytes until they are a whole hello, which must be meant for `name`.
async fn check_hello(
    plugin: &mut UnixStream,
    first: &mut Vec<u8>,
    name: &str,
    within: Duration,
) -> Result<(), Failure> {
    let refused = |why: String| Failure("hello", why);
    let read = async {
        loop {
            match hello::read(first) {
                Ok(Hello::For(found)) => return Ok(found),
                Ok(Hello::More) => {}
                Err(error) => return Err(refused(error.to_string())),
            }
            if read_more(plugin, first, MAX_HELLO_BYTES).await.map_err(|error| broken(&error))? == 0 {
                return Err(refused("it ended before its TLS hello did".to_owned()));
            }
        }
    };
    let slow = || refused(format!("no TLS hello came within {} s", within.as_secs()));
    let found = timeout(within, read).await.map_err(|_| slow())??;
    let same = found.strip_suffix('.').unwrap_or(&found) == name;
    if same { Ok(()) } else { Err(refused(format!("its TLS hello names {found}"))) }
}

/// Connects to the first address that answers.
async fn open(addresses: &[SocketAddr], within: Duration) -> Result<TcpStream, Failure> {
    let tried = async {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(Failure("unreachable", last.to_string()))
    };
    let slow = || Failure("unreachable", format!("it was not reached within {} s", within.as_secs()));
    let stream = timeout(within, tried).await.map_err(|_| slow())??;
    // Waiting for more to send is the plugin's to do, or not.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Passes bytes on until there are no more, and then the end. More than there is `room` for are too many.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    count: &AtomicU64,
    room: &impl Fn(usize) -> bool,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        if !room(read) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        to.write_all(&chunk[..read]).await?;
        count.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// Ends when nothing was passed on for too long.
async fn idle(account: &Account, longest: Duration) {
    loop {
        let before = account.passed();
        sleep(longest).await;
        if account.passed() == before {
            return;
        }
    }
}

/// Writes down what became of a connection. What was refused before it was open counts as a refusal.
fn record(target: &str, account: &Account, ended: &Result<(), Failure>, began: Instant, door: &Door) {
    let (word, why) = match ended {
        Ok(()) => ("closed", None),
        Err(Failure(word, why)) => (*word, Some(why.as_str())),
    };
    let Some(address) = account.address else {
        return door.refused(target, word, why.unwrap_or_default());
    };
    let plugin = door.of.plugin.as_str();
    let (sent, received) = (account.sent.load(Ordering::Relaxed), account.received.load(Ordering::Relaxed));
    let metrics = &door.of.metrics;
    metrics.egress_connections.get_or_create(&Metrics::of_and(plugin, word)).inc();
    metrics.egress_bytes.get_or_create(&Metrics::of_and(plugin, "out")).inc_by(sent);
    metrics.egress_bytes.get_or_create(&Metrics::of_and(plugin, "in")).inc_by(received);
    let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let detail = json!({
        "target": target, "address": address.to_string(), "outcome": word, "reason": why,
        "sent_bytes": sent, "received_bytes": received, "milliseconds": milliseconds,
    });
    door.of.audit.record("egress.connection", Some(plugin), &format!("plugin:{plugin}"), detail);
}
