//! A plugin that misbehaves on purpose. What it does wrong stands behind its own program, in its file; see
//! [`temps_testkit::Behaviour`]. Without an order it is an honest plugin named `unruly`.
//!
//! It speaks the protocol by hand and knows neither the host nor an SDK. Whatever happens to it, it ends by itself
//! after [`LIFETIME`], so that a test that loses one leaves nothing behind for long.

mod acks;
mod channel;
mod http;
mod routes;
mod sins;

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use temps_testkit::behaviour::{Behaviour, DAEMON_MARK, MAX_TRAILER_BYTES};
use temps_testkit::{Sin, Step};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

/// No copy of this program lives longer.
const LIFETIME: Duration = Duration::from_secs(600);

/// Exit code for a command line that a plugin does not understand.
const BAD_ARGUMENTS: i32 = 2;

/// Everything that the routes, the channel and the sins share.
struct Plugin {
    order: Behaviour,
    secret: String,
    socket_path: PathBuf,
    data_dir: PathBuf,
    started: Instant,
    /// Frames to send over the channel; absent while there is none.
    channel: Mutex<Option<mpsc::Sender<channel::Outgoing>>>,
    /// Requests that wait for their response, by id.
    waiting: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
    next_id: AtomicU64,
    /// How many answers came, by `ok` or by error code.
    answers: Mutex<BTreeMap<String, u64>>,
    events_file: Mutex<()>,
}

impl Plugin {
    /// The first value that `pick` finds among the sins.
    fn sin<T>(&self, pick: impl Fn(&Sin) -> Option<T>) -> Option<T> {
        self.order.sins.iter().find_map(pick)
    }

    fn has(&self, sin: &Sin) -> bool {
        self.order.sins.contains(sin)
    }

    fn exit_if_ordered(&self, now: Step) {
        if let Some(code) = self.sin(|sin| match sin {
            Sin::ExitAt { step, code } if *step == now => Some(*code),
            _ => None,
        }) {
            std::process::exit(code);
        }
    }

    /// Keeps an event for `GET /events`, then dies of it when that is the order.
    fn record_event(&self, event: &Value) -> std::io::Result<()> {
        {
            let _one_at_a_time = self.events_file.lock();
            let path = self.data_dir.join("events.jsonl");
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
            file.write_all(format!("{event}\n").as_bytes())?;
        }
        let fatal = self.sin(|sin| match sin {
            Sin::CrashOnEvent { event_type } if event["event_type"] == event_type.as_str() => Some(()),
            Sin::CrashOnEventId { id } if event["id"] == id.as_str() => Some(()),
            _ => None,
        });
        if fatal.is_some() {
            std::process::abort();
        }
        Ok(())
    }
}

fn main() -> std::io::Result<()> {
    std::thread::spawn(|| {
        std::thread::sleep(LIFETIME);
        std::process::exit(0);
    });
    let order = read_order().unwrap_or_else(|| Behaviour::honest("unruly"));
    let Some((socket_path, secret, data_dir)) = parse_arguments() else {
        writeln!(std::io::stderr(), "usage: --socket-path P --auth-secret S --data-dir D")?;
        std::process::exit(BAD_ARGUMENTS);
    };
    if let Ok(part) = std::env::var(DAEMON_MARK) {
        return sins::live_as_daemon(&part, &data_dir);
    }
    let plugin = Arc::new(Plugin {
        order,
        secret,
        socket_path,
        data_dir,
        started: Instant::now(),
        channel: Mutex::default(),
        waiting: Mutex::default(),
        next_id: AtomicU64::new(1),
        answers: Mutex::default(),
        events_file: Mutex::default(),
    });
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(live(plugin))
}

async fn live(plugin: Arc<Plugin>) -> std::io::Result<()> {
    tokio::spawn(end_on_sigterm(plugin.clone())?);
    plugin.exit_if_ordered(Step::Start);
    sins::before_the_manifest(&plugin).await?;
    write_line(&manifest_line(&plugin.order)?)?;
    plugin.exit_if_ordered(Step::Manifest);
    let listener = if plugin.has(&Sin::SocketNeverBound) {
        None
    } else {
        match std::fs::remove_file(&plugin.socket_path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => Some(UnixListener::bind(&plugin.socket_path)?),
        }
    };
    write_line(&ready_line(&plugin.order).to_string())?;
    plugin.exit_if_ordered(Step::Ready);
    sins::after_ready(&plugin)?;
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(http::serve(plugin.clone(), stream));
            }
            // Out of descriptors: a sin may have eaten them. Waiting keeps this from spinning.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn end_on_sigterm(plugin: Arc<Plugin>) -> std::io::Result<impl Future<Output = ()>> {
    let mut terminations = signal(SignalKind::terminate())?;
    Ok(async move {
        while terminations.recv().await.is_some() {
            if !plugin.has(&Sin::IgnoresSigterm) {
                // The socket file is a courtesy: the host clears its place anyway.
                let _ = std::fs::remove_file(&plugin.socket_path);
                std::process::exit(0);
            }
        }
    })
}

fn read_order() -> Option<Behaviour> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::open("/proc/self/exe").ok()?;
    let length = file.metadata().ok()?.len();
    let from = length.saturating_sub(MAX_TRAILER_BYTES as u64);
    let mut tail = vec![0; usize::try_from(length - from).ok()?];
    file.read_exact_at(&mut tail, from).ok()?;
    Behaviour::from_tail(&tail)
}

/// Reads the three arguments; anything else is refused, as existing plugins do.
fn parse_arguments() -> Option<(PathBuf, String, PathBuf)> {
    let (mut socket, mut secret, mut data) = (None, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match name.as_str() {
            "--socket-path" => socket = Some(value.into()),
            "--auth-secret" => secret = Some(value),
            "--data-dir" => data = Some(value.into()),
            _ => return None,
        }
    }
    Some((socket?, secret?, data?))
}

/// The manifest line. With [`Sin::ChangingManifest`] it asks for an event that it has never asked for before.
fn manifest_line(order: &Behaviour) -> std::io::Result<String> {
    let mut events = order.events.clone();
    if order.sins.contains(&Sin::ChangingManifest) {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_err(std::io::Error::other)?;
        events.push(format!("unruly.t{}", now.as_nanos()));
    }
    let mut manifest = json!({
        "type": "manifest", "name": order.name, "version": "1.0.0",
        "description": "Misbehaves on purpose", "events": events, "health_path": "/health",
    });
    for (field, value) in &order.manifest {
        manifest[field] = value.clone();
    }
    Ok(manifest.to_string())
}

fn ready_line(order: &Behaviour) -> Value {
    let mut ready =
        json!({"type": "ready", "ready": !order.sins.contains(&Sin::ReadyFalse), "has_ui": false});
    for (field, value) in &order.ready {
        ready[field] = value.clone();
    }
    ready
}

fn write_line(line: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}
