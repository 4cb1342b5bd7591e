//! The host's end with real parts: its socket, clients of it, servers that answer, and the audit trail on a disk.
//!
//! Bounds in time are set short where one of them is to end something. Nothing is measured.

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use temps_store::sqlite::SqliteStore;
use temps_store::{AuditFilter, AuditStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::{Bounds, Context, Listener, PluginEgress, SystemResolver};
use crate::audit::Audit;
use crate::grants::Grants;
use crate::metrics::Metrics;
use crate::plugin::logs::PluginLog;

/// The longest that anything may take; only a failing test ever waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bound in time that is to be reached.
const SHORT: Duration = Duration::from_millis(50);

/// One plugin's way out, open.
struct Rig {
    _directory: tempfile::TempDir,
    path: PathBuf,
    store: Arc<SqliteStore>,
    audit: Audit,
    // The plugin's actor is there for as long as this is.
    _grants: watch::Sender<Arc<Grants>>,
    over: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl Rig {
    fn start(bounds: Bounds, loopback: &[SocketAddrV4]) -> Self {
        Self::of_process(std::process::id(), bounds, loopback)
    }

    fn of_process(launcher: u32, bounds: Bounds, loopback: &[SocketAddrV4]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("temps.db")).unwrap();
        let audit = Audit::start(store.clone());
        let path = directory.path().join("egress.sock");
        let granted = Grants { egress: vec!["a.example:443".to_owned()], ..Grants::default() };
        let (grants, given) = watch::channel(Arc::new(granted));
        let context = Context {
            plugin: "hello".to_owned(),
            grants: given,
            set: PluginEgress { allow_loopback: loopback.to_vec(), without_tls: Vec::new() },
            bounds,
            resolver: Arc::new(SystemResolver),
            audit: audit.clone(),
            metrics: Metrics::default(),
            log: PluginLog::in_memory(),
        };
        let (over, ended) = oneshot::channel();
        let listener = Listener::bind(&path).unwrap();
        let served = tokio::spawn(listener.serve(context, launcher, async {
            let _ = ended.await;
        }));
        Self { _directory: directory, path, store, audit, _grants: grants, over: Some(over), served }
    }

    /// Puts a question, and returns the answer's line with the connection behind it.
    async fn ask(&self, line: &str) -> (String, UnixStream) {
        let mut stream = UnixStream::connect(&self.path).await.unwrap();
        stream.write_all(line.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") {
            match soon(stream.read_u8()).await {
                Ok(byte) => answer.push(byte),
                Err(_) => break,
            }
        }
        (String::from_utf8(answer).unwrap(), stream)
    }

    async fn connect(&self, to: SocketAddrV4) -> (String, UnixStream) {
        self.ask(&format!("connect {} {}\n", to.ip(), to.port())).await
    }

    /// An open connection, over which a byte has gone to and fro.
    async fn open(&self, to: SocketAddrV4) -> UnixStream {
        let (answer, mut stream) = self.connect(to).await;
        assert_eq!(answer, "yes\n");
        stream.write_all(b"x").await.unwrap();
        assert_eq!(soon(stream.read_u8()).await.unwrap(), b'x');
        stream
    }

    /// The details of all records of a kind.
    async fn records(&self, kind: &str) -> Vec<Value> {
        assert!(self.audit.flush().await);
        let all = self.store.audit(AuditFilter { limit: 1_000, ..AuditFilter::default() }).await.unwrap();
        all.into_iter().filter(|record| record.kind == kind).map(|record| record.detail).collect()
    }

    /// Ends the plugin, and returns what became of its connections.
    async fn end(mut self) -> Vec<Value> {
        drop(self.over.take());
        soon(&mut self.served).await.unwrap();
        self.records("egress.connection").await
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it comes to an end")
}

/// A server on loopback that sends back what comes.
async fn echo() -> SocketAddrV4 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let std::net::SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!() };
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    address
}

async fn ends(stream: &mut UnixStream) {
    let mut rest = Vec::new();
    // It may end by an error as well: what was on its way is thrown away.
    let _ = soon(stream.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn a_connection_beyond_the_bound_is_refused_and_told_and_another_plugin_is_not_hindered() {
    let server = echo().await;
    let bounds = Bounds::default();
    assert_eq!(bounds.connections, 32, "as the documentation says");
    let rig = Rig::start(bounds, &[server]);
    let mut open = Vec::new();
    for _ in 0..bounds.connections {
        open.push(rig.open(server).await);
    }
    let (answer, mut refused) = rig.connect(server).await;
    assert_eq!(answer, format!("no {server}: too many connections are open\n"));
    ends(&mut refused).await;
    let told = rig.records("egress.refused").await;
    assert_eq!((told.len(), &told[0]["reason"]), (1, &"too many connections are open".into()), "{told:?}");
    // Names are answered all the same.
    assert_eq!(rig.ask("ports a.example\n").await.0, "yes 443\n");

    let other = Rig::start(bounds, &[server]);
    drop(other.open(server).await);
    assert_eq!(other.end().await.len(), 1);

    // One that ends makes room.
    drop(open.pop());
    let look = async {
        while rig.connect(server).await.0 != "yes\n" {
            tokio::task::yield_now().await;
        }
    };
    soon(look).await;
    drop(open);
    rig.end().await;
}

#[tokio::test]
async fn connections_without_end_are_refused_within_their_minute() {
    let server = echo().await;
    let rig = Rig::start(Bounds { a_minute: 2, ..Bounds::default() }, &[server]);
    for _ in 0..2 {
        drop(rig.open(server).await);
    }
    for _ in 0..20 {
        let (answer, _) = rig.connect(server).await;
        assert_eq!(answer, format!("no {server}: more than 2 connections in a minute\n"));
    }
    assert_eq!(rig.records("egress.refused").await.len(), 1);
    assert_eq!(rig.end().await.len(), 2);
}

/// What a connection's record says after it was ended by a bound.
async fn outcome(bounds: Bounds, use_it: impl AsyncFnOnce(&mut UnixStream)) -> Value {
    let server = echo().await;
    let rig = Rig::start(bounds, &[server]);
    let mut stream = rig.open(server).await;
    soon(use_it(&mut stream)).await;
    let recorded = async {
        loop {
            if let Some(record) = rig.records("egress.connection").await.pop() {
                return record;
            }
        }
    };
    let record = soon(recorded).await;
    // The bound ended it, not this side.
    ends(&mut stream).await;
    record
}

#[tokio::test]
async fn a_connection_that_is_idle_for_too_long_ends() {
    let record = outcome(Bounds { idle: SHORT, ..Bounds::default() }, async |_| {}).await;
    assert_eq!(record["outcome"], "idle", "{record}");
}

#[tokio::test]
async fn a_connection_that_is_open_for_too_long_ends_although_it_is_used() {
    let record = outcome(Bounds { longest: SHORT, ..Bounds::default() }, async |stream| {
        let mut byte = [0];
        while stream.write_all(b"x").await.is_ok() && soon(stream.read(&mut byte)).await.unwrap_or(0) > 0 {}
    })
    .await;
    assert_eq!(record["outcome"], "too_long", "{record}");
}

#[tokio::test]
async fn a_connection_that_has_carried_too_much_ends_and_has_carried_no_more() {
    let bytes = 1_000_000;
    let record = outcome(Bounds { bytes, ..Bounds::default() }, async |stream| {
        let mut chunk = [0; 10_000];
        while stream.write_all(&chunk).await.is_ok() && soon(stream.read(&mut chunk)).await.unwrap_or(0) > 0 {
        }
    })
    .await;
    assert_eq!(record["outcome"], "too_much", "{record}");
    let carried = record["sent_bytes"].as_u64().unwrap() + record["received_bytes"].as_u64().unwrap();
    assert!(carried <= bytes && carried > bytes / 2, "{record}");
}

#[tokio::test]
async fn who_says_nothing_or_drips_is_given_up() {
    let rig = Rig::start(Bounds { first_bytes: SHORT, ..Bounds::default() }, &[]);
    let mut silent = UnixStream::connect(&rig.path).await.unwrap();
    ends(&mut silent).await;
    let mut half = UnixStream::connect(&rig.path).await.unwrap();
    half.write_all(b"connect a.exam").await.unwrap();
    ends(&mut half).await;

    let (answer, mut dripping) = rig.ask("connect a.example 443\n").await;
    assert_eq!(answer, "yes\n");
    // The beginning of a hello of 16,000 bytes, and then one byte after another.
    dripping.write_all(&[22, 3, 1, 0x3e, 0x84, 1, 0, 0x3e, 0x80]).await.unwrap();
    let drip = async {
        while dripping.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(drip).await;
    let told = rig.records("egress.refused").await;
    assert!(told[0]["reason"].as_str().unwrap().starts_with("no TLS hello came within"), "{told:?}");
    assert_eq!(rig.end().await, [] as [Value; 0], "nothing was opened");
}

#[tokio::test]
async fn a_connection_that_does_not_begin_with_a_hello_for_its_name_is_never_opened() {
    let rig = Rig::start(Bounds::default(), &[]);
    for (at, (bytes, why)) in [
        (&b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"[..], "it does not begin with TLS"),
        (b"\x16\x03\x01\x00\x04\x01\xff\xff\xff", "its TLS hello is longer than 16384 bytes"),
        (b"\x80\x2e\x01\x03\x01", "it does not begin with TLS"),
        (b"", "it ended before its TLS hello did"),
    ]
    .into_iter()
    .enumerate()
    {
        // However the name is written, it is recorded in one form.
        let name = ["a.example", "A.Example", "a.example.", "A.EXAMPLE."][at];
        let (answer, mut stream) = rig.ask(&format!("connect {name} 443\n")).await;
        assert_eq!(answer, "yes\n");
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        ends(&mut stream).await;
        let told = rig.records("egress.refused").await;
        assert!(
            told.iter().any(|record| record["reason"] == why && record["target"] == "a.example:443"),
            "{why}: {told:?}"
        );
    }
    assert_eq!(rig.end().await, [] as [Value; 0]);
}

#[tokio::test]
async fn what_is_asked_for_oddly_is_refused_before_anything_is_opened() {
    let rig = Rig::start(Bounds::default(), &[]);
    for (asked, why) in [
        ("connect 45.90.28.10 443", "addresses cannot be reached"),
        ("connect ::1 443", "addresses cannot be reached"),
        ("connect 0x7f000001 443", "addresses cannot be reached"),
        ("connect a.example 80", "this port was not"),
        ("connect a.example 0", "this port was not"),
        ("connect b.example 443", "it was not granted"),
        ("connect user@a.example 443", "no name of a public host"),
        ("connect localhost 443", "no name of a public host"),
    ] {
        let (answer, _) = rig.ask(&format!("{asked}\n")).await;
        assert!(answer.starts_with("no ") && answer.contains(why), "{asked}: {answer}");
    }
    // What is no line at all gets no answer.
    for asked in ["connect a.example 65536\n", "connect a.example\n", "GET / HTTP/1.1\r\n", "\n"] {
        assert_eq!(rig.ask(asked).await.0, "", "{asked:?}");
    }
    assert_eq!(rig.ask(&"x".repeat(600)).await.0, "");
}

#[tokio::test]
async fn the_end_of_a_plugin_is_the_end_of_its_connections() {
    let server = echo().await;
    let rig = Rig::start(Bounds::default(), &[server]);
    let (mut first, mut second) = (rig.open(server).await, rig.open(server).await);
    let path = rig.path.clone();
    let records = rig.end().await;
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record["outcome"] == "plugin_ended"), "{records:?}");
    ends(&mut first).await;
    ends(&mut second).await;
    assert!(!path.exists() && UnixStream::connect(&path).await.is_err());
}

#[tokio::test]
async fn who_is_no_process_of_the_plugin_gets_no_answer() {
    // Nobody is below a process that cannot be.
    let rig = Rig::of_process(i32::MAX.cast_unsigned(), Bounds::default(), &[]);
    assert_eq!(rig.ask("ports a.example\n").await.0, "");
    assert_eq!(rig.ask("connect a.example 443\n").await.0, "");
    assert_eq!(rig.records("egress.refused").await, [] as [Value; 0], "it is not the plugin's to answer for");
    rig.end().await;
}
