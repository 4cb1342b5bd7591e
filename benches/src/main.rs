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
mod layers;
mod memory;
mod neighbours;
mod precedence;
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
    /// Starts with and without each layer of the sandbox
    Layers,
    /// Memory at rest
    Memory,
    /// A plugin beside five kinds of noise
    Neighbours,
    /// The four SDKs side by side
    Sdks,
    /// From a save to the new version running, under `temps plugin dev`, in each language
    Dev,
}

impl Section {
    const ALL: [Section; 11] = [
        Section::Channel,
        Section::Publish,
        Section::Events,
        Section::Audit,
        Section::Proxy,
        Section::Spawn,
        Section::Layers,
        Section::Memory,
        Section::Neighbours,
        Section::Sdks,
        Section::Dev,
    ];

    /// Whether the section measures single round trips, and so runs on one CPU.
    fn is_pinned(self) -> bool {
        matches!(self, Section::Channel | Section::Proxy)
    }
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
        for note in figures.iter().filter_map(|figure| figure.note.as_ref()) {
            println!("- {note}");
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a command talks to its user")]
fn run_here(section: Section) -> Outcome<()> {
    if section.is_pinned() {
        let mut cpus = rustix::thread::CpuSet::new();
        cpus.set(0);
        rustix::thread::sched_setaffinity(None, &cpus)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let figures = runtime.block_on(async {
        match section {
            Section::Channel => channel::measure().await,
            Section::Publish => publish::measure().await,
            Section::Events => events::measure().await,
            Section::Audit => audit::measure().await,
            Section::Proxy => proxy::measure().await,
            Section::Spawn => spawn::measure().await,
            Section::Layers => layers::measure().await,
            Section::Memory => memory::measure().await,
            Section::Neighbours => neighbours::measure().await,
            Section::Sdks => sdks::measure().await,
            Section::Dev => dev::measure().await,
        }
    })?;
    for figure in figures {
        println!("{}", serde_json::to_string(&figure)?);
    }
    Ok(())
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
