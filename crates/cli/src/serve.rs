//! `temps serve`: runs the daemon until it is told to stop.
//!
//! SIGTERM and SIGINT let work in flight finish and stop the plugins; a second one ends the daemon at once, and the
//! kernel takes the plugins with it. SIGHUP reads the settings again and takes them over when they are valid. What a
//! person should know comes on stdout, the daemon's log on stderr.

use std::io::IsTerminal;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use temps_server::config::{Config, Overrides};
use temps_server::{Server, ServerHandle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::arguments::Global;
use crate::exit::{Exit, Failure};
use crate::output::{Output, time};
use crate::target::settings;

/// How long work that cannot be interrupted may hold up the end of the process after everything was stopped.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// How the daemon runs.
#[derive(Debug, Clone, Args)]
pub(crate) struct Arguments {
    /// Serve a small local site and deploy it again and again, so that there is something to see
    #[arg(long)]
    demo: bool,
    /// Address to listen on [default: 127.0.0.1:6160]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Directory whose executables are plugins; may be given more than once
    #[arg(long = "plugins-dir", value_name = "DIR")]
    plugins_dirs: Vec<PathBuf>,
    /// For development: let a plugin reach an address of this machine, as PLUGIN=127.0.0.1:PORT; may be given more than once
    #[arg(long, value_name = "PLUGIN=ADDRESS", value_parser = loopback_target)]
    allow_loopback: Vec<(String, SocketAddrV4)>,
    /// How browsers reach the daemon, when that is not the address that it listens on
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// How the log on stderr is written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a filter like `info,temps_host=debug`
    #[arg(long, env = "TEMPS_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Said on stdout once the daemon answers.
#[derive(Serialize)]
struct Started {
    /// Where it listens.
    url: String,
    /// A link that signs one browser in, once.
    login_url: String,
    /// Until when the link works.
    login_expires_at: chrono::DateTime<chrono::Utc>,
    /// Where plugins are put.
    plugins_dir: PathBuf,
    /// Where events and everything else are kept, without a password.
    database: String,
    /// Process id of the daemon.
    pid: u32,
}

/// Runs the daemon.
pub(crate) fn run(global: &Global, arguments: &Arguments, output: Output) -> Result<(), Failure> {
    start_log(arguments)?;
    let config = configure(global, arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other("runtime", format!("cannot start: {error}")))?;
    let result = runtime.block_on(serve(global, arguments, config, output));
    runtime.shutdown_timeout(LAST_MOMENT);
    result
}

fn configure(global: &Global, arguments: &Arguments) -> Result<Config, Failure> {
    let overrides = Overrides {
        listen: arguments.listen,
        plugins_dirs: arguments.plugins_dirs.clone(),
        public_url: arguments.public_url.clone(),
        demo: arguments.demo,
        allow_loopback: arguments.allow_loopback.clone(),
        ..Overrides::default()
    };
    settings(global, overrides)
}

/// Reads `PLUGIN=127.0.0.1:PORT`.
fn loopback_target(text: &str) -> Result<(String, SocketAddrV4), String> {
    let wrong = || "write it as PLUGIN=127.0.0.1:PORT".to_owned();
    let (plugin, address) = text.split_once('=').ok_or_else(wrong)?;
    Ok((plugin.to_owned(), address.parse().map_err(|_| wrong())?))
}

fn start_log(arguments: &Arguments) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&arguments.log)
        .map_err(|error| Failure::usage(format!("{:?} is not a log filter: {error}", arguments.log)))?;
    // At its finest level this library shows whole frames of channels, and secrets of configurations are among them.
    let filter = match "tungstenite=debug".parse() {
        Ok(quieter) => filter.add_directive(quieter),
        Err(_) => filter,
    };
    let colours =
        std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    let set = match arguments.log_format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| Failure::other("log", format!("cannot start the log: {error}")))
}

async fn serve(
    global: &Global,
    arguments: &Arguments,
    config: Config,
    output: Output,
) -> Result<(), Failure> {
    // Before the start, so that a signal while it starts is not lost.
    let signals = Signals::listen()?;
    let server = Server::start(config)
        .await
        .map_err(|error| Failure::other("not_started", format!("the daemon cannot start: {error}")))?;
    output.entry(&Started::of(&server), announcement)?;
    let handle = server.handle();
    let (stop, stopping) = tokio::sync::oneshot::channel();
    // Whether the sender was used or dropped, it is time to stop.
    let ended = server.run(async { drop(stopping.await) });
    tokio::select! {
        () = ended => {
            tracing::info!("stopped");
            Ok(())
        }
        failure = obey(signals, stop, global, arguments, &handle) => Err(failure),
    }
}

/// Does what signals say: takes over settings, begins the stop, and resolves when it is to end at once.
async fn obey(
    mut signals: Signals,
    stop: tokio::sync::oneshot::Sender<()>,
    global: &Global,
    arguments: &Arguments,
    handle: &ServerHandle,
) -> Failure {
    let mut stop = Some(stop);
    loop {
        match signals.next().await {
            Told::Reload => reload(global, arguments, handle).await,
            Told::Stop => match stop.take() {
                Some(stop) => {
                    tracing::info!("stopping; a second signal ends at once");
                    // The receiver is there as long as the daemon runs.
                    let _ = stop.send(());
                }
                None => {
                    return Failure::new(Exit::Interrupted, "forced", "ended at once, with work in flight");
                }
            },
        }
    }
}

impl Started {
    fn of(server: &Server) -> Self {
        let started = server.started();
        Self {
            url: started.url.clone(),
            login_url: started.login_link.url.clone(),
            login_expires_at: started.login_link.expires_at,
            plugins_dir: started.places.plugins_dirs.first().cloned().unwrap_or_default(),
            database: started.database.clone(),
            pid: std::process::id(),
        }
    }
}

fn announcement(started: &Started) -> String {
    format!(
        "temps listens on {}\nsign in (once, until {}): {}\nplugins go into {}\neverything is kept in {}",
        started.url,
        time(started.login_expires_at),
        started.login_url,
        started.plugins_dir.display(),
        started.database
    )
}

/// Takes over new settings, all of them or, when one is wrong, none.
async fn reload(global: &Global, arguments: &Arguments, handle: &ServerHandle) {
    let config = match configure(global, arguments) {
        Ok(config) => config,
        Err(failure) => {
            tracing::error!("settings not reloaded, the old ones stay in force: {failure}");
            return;
        }
    };
    match handle.reload(config).await {
        Ok(done) => {
            tracing::info!(changed = ?done.changed, needs_restart = ?done.needs_restart, "settings reloaded");
        }
        Err(error) => tracing::error!("settings not reloaded, the old ones stay in force: {error}"),
    }
}

/// What a signal tells the daemon.
enum Told {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let on = |kind| {
            signal(kind)
                .map_err(|error| Failure::other("signals", format!("cannot listen to signals: {error}")))
        };
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
        }
    }
}
