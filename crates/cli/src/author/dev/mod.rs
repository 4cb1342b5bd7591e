//! `temps plugin dev`: a plugin on a platform of its own, again after each edit, with everything in sight.
//!
//! The platform is the daemon itself, in a home that is gone afterwards: the plugin is inspected, granted, confined,
//! started and fed as in production. `world` is what the platform has, `watch` says when a file changed, `stage` is all that
//! runs, `plugin` does what an operator would, `keys` is what can be typed, `scene` turns what happens into lines, `wishes`
//! compares what the plugin asks for with what it does.

mod keys;
mod plugin;
mod scene;
mod stage;
mod watch;
mod wishes;
mod world;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use temps_host::tap::Told;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use self::scene::Line;
use self::stage::{Happening, Stage};
use self::watch::Change;
use super::project::Project;
use crate::exit::Failure;
use crate::output::Output;
use crate::recording::Recorder;

/// How long work that cannot be interrupted may hold up the end.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// Lines of the keyboard that wait to be looked at.
const KEYS: usize = 16;

/// How a plugin is developed.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Directory of the project
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Address of the simulated platform [default: a free port of this machine]
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Keep the traffic between host and plugin in this file, one step a line, secrets masked
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Let a debugger hold the plugin: no deadlines of its start, no health checks, nothing that would end it
    #[arg(long)]
    debug_wait: bool,
    /// Show health checks and pings, too
    #[arg(long)]
    all: bool,
}

/// Runs until Ctrl-C.
pub(super) fn run(arguments: &Arguments, output: Output) -> Result<(), Failure> {
    let project = Project::find(&arguments.dir)?;
    let recorder = arguments.record.as_deref().map(|path| Recorder::create(path, u64::MAX)).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other("runtime", format!("cannot start: {error}")))?;
    let result = runtime.block_on(develop(arguments, project, recorder, output));
    runtime.shutdown_timeout(LAST_MOMENT);
    result
}

async fn develop(
    arguments: &Arguments,
    project: Project,
    mut recorder: Option<Recorder>,
    output: Output,
) -> Result<(), Failure> {
    // Before the start, so that nothing stays behind when it is interrupted.
    let listen = |kind| signal(kind).map_err(|error| Failure::other("signals", error.to_string()));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    world::ensure(&project.directory, output)?;
    let mut changes = watch::Changes::of(&project.directory, arguments.record.as_deref())?;
    let mut stage = Stage::open(arguments, project, output).await?;
    let mut keys = keyboard();
    let result = loop {
        let step = tokio::select! {
            _ = interrupt.recv() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
            happening = stage.next() => match happening {
                Ok(Happening::Told(told)) => record(&mut recorder, &told).and_then(|()| stage.show(&told)),
                Ok(Happening::Shown(line)) => output.entry(&line, Line::text),
                Ok(Happening::Audited) => stage.look().await,
                Ok(Happening::Built(done)) => stage.put(done),
                Err(failure) => Err(failure),
            },
            change = changes.next() => match change {
                Change::World => stage.apply_world().await,
                // The world may have changed with it.
                Change::Code => stage.apply_world().await.and_then(|()| stage.build()),
            },
            Some(key) = keys.recv() => match key.trim() {
                "q" => break Ok(()),
                key => stage.press(key).await,
            },
        };
        if let Err(failure) = step {
            break Err(failure);
        }
    };
    // How the plugin ended belongs to the recording.
    for told in stage.close().await {
        record(&mut recorder, &told)?;
    }
    // Nobody reads any more is as good an end as Ctrl-C.
    result
}

fn record(recorder: &mut Option<Recorder>, told: &Told) -> Result<(), Failure> {
    match (recorder, told) {
        (Some(recorder), Told::Step(observed)) if !observed.inspection => {
            recorder.keep(&observed.step).map(drop)
        }
        (Some(recorder), Told::Lost(steps)) => recorder.lose(*steps).map(drop),
        _ => Ok(()),
    }
}

/// Lines of the terminal, or of whatever stands at stdin; its end ends nothing.
fn keyboard() -> mpsc::Receiver<String> {
    let (tell, keys) = mpsc::channel(KEYS);
    // A thread, because nothing can interrupt a read of a terminal; it ends with the process.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if tell.blocking_send(line).is_err() {
                return;
            }
        }
    });
    keys
}
