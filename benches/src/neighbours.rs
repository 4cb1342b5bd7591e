//! What a plugin notices of a neighbour that takes all it can get: the slow end of its requests beside each kind of noise,
//! against the same requests while the noise is stopped, in turns.
//!
//! A virtual machine is stopped by the one around it now and then, which looks like noise and is none. The kernel tells how much time
//! was taken away so, and pairs of runs in which it was much do not count. What else runs on the machine itself has to
//! [wait](Precedence).
//!
//! Requests are sent at a fixed rate from a thread of their own. One that is late because the one before it took long counts
//! from the moment at which it was due: a stall is seen by every request that it holds up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use temps_host::{PluginSnapshot, PluginState};
use temps_testkit::{Behaviour, Sin};

use crate::Outcome;
use crate::precedence::Precedence;
use crate::proxy::{ask, open};
use crate::rig::{PATIENCE, Rig, beside};
use crate::stats::{self, Figure, Samples};

/// Requests to the quiet plugin in a second.
const RATE: u32 = 1_000;

/// Seconds of one run.
const SECONDS: u32 = 10;

/// Requests of one run. A hundred of them are slower than the 99th percentile.
const REQUESTS: u32 = SECONDS * RATE;

/// Pairs of an idle and a noisy run that count for each kind of noise.
const PAIRS: usize = 5;

/// Pairs that are run to find so many in which the machine around this one kept still; without those, the stillest count.
const MOST_PAIRS: usize = 15;

/// Processor time that such a machine takes away while it keeps still, in percent of one processor.
const STILL: f64 = 1.0;

/// What the plugins may have on disk: little enough that a filler is beyond it within a run.
const DISK_MAX: u64 = 256 << 20;

/// The quiet plugin.
const QUIET: &str = "/api/x/bench-0/ping";

/// One kind of noise, as much of it as the limits let through.
struct Noise {
    name: &'static str,
    sin: Sin,
    /// What has to be found in the crash report or among the limits that it is near.
    report: &'static str,
    /// Whether the limit ends it, so that it comes back.
    ends: bool,
}

fn noises() -> [Noise; 5] {
    let noise = |name, sin, report| Noise { name, sin, report, ends: false };
    let ended = |name, sin, report| Noise { ends: true, ..noise(name, sin, report) };
    [
        ended("memory-bomb", Sin::EatsMemory { megabytes: 4_000 }, "memory_max"),
        noise("fork-bomb", Sin::Forks { processes: 2_000 }, "tasks_max"),
        noise("cpu-spinner", Sin::EatsCpu { threads: 4 }, "cpu_quota"),
        noise("descriptor-leak", Sin::LeaksDescriptors, "nofile"),
        ended("disk-filler", Sin::FillsDisk { megabytes: 2_000 }, "disk_max"),
    ]
}

/// How a noise that was ended comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Return {
    /// By the default policy, half a second later and each time after twice as long. It is not put in quarantine.
    Backoff,
    /// After half a second each time.
    AtOnce,
}

impl Return {
    fn words(self) -> &'static str {
        match self {
            Return::Backoff => "",
            Return::AtOnce => " that comes back each half second",
        }
    }
}

/// The two runs of a pair.
struct Pair {
    idle: Run,
    noisy: Run,
    /// How often the noise was ended.
    ended: u64,
}

/// One run.
struct Run {
    /// Its 99th percentile, in microseconds.
    p99: f64,
    /// Processor time that the machine around this one took away meanwhile, in percent of one processor.
    taken: f64,
}

impl Pair {
    fn ratio(&self) -> f64 {
        self.noisy.p99 / self.idle.p99
    }

    fn taken(&self) -> f64 {
        self.idle.taken.max(self.noisy.taken)
    }
}

pub(crate) async fn measure() -> Outcome<Vec<Figure>> {
    let precedence = Precedence::take();
    let mut figures = Vec::new();
    for comes_back in [Return::Backoff, Return::AtOnce] {
        let rig = start(comes_back).await?;
        let address = serve(&rig).await?;
        // The first requests pay for what later ones find ready.
        run(address).await?;
        for noise in noises().iter().filter(|noise| noise.ends || comes_back == Return::Backoff) {
            figures.extend(beside_noise(&rig, address, noise, comes_back).await?);
        }
        rig.host.shutdown().await;
    }
    if precedence.is_none() {
        let last = figures.pop().ok_or("nothing was measured")?;
        let note = "other programs of this machine had the same right to its processors, and may be part of the figures";
        figures.push(last.with_note(note.to_owned()));
    }
    Ok(figures)
}

/// A host with the quiet plugin.
async fn start(comes_back: Return) -> Outcome<Rig> {
    let rig = Rig::start_with(|config| {
        config.limits.all.disk_max = Some(DISK_MAX);
        // What a plugin is near shall be seen within a run.
        config.usage_every = Duration::from_secs(5);
        if comes_back == Return::AtOnce {
            config.restart.backoff_max = config.restart.backoff_min;
        }
    })
    .await?;
    rig.drop_plugins(1)?;
    rig.running(1).await?;
    Ok(rig)
}

async fn serve(rig: &Rig) -> Outcome<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = rig.host.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

async fn beside_noise(
    rig: &Rig,
    address: SocketAddr,
    noise: &Noise,
    comes_back: Return,
) -> Outcome<[Figure; 2]> {
    put(rig, noise).await?;
    let (mut pairs, mut reports) = (Vec::new(), Vec::new());
    let still = |pairs: &[Pair]| pairs.iter().filter(|pair| pair.taken() < STILL).count();
    while still(&pairs) < PAIRS && pairs.len() < MOST_PAIRS {
        let idle = run(address).await?;
        let before = rig.host.plugin(noise.name).map_or(0, |plugin| plugin.crashes);
        rig.host.start_plugin(noise.name, "bench").await?;
        let noisy = run(address).await?;
        let ended = rig.host.plugin(noise.name).map_or(0, |plugin| plugin.crashes) - before;
        reports.push(report(rig, noise).await?);
        rig.host.stop_plugin(noise.name, "bench").await?;
        pairs.push(Pair { idle, noisy, ended });
    }
    rig.host.disable_plugin(noise.name, "bench").await?;
    let run = pairs.len();
    pairs.sort_by(|a, b| a.taken().total_cmp(&b.taken()));
    pairs.truncate(PAIRS);
    let median = |pick: fn(&Pair) -> f64| stats::median(pairs.iter().map(pick).collect());
    let note = format!(
        "{}{}: {}; it was ended {} times in a run, in the median; of {run} pairs those {PAIRS} count in which the machine around this \
         one took least time away: {:.1} % of a processor in the median, {:.1} % at most",
        noise.name,
        comes_back.words(),
        reports.pop().unwrap_or_default(),
        median(|pair| pair.ended as f64),
        median(Pair::taken),
        pairs.last().map_or(0.0, Pair::taken),
    );
    let worst = pairs.iter().max_by(|a, b| a.ratio().total_cmp(&b.ratio())).ok_or("there is no pair")?;
    let figure = |which: &str, noisy, idle| {
        let noise = format!("{}{}", noise.name.replace('-', " "), comes_back.words());
        let name = format!("request beside a {noise}, 99th percentile, {which}");
        Figure::new(&name, "µs", noisy, "the same while the noise is stopped, in turns", idle)
    };
    Ok([
        figure(
            &format!("median of {PAIRS} runs"),
            median(|pair| pair.noisy.p99),
            median(|pair| pair.idle.p99),
        )
        .with_note(note),
        figure("worst pair", worst.noisy.p99, worst.idle.p99),
    ])
}

/// Puts the noisy plugin beside the others, and stops it.
async fn put(rig: &Rig, noise: &Noise) -> Outcome<()> {
    let order = Behaviour::sinful(noise.name, noise.sin.clone());
    temps_testkit::unruly::install(&beside("unruly")?, &rig.plugins(), noise.name, &order)?;
    until(rig, noise.name, |plugin| plugin.state == PluginState::Running || plugin.crashes > 0).await?;
    rig.host.stop_plugin(noise.name, "bench").await?;
    Ok(())
}

/// What the host says of the noise: how it ended, or which limit it is near.
async fn report(rig: &Rig, noise: &Noise) -> Outcome<String> {
    let words = |plugin: &PluginSnapshot| {
        let ended = plugin.last_crash.iter().map(|crash| crash.cause.clone());
        let near = plugin.usage.iter().flat_map(|usage| usage.near_limits.clone());
        ended
            .chain(near.map(|near| format!("near its limit {near}")))
            .find(|text| text.contains(noise.report))
    };
    let plugin = until(rig, noise.name, |plugin| words(plugin).is_some()).await?;
    words(&plugin).ok_or_else(|| "the report is gone".into())
}

async fn until(
    rig: &Rig,
    name: &str,
    reached: impl Fn(&PluginSnapshot) -> bool,
) -> Outcome<Arc<PluginSnapshot>> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(mut view) = rig.host.watch_plugin(name)
            && let Ok(Ok(seen)) = tokio::time::timeout_at(deadline, view.wait_for(|now| reached(now))).await
        {
            return Ok(seen.clone());
        }
        if tokio::time::Instant::now() > deadline {
            return Err(
                format!("{name} did not come to what was expected: {:#?}", rig.host.plugin(name)).into()
            );
        }
        // The line of a file ends when its name is known; the plugin's own then follows.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn run(address: SocketAddr) -> Outcome<Run> {
    let before = taken_away();
    let samples = load(address).await?;
    let taken = taken_away().saturating_sub(before) as f64 / f64::from(SECONDS);
    Ok(Run { p99: samples.quantile(0.99) / 1e3, taken })
}

/// Processor time that a machine around this one has taken away so far, in hundredths of a second; 0 where nobody tells.
fn taken_away() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    text.split_whitespace().nth(8).and_then(|steal| steal.parse().ok()).unwrap_or_default()
}

/// How long each request took. Every one of them has to be answered well.
async fn load(address: SocketAddr) -> Outcome<Samples> {
    let run = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(send_all(address))
    });
    Ok(run.await?.map_err(|error| error.to_string())?)
}

/// The thread sleeps between requests by itself: the runtime's timer knows whole milliseconds only.
async fn send_all(address: SocketAddr) -> std::io::Result<Samples> {
    let failed = |error: Box<dyn std::error::Error>| std::io::Error::other(error.to_string());
    let stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut sender = open(stream).await.map_err(failed)?;
    let mut nanos = Vec::with_capacity(REQUESTS as usize);
    let begin = Instant::now();
    for number in 0..REQUESTS {
        let due = begin + Duration::from_secs(1) * number / RATE;
        let now = Instant::now();
        let sent = if now < due {
            std::thread::sleep(due - now);
            Instant::now()
        } else {
            due
        };
        ask(&mut sender, QUIET).await.map_err(failed)?;
        nanos.push(sent.elapsed().as_nanos() as u64);
    }
    Ok(Samples::from_nanos(nanos))
}
