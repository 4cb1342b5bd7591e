//! `temps plugin record`: keeps the traffic between the daemon and one plugin in a file, until Ctrl-C.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use temps_server::api::plugins::Plugin;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use crate::client::Client;
use crate::exit::Failure;
use crate::output::{Output, plain};
use crate::recording::{Kept, Recorder};
use crate::stream::EventStream;

/// A recording that was told to end goes on until nothing has come for this long, so that what was just asked has its answer in it,
/// and an event its ack; a play would find them missing. It does so for [`LONGEST_END`] at most.
const QUIET: Duration = Duration::from_millis(300);
const LONGEST_END: Duration = Duration::from_secs(3);

/// Why a recording ended that may not become larger.
const FULL: &str = "it is as large as it may be; --max-size gives it more";

/// What is recorded, and where to.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    name: super::Name,
    /// The new file, a transcript that `temps plugin test --transcript` can play
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Restart the plugin once the recording has begun, so that it has a life from its start on
    #[arg(long)]
    restart: bool,
    /// Size in MiB at which the recording ends
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    max_size: u32,
}

/// Records until Ctrl-C, SIGTERM, the end of the daemon, or as much as there may be.
pub(crate) async fn run(arguments: Arguments, client: &Client, output: Output) -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::other("signals", error.to_string()));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let name = &arguments.name.name;
    let mut steps = client.stream(&["api", "plugins", name, "traffic"], &()).await?;
    let mut recorder = Recorder::create(&arguments.out, u64::from(arguments.max_size) * 1024 * 1024)?;
    output.say(&format!("recording {name} to {}; Ctrl-C ends it", arguments.out.display()));
    let restarting = async {
        if arguments.restart {
            client.post::<Plugin>(&["api", "plugins", name, "restart"], &json!({})).await?;
        }
        Ok::<_, Failure>(())
    };
    tokio::pin!(restarting);
    let (mut restarted, mut begun) = (false, !arguments.restart);
    let why = loop {
        tokio::select! {
            done = &mut restarting, if !restarted => {
                done?;
                restarted = true;
            }
            _ = interrupt.recv() => break None,
            _ = terminate.recv() => break None,
            step = steps.next::<Value>() => match step? {
                // The end of the life before is no part of the one that was asked for.
                Some(step) if !begun && step["kind"] != "spawn" => {}
                Some(step) if recorder.keep(&step)? => begun = true,
                Some(_) => break Some(FULL),
                None => break Some("the daemon ended it"),
            },
        }
    };
    let why = match why {
        None if begun => rest(&mut steps, &mut recorder, &mut interrupt).await?,
        why => why,
    };
    if let Some(why) = why {
        output.say(&format!("the recording ended: {why}"));
    }
    output.data(recorder.kept(), kept)
}

/// Keeps what is still under way, unless somebody who waits says once more that it shall end.
async fn rest(
    steps: &mut EventStream,
    recorder: &mut Recorder,
    interrupt: &mut Signal,
) -> Result<Option<&'static str>, Failure> {
    let under_way = async {
        while let Ok(step) = timeout(QUIET, steps.next::<Value>()).await {
            match step? {
                Some(step) if recorder.keep(&step)? => {}
                Some(_) => return Ok(Some(FULL)),
                None => break,
            }
        }
        Ok(None)
    };
    tokio::select! {
        ended = timeout(LONGEST_END, under_way) => ended.unwrap_or(Ok(None)),
        _ = interrupt.recv() => Ok(None),
    }
}

fn kept(kept: &Kept) -> String {
    let lost = match kept.lost {
        0 => String::new(),
        lost => format!("; {lost} more came too fast and are missing"),
    };
    plain(&format!("{} steps in {}{lost}", kept.steps, kept.file))
}
