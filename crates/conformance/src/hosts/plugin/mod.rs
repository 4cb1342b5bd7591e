//! A scripted plugin: plays its part and writes down what the host does.
//!
//! Threads and blocking calls only: a plugin has a handful of connections, and what is seen stays in the order in which
//! it came.

mod channel;
mod events;
mod http;
mod posted;
mod questions;
mod routes;
mod start;
mod starts;
mod stop;
mod storage;
mod wire;

use std::io::{self, Write};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use self::channel::Channel;
use self::start::Start;
use super::ledger::Ledger;
use super::script::{Order, Script};

/// Exit status for a command line that is no host's.
const BAD_ARGUMENTS: u8 = 2;

/// No scripted plugin lives longer, so that none is left behind for long by a host that loses it.
const LIFETIME: Duration = Duration::from_secs(900);

/// What all threads of a plugin share.
struct Plugin {
    order: Order,
    start: Start,
    ledger: Ledger,
    /// How often it was started, this time among them. Inspections do not count.
    life: u64,
    begin: Instant,
    channel: Mutex<Option<Arc<Channel>>>,
    events: Mutex<events::Desk>,
}

impl Plugin {
    fn script(&self) -> Script {
        self.order.script
    }

    /// Headers for a message, without the secret.
    fn without_secret(&self, headers: &[(String, String)]) -> String {
        format!("{headers:?}").replace(&self.start.secret, "***")
    }

    /// The channel, while there is one.
    fn channel(&self) -> Option<Arc<Channel>> {
        locked(&self.channel).clone()
    }
}

/// The lock is never poisoned for good: what it guards is valid between any two statements.
fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Plays the script that this program carries.
#[must_use]
pub fn main() -> ExitCode {
    thread::spawn(|| {
        thread::sleep(LIFETIME);
        std::process::exit(0);
    });
    if stop::is_child() {
        return stop::live_as_child();
    }
    match play() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is all that there is to say it to.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(BAD_ARGUMENTS)
        }
    }
}

fn play() -> io::Result<()> {
    let order = Order::of_this_program()?;
    let start = Start::of_this_process()?;
    let ledger = Ledger::open(&start.data)?;
    let inspected = start.name.is_none();
    let life = if inspected { 0 } else { ledger.number("life") + 1 };
    if inspected {
        ledger.remember("inspected", true);
    } else {
        ledger.remember("life", life);
        ledger.remember(&format!("instance/{life}"), order.script.file());
    }
    let plugin = Arc::new(Plugin {
        order,
        start,
        ledger,
        life,
        begin: Instant::now(),
        channel: Mutex::default(),
        events: Mutex::default(),
    });
    events::resume(&plugin);
    stop::watch(&plugin)?;
    starts::judge_the_last(&plugin);
    greet(&plugin)
}

/// The two lines, in the order and the number that the script wants, and then the socket.
fn greet(plugin: &Arc<Plugin>) -> io::Result<()> {
    let (script, life) = (plugin.script(), plugin.life);
    match script {
        Script::TalksFirst => say("starting")?,
        Script::ReadyFirst => say(&script.ready())?,
        _ => {}
    }
    say(&script.manifest())?;
    let listener = listen(plugin)?;
    starts::before_ready(plugin);
    let ready = script.ready();
    if script == Script::Starts && life == starts::READY_FALSE {
        say(&ready.replacen("\"ready\":true", "\"ready\":false", 1))?;
    } else {
        say(&ready)?;
    }
    let shared = Arc::clone(plugin);
    thread::spawn(move || start::fill_the_output(&shared));
    for stream in listener.incoming() {
        let (shared, stream) = (Arc::clone(plugin), stream?);
        thread::spawn(move || {
            // An error ends the connection, and nothing else.
            let _ = http::serve(&shared, stream);
        });
    }
    Ok(())
}

fn listen(plugin: &Plugin) -> io::Result<UnixListener> {
    match std::fs::remove_file(&plugin.start.socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(&plugin.start.socket),
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}
