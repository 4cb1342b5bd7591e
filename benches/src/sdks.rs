//! The four SDKs side by side: the same small plugin in each language, the Rust SDK's figure of the same run as the floor.
//!
//! Round trips and the rate of events are measured without the limit of processor time: a plugin that has used its quarter of
//! a processor stands still until the next tenth of a second, and such pauses would be all that a slow end of round trips
//! shows. The rate of events is measured with the default limits as well. Everything else has the default limits; the limit of
//! processor time holds only once a plugin is ready, so a start knows nothing of it.

use std::time::{Duration, Instant};

use temps_host::PluginState;

use crate::Outcome;
use crate::events::{PUBLISHERS, publish};
use crate::languages::{Language, build_plugin, require_all};
use crate::memory::summed_kib;
use crate::proxy::{open, serial};
use crate::rig::Rig;
use crate::stats::{Figure, Samples};

/// Questions of one repetition, one after the other.
const QUESTIONS: usize = 5_000;

/// Repetitions of round trips, in turns of the languages, of which the best counts. The first also warms up what a compiler at
/// run time needs.
const REPETITIONS: usize = 3;

/// Events of one burst.
const BURST: usize = 5_000;

/// Starts of each plugin.
const STARTS: usize = 15;

/// Time for late tasks and garbage of the start to come to rest.
const REST: Duration = Duration::from_secs(2);

/// More processor time than this machine has, in percent of one: no limit.
const NO_QUOTA: u32 = 10_000;

/// One value for each language, in the order of [`Language::ALL`].
type Row = Vec<f64>;

pub(crate) async fn measure() -> Outcome<Vec<Figure>> {
    require_all()?;
    let everywhere = rustix::thread::sched_getaffinity(None)?;
    let mut one_cpu = rustix::thread::CpuSet::new();
    one_cpu.set(0);
    keep_on(&one_cpu)?;
    let mut figures = round_trips().await?;
    keep_on(&everywhere)?;
    figures.extend(the_rest().await?);
    Ok(figures)
}

/// Keeps this process's threads, and all that they start from now on, on these CPUs.
fn keep_on(cpus: &rustix::thread::CpuSet) -> Outcome<()> {
    for thread in std::fs::read_dir("/proc/self/task")? {
        let id = thread?.file_name().to_string_lossy().parse()?;
        rustix::thread::sched_setaffinity(rustix::process::Pid::from_raw(id), cpus)?;
    }
    Ok(())
}

/// Round trips, with everything on one CPU.
async fn round_trips() -> Outcome<Vec<Figure>> {
    let rig = rig(Some(NO_QUOTA)).await?;
    drop_all(&rig)?;
    rig.running(Language::ALL.len()).await?;
    let address = rig.serve().await?;
    let mut channel = vec![Vec::new(); Language::ALL.len()];
    let mut route = channel.clone();
    for _ in 0..REPETITIONS {
        for (index, language) in Language::ALL.into_iter().enumerate() {
            let name = language.plugin();
            let body = rig.get(&name, &format!("/rtt?n={QUESTIONS}")).await?;
            channel[index].push(Samples::from_nanos(serde_json::from_slice(&body)?));
            let mut sender = open(tokio::net::TcpStream::connect(address).await?).await?;
            route[index].push(serial(&mut sender, &format!("/api/x/{name}/ping")).await?);
        }
    }
    rig.host.shutdown().await;
    let best = |all: &[Vec<Samples>], share: f64| -> Row {
        let one =
            |samples: &Vec<Samples>| samples.iter().map(|s| s.quantile(share)).fold(f64::INFINITY, f64::min);
        all.iter().map(|samples| one(samples) / 1000.0).collect()
    };
    let mut figures = Vec::new();
    for (what, all) in [("channel request", &channel), ("own route through the proxy", &route)] {
        for (words, share) in [("median", 0.5), ("99th percentile", 0.99)] {
            figures.extend(side_by_side(&format!("{what}, {words}, no CPU limit"), "µs", &best(all, share)));
        }
    }
    Ok(figures)
}

/// Events, starts and memory, placed as the scheduler likes.
async fn the_rest() -> Outcome<Vec<Figure>> {
    let (mut limited, mut free) = (Row::new(), Row::new());
    for language in Language::ALL {
        limited.push(events(language, None).await?);
        free.push(events(language, Some(NO_QUOTA)).await?);
    }
    let [starts, written, private] = starts_and_memory().await?;
    let mut figures = side_by_side("events delivered and acked, default limits", "events/s", &limited);
    figures.extend(side_by_side("events delivered and acked, no CPU limit", "events/s", &free));
    figures.extend(side_by_side("spawn to running, channel open, median", "ms", &starts));
    figures.extend(side_by_side("memory written by the plugin's processes, at rest", "KiB", &written));
    figures.extend(side_by_side("the same with the program's own pages", "KiB", &private));
    Ok(figures)
}

/// Events handled in a second, from the first publish to the last handler's end.
async fn events(language: Language, cpu_quota: Option<u32>) -> Outcome<f64> {
    let rig = rig(cpu_quota).await?;
    drop_plugin(&rig, language)?;
    rig.running(1).await?;
    let (name, path) = (language.plugin(), format!("/wait?count={BURST}"));
    // A first answer, so that what is loaded at the first request is there.
    rig.get(&name, "/ping").await?;
    let begin = Instant::now();
    let (published, handled) = tokio::join!(publish(&rig, PUBLISHERS, BURST), rig.get(&name, &path));
    published?;
    handled?;
    let seconds = begin.elapsed().as_secs_f64();
    rig.host.shutdown().await;
    Ok(BURST as f64 / seconds)
}

/// Times of starts; before them memory at rest after the first one: what the plugin has written, and all that it has alone. The
/// latter counts the pages of its interpreter, which several plugins of one language share.
async fn starts_and_memory() -> Outcome<[Row; 3]> {
    let rig = rig(None).await?;
    drop_all(&rig)?;
    rig.running(Language::ALL.len()).await?;
    tokio::time::sleep(REST).await;
    let (mut starts, mut written, mut private) = (Row::new(), Row::new(), Row::new());
    for language in Language::ALL {
        let name = language.plugin();
        let plugin = rig.host.plugins().into_iter().find(|plugin| plugin.name == name);
        let pid = plugin.and_then(|plugin| plugin.pid).ok_or("a running plugin has no process")?;
        written.push(memory_of_all(pid, "Private_Dirty:")?);
        private.push(memory_of_all(pid, "Private_")?);
    }
    for language in Language::ALL {
        starts.push(median_start(&rig, &language.plugin()).await?);
    }
    rig.host.shutdown().await;
    Ok([starts, written, private])
}

/// Memory of a process and its children, in KiB.
fn memory_of_all(pid: u32, line: &str) -> Outcome<f64> {
    let mut sum = summed_kib(&pid.to_string(), line)?;
    for child in std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?.split_whitespace() {
        sum += memory_of_all(child.parse()?, line)?;
    }
    Ok(sum)
}

async fn median_start(rig: &Rig, name: &str) -> Outcome<f64> {
    let mut view = rig.host.watch_plugin(name).ok_or("the plugin is not there")?;
    let mut nanos = Vec::new();
    for _ in 0..STARTS {
        rig.host.stop_plugin(name, "bench").await?;
        let begin = Instant::now();
        rig.host.start_plugin(name, "bench").await?;
        view.wait_for(|plugin| plugin.state == PluginState::Running).await?;
        nanos.push(begin.elapsed().as_nanos() as u64);
    }
    Ok(Samples::from_nanos(nanos).quantile(0.5) / 1e6)
}

async fn rig(cpu_quota: Option<u32>) -> Outcome<Rig> {
    Rig::start_with(|config| config.limits.all.cpu_quota = cpu_quota).await
}

fn drop_all(rig: &Rig) -> Outcome<()> {
    Language::ALL.into_iter().try_for_each(|language| drop_plugin(rig, language))
}

fn drop_plugin(rig: &Rig, language: Language) -> Outcome<()> {
    let (name, plugins) = (language.plugin(), rig.plugins());
    // What is built beside its place and moved there is never seen half.
    let hidden = plugins.join(format!(".{name}"));
    build_plugin(language, &hidden)?;
    Ok(std::fs::rename(hidden, plugins.join(name))?)
}

/// A figure for each language, whose floor is the first one's, which is Rust's.
fn side_by_side(what: &str, unit: &str, values: &[f64]) -> Vec<Figure> {
    let floor = values.first().copied().unwrap_or_default();
    let named = Language::ALL.into_iter().zip(values);
    named
        .map(|(language, value)| {
            Figure::new(
                &format!("{}: {what}", language.word()),
                unit,
                *value,
                "the same with the Rust SDK",
                floor,
            )
        })
        .collect()
}
