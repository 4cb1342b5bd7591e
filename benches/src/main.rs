//! The load rig: prints each figure beside its floor, both measured in one run, with real plugins and a real store.
//!
//! Every section runs in a process of its own, so that it starts from the same state. Sections that measure latency are
//! pinned to one CPU together with their plugins: where the scheduler may place a pair of processes freely, it flips
//! between two placements and the figures of two runs cannot be compared. Ratios are what counts; the absolute figures are
//! this machine's.

mod audit;
mod channel;
mod dev;
mod events;
mod floor;
mod languages;
mod memory;
mod proxy;
mod publish;
mod rig;
mod sdks;
mod spawn;
mod stats;

use std::process::{Command, ExitCode, Stdio};

use clap::{Parser, ValueEnum};

use crate::stats::Figure;

/// Measures the host: each figure with its floor and the ratio of the two.
#[derive(Parser)]
struct Arguments {
    /// Sections to run; all by default.
    #[arg(value_enum, value_name = "SECTION")]
    sections: Vec<Section>,
    /// Prints one JSON object per figure instead of a table.
    #[arg(long)]
    json: bool,
    /// Runs this one section in this process, and prints its figures as JSON.
    #[arg(long, hide = true)]
    only: Option<Section>,
    /// Answers pings on a socket: the floor's other side.
    #[arg(long, hide = true, num_args = 3, value_names = ["SOCKET", "REQUEST", "RESPONSE"])]
    floor_echo: Option<Vec<String>>,
    /// Reads lines from a socket until it ends: the floor's other side for events.
    #[arg(long, hide = true)]
    floor_sink: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// Requests of a plugin over the channel
    Channel,
    /// Durable publishes
    Publish,
    /// Deliveries to many plugins
    Events,
    /// The audit trail
    Audit,
    /// Requests to a plugin's routes
    Proxy,
    /// Starts, of one plugin and of a hundred
    Spawn,
    /// Memory at rest
    Memory,
    /// The four SDKs side by side
    Sdks,
    /// From a save to the new version running, under `temps plugin dev`, in each language
    Dev,
}

impl Section {
    const ALL: [Section; 9] = [
        Section::Channel,
        Section::Publish,
        Section::Events,
        Section::Audit,
        Section::Proxy,
        Section::Spawn,
        Section::Memory,
        Section::Sdks,
        Section::Dev,
    ];
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[expect(clippy::print_stderr, reason = "a command talks to its user")]
fn main() -> ExitCode {
    temps_host::launcher();
    let arguments = Arguments::parse();
    let result = if let Some(echo) = &arguments.floor_echo {
        floor::serve_echo(echo)
    } else if let Some(socket) = &arguments.floor_sink {
        floor::serve_sink(socket)
    } else if let Some(section) = arguments.only {
        run_here(section)
    } else {
        run_all(&arguments)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("temps-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its user")]
fn run_all(arguments: &Arguments) -> Outcome<()> {
    let sections =
        if arguments.sections.is_empty() { Section::ALL.to_vec() } else { arguments.sections.clone() };
    let mut figures: Vec<Figure> = Vec::new();
    for section in sections {
        eprintln!("measuring {section:?} …");
        let word = section.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let output = Command::new(std::env::current_exe()?)
            .args(["--only", &word])
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("the section {word} failed").into());
        }
        for line in String::from_utf8(output.stdout)?.lines() {
            if arguments.json {
                println!("{line}");
            }
            figures.push(serde_json::from_str(line)?);
        }
    }
    if !arguments.json {
        println!("{}", table(&figures));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a command talks to its user")]
fn run_here(section: Section) -> Outcome<()> {
    let figures = match section {
        Section::Channel => on_one_cpu(channel::measure())?,
        Section::Publish => anywhere(publish::measure())?,
        Section::Events => anywhere(events::measure())?,
        Section::Audit => anywhere(audit::measure())?,
        Section::Proxy => on_one_cpu(proxy::measure())?,
        Section::Spawn => anywhere(spawn::measure())?,
        Section::Memory => anywhere(memory::measure())?,
        Section::Sdks => {
            let round_trips = on_one_cpu(sdks::measure_round_trips())?;
            [round_trips, anywhere(sdks::measure_the_rest())?].concat()
        }
        Section::Dev => anywhere(dev::measure())?,
    };
    for figure in figures {
        println!("{}", serde_json::to_string(&figure)?);
    }
    Ok(())
}

/// Measures single round trips: on one CPU, with every process that is started meanwhile.
fn on_one_cpu(work: impl Future<Output = Outcome<Vec<Figure>>>) -> Outcome<Vec<Figure>> {
    let all = rustix::thread::sched_getaffinity(None)?;
    let mut one = rustix::thread::CpuSet::new();
    one.set(0);
    rustix::thread::sched_setaffinity(None, &one)?;
    let figures = anywhere(work);
    rustix::thread::sched_setaffinity(None, &all)?;
    figures
}

/// Measures where the scheduler places things. The runtime and its threads are gone afterwards.
fn anywhere(work: impl Future<Output = Outcome<Vec<Figure>>>) -> Outcome<Vec<Figure>> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}

fn table(figures: &[Figure]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["figure", "value", "unit", "floor of the same run", "floor", "ratio"]);
    for figure in figures {
        table.add_row([
            figure.name.clone(),
            format!("{:.1}", figure.value),
            figure.unit.clone(),
            figure.floor_name.clone(),
            format!("{:.1}", figure.floor),
            format!("{:.2}", figure.ratio()),
        ]);
    }
    table
}
