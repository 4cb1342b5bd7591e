//! One start of a plugin: spawn, manifest, ready, channel, in small steps that report to the plugin's actor.
//!
//! Every step is bounded. The sequence decides nothing: whatever happens is reported, and the step function of the plugin's
//! life says what follows. A start that is not wanted any more is told so by its token, and by the end of its process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use temps_protocol::{Feature, PluginManifest, PluginName, Ready};
use tokio::io::{AsyncRead, BufReader};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handshake::{Dialect, Excuse, Patience, ReadError};
use super::health::{self, Health, Judgement, Pulse};
use super::link::Link;
use super::process::{ExitReport, HOST_FEATURES, Process, SpawnError, SpawnSpec};
use super::state::Start;
use crate::artifacts::Artifact;
use crate::channel::{self, ChannelHandle, ChannelSpec, Opened};
use crate::configuration::Injected;
use crate::database::{self, DATABASE_URL, RELAY_SOCKET, Relay};
use crate::egress::{self, EGRESS_SOCKET};
use crate::grants::{Engine, Grants};
use crate::host::Shared;
use crate::plugin::logs::PluginLog;
use crate::sandbox::{LayerReport, SandboxSpec, State};
use crate::secrets::Secret;
use crate::tap::PluginTap;
use crate::usage::{self, Meter, Traffic, Usage};
use crate::versions::major_of;

/// How long `GET /ui/` may take when ready did not say that there is a UI.
const UI_TIMEOUT: Duration = Duration::from_secs(2);

/// Time between two looks at how much disk a plugin takes. A disk takes a few hundred MiB in it.
const DISK_LOOK_EVERY: Duration = Duration::from_secs(2);

/// How many times longer than the look itself the pause after it is.
const DISK_LOOK_SHARE: u32 = 20;

/// The waits before each of the questions for a UI.
const UI_WAITS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];

/// How long a broken conversation waits for the exit that explains it.
const EXIT_EXPLAINS: Duration = Duration::from_secs(1);

/// Tries to open a new channel after one was lost, and the wait before each.
const RECONNECT_WAITS: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];

/// What happened in a start.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The process is there.
    Spawned(Arc<Process>),
    /// There is no process.
    SpawnFailed(String),
    /// There is no process, and trying again does not help; the text says what to do.
    Refused(String),
    /// The sandbox was read back.
    Confined(Arc<[LayerReport]>),
    /// The manifest is the inspected one.
    ManifestRead,
    /// The manifest is not the inspected one; the text says what differs.
    ManifestDiffers(String),
    /// The plugin said ready.
    Ready(Arc<Ready>),
    /// The start is done. The link is not published yet.
    Connected(Arc<Link>),
    /// The start failed though the process is there.
    Failed(String),
    /// The process and everything below it are gone.
    Exited(ExitReport),
    /// There is a UI that ready did not announce.
    UiFound,
    /// No work is in flight any more.
    Drained,
    /// What was used since the last time.
    Usage(Usage),
    /// Health is to be shown.
    Health(Health),
    /// Health failed too often.
    HealthFailed(String),
    /// The channel was lost; the text says how.
    ChannelLost(String),
    /// There is a new channel, in a new link.
    Reconnected(Arc<Link>),
    /// There is no new channel.
    ReconnectFailed(String),
}

/// Everything that one start works with.
#[derive(Clone)]
pub(crate) struct StartContext {
    pub(crate) shared: Shared,
    pub(crate) name: PluginName,
    pub(crate) start: Start,
    pub(crate) artifact: Artifact,
    pub(crate) manifest: Arc<PluginManifest>,
    pub(crate) log: PluginLog,
    pub(crate) grants: watch::Receiver<Arc<Grants>>,
    pub(crate) config: watch::Receiver<Injected>,
    pub(crate) debug: watch::Receiver<bool>,
    pub(crate) secret: Secret,
    pub(crate) work: TaskTracker,
    pub(crate) ended: watch::Receiver<Option<super::Ended>>,
    /// Cancelled when the start is to be given up, or is over.
    pub(crate) over: CancellationToken,
    pub(crate) reports: mpsc::Sender<(Start, Progress)>,
}

impl StartContext {
    /// Where the traffic of this start can be watched.
    pub(crate) fn tap(&self) -> PluginTap {
        self.shared.tap.of(&self.name, &self.manifest, &self.secret, &self.config)
    }

    async fn report(&self, progress: Progress) {
        // The actor outlives its starts; when it does not, nobody wants to know.
        let _ = self.reports.send((self.start, progress)).await;
    }
}

/// Runs a start until it is connected, has failed, or is given up.
pub(crate) async fn run(context: StartContext) {
    let (mut process, socket) = match launch(&context).await {
        Ok(launched) => launched,
        Err(NotLaunched::Failed(why)) => return context.report(Progress::SpawnFailed(why)).await,
        Err(NotLaunched::Refused(why)) => return context.report(Progress::Refused(why)).await,
    };
    let (Some(stdout), Some(stderr)) = (process.take_stdout(), process.take_stderr()) else {
        // The process ends with its last owner, that is here.
        return context.report(Progress::SpawnFailed("its output cannot be read".into())).await;
    };
    let process = Arc::new(process);
    context.report(Progress::Spawned(Arc::clone(&process))).await;
    let shaken_hands = CancellationToken::new();
    tokio::spawn(watch_exit(context.clone(), Arc::clone(&process), shaken_hands.clone()));
    let (log, secret) = (context.log.clone(), context.secret.clone());
    tokio::spawn(async move { log.drain(BufReader::new(stderr), "stderr", secret).await });

    let mut stdout = BufReader::new(context.tap().over(stdout));
    let shaken = tokio::select! {
        shaken = shake_hands(&context, &process, &mut stdout, &shaken_hands) => shaken,
        () = context.over.cancelled() => None,
    };
    shaken_hands.cancel();
    let (log, secret) = (context.log.clone(), context.secret.clone());
    tokio::spawn(async move { log.drain(stdout, "stdout", secret).await });
    let Some(ready) = shaken else { return };
    if let Err(why) = settle_in(&context, &process).await {
        return context.report(Progress::Failed(why)).await;
    }
    tokio::select! {
        () = connect(&context, &process, socket, ready) => {}
        () = context.over.cancelled() => {}
    }
}

/// Why there is no process.
enum NotLaunched {
    /// Trying again may help.
    Failed(String),
    /// It may not run like this; an operator has to change something.
    Refused(String),
}

impl From<String> for NotLaunched {
    fn from(why: String) -> Self {
        NotLaunched::Failed(why)
    }
}

/// Spawns the program with fresh places, a fresh secret and its database; the answer holds the path of its socket.
async fn launch(context: &StartContext) -> Result<(Process, PathBuf), NotLaunched> {
    let name = context.name.as_str();
    let places = &context.shared.places;
    let data_dir =
        places.data(name).map_err(|error| format!("its data directory cannot be made: {error}"))?;
    let tmp_dir =
        places.temporary(name).map_err(|error| format!("its temporary directory cannot be made: {error}"))?;
    let socket =
        places.socket(name).map_err(|error| format!("the place for its socket cannot be made: {error}"))?;
    let mut env = BTreeMap::new();
    let relay = give_database(context, &data_dir, &socket, &mut env)?;
    let way_out = socket.with_file_name(EGRESS_SOCKET);
    let listener = egress::Listener::bind(&way_out)
        .map_err(|error| format!("the way out of its network cannot be opened: {error}"))?;
    let opened = way_out_of(context);
    let sandbox = sandbox(context, &data_dir, [&tmp_dir, &socket])?;
    let spec = SpawnSpec {
        program: context.artifact.program.clone(),
        name: Some(context.name.clone()),
        socket: socket.clone(),
        secret: context.secret.clone(),
        data_dir,
        tmp_dir,
        sandbox,
        egress: Some(temps_sandbox::Egress { socket: way_out, loopback: opened.set.allow_loopback.clone() }),
        env,
    };
    context.tap().spawn(&spec);
    let process = context.shared.launcher.spawn(&spec).await.map_err(|error| match error {
        SpawnError::Refused(_) | SpawnError::NotInForce(_) => NotLaunched::Refused(error.to_string()),
        error => NotLaunched::Failed(error.to_string()),
    })?;
    let (launcher, exited) = (process.launcher_pid(), process.exited());
    tokio::spawn(listener.serve(opened, launcher, async {
        let _ = exited.await;
    }));
    if let Some(relay) = relay {
        let (context, launcher, exited) = (context.clone(), process.launcher_pid(), process.exited());
        tokio::spawn(async move {
            let over = async {
                let _ = exited.await;
            };
            let databases = context.shared.databases.clone();
            relay.serve(databases, context.name.as_str(), launcher, context.grants, over).await;
        });
    }
    Ok((process, socket))
}

/// What is built around the plugin. Its data, its temporary files and the directory of its socket belong to its user afterwards.
fn sandbox(context: &StartContext, data: &Path, [tmp, socket]: [&Path; 2]) -> Result<SandboxSpec, String> {
    let shared = &context.shared;
    let granted = context.grants.borrow().limits.clone();
    let spec = SandboxSpec::of_plugin(&shared.config(), context.name.as_str(), &granted);
    let failed = |error| format!("its files cannot be given to its own user: {error}");
    if !shared.launcher.machine().has_users(&spec.policies) {
        shared.users.take_back(data).map_err(failed)?;
        return Ok(spec);
    }
    let user = shared.users.give(data).map_err(failed)?;
    let directory = socket.parent().unwrap_or(socket);
    let relay = socket.with_file_name(RELAY_SOCKET);
    let database = data.join(database::SQLITE_FILE);
    let way_out = socket.with_file_name(EGRESS_SOCKET);
    for path in [tmp, directory, &relay, &way_out, &database] {
        match crate::sandbox::own(path, user) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(spec.as_user(Some(user)))
}

/// What the plugin's way out of its network works with.
fn way_out_of(context: &StartContext) -> egress::Context {
    let shared = &context.shared;
    egress::Context {
        plugin: context.name.to_string(),
        grants: context.grants.clone(),
        set: shared.config().egress.of(context.name.as_str()),
        bounds: egress::Bounds::default(),
        resolver: Arc::clone(&shared.resolver),
        audit: shared.audit.clone(),
        metrics: shared.metrics.clone(),
        log: context.log.clone(),
    }
}

/// Tells the plugin where its database is, if it needs one. The answer is what has to be served for that.
fn give_database(
    context: &StartContext,
    data_dir: &Path,
    socket: &Path,
    env: &mut BTreeMap<String, String>,
) -> Result<Option<Relay>, String> {
    if !context.manifest.requires_db {
        return Ok(None);
    }
    let engine = context.grants.borrow().database;
    let (url, relay) = match engine.ok_or("it needs a database and was granted none")? {
        Engine::Sqlite => {
            let url = database::sqlite(data_dir);
            (url.map_err(|error| format!("its database's file cannot be made: {error}"))?, None)
        }
        Engine::Postgres => {
            let path = socket.with_file_name(RELAY_SOCKET);
            let relay = Relay::bind(&path)
                .map_err(|error| format!("the way to its database cannot be opened: {error}"))?;
            let directory = path.parent().unwrap_or(Path::new("/"));
            (database::relay_url(context.name.as_str(), directory), Some(relay))
        }
    };
    env.insert(DATABASE_URL.to_owned(), url);
    Ok(relay)
}

/// What is done once a plugin is ready: its processor time is restricted, and its sandbox is read back.
async fn settle_in(context: &StartContext, process: &Arc<Process>) -> Result<(), String> {
    let confined = Arc::clone(process.confined());
    let read = tokio::task::spawn_blocking(move || {
        confined
            .restrict_cpu()
            .map_err(|error| format!("its processor time cannot be restricted: {error}"))?;
        Ok::<_, String>(confined.look())
    });
    // Failing means that the runtime ends.
    let layers = read.await.map_err(|error| error.to_string())??;
    // Of a plugin that has ended meanwhile nothing can be read; how it ended says more.
    if layers.iter().all(|report| report.state != State::Unknown) {
        process.confined().judge(&layers).map_err(|breach| breach.to_string())?;
    }
    context.report(Progress::Confined(layers.into())).await;
    Ok(())
}

/// Tells when the process and all that it left behind are gone. What it wrote before is read first, because that often says
/// more than how it ended.
async fn watch_exit(context: StartContext, process: Arc<Process>, shaken_hands: CancellationToken) {
    let exit = process.wait_exit().await;
    context.tap().exit(exit.code, exit.signal);
    // Without an answer in time the exit itself is the story.
    let _ = tokio::time::timeout(EXIT_EXPLAINS, shaken_hands.cancelled()).await;
    context.over.cancel();
    process.gone().await;
    context.report(Progress::Exited(exit)).await;
}

/// Reads both lines; `None` when that failed, which was reported then.
async fn shake_hands<R: AsyncRead + Unpin>(
    context: &StartContext,
    process: &Arc<Process>,
    stdout: &mut BufReader<R>,
    done: &CancellationToken,
) -> Option<Arc<Ready>> {
    let dialect = Dialect::default();
    let limit = context.shared.config().handshake_timeout;
    let held = Arc::clone(process);
    let excuse = Excuse::when(move || held.is_traced());
    let patience = Patience { limit, suspended: context.debug.clone(), excuse };
    let manifest = match dialect.read_manifest(stdout, patience.clone()).await {
        Ok(manifest) => manifest,
        Err(error) => return failed(context, error, done).await,
    };
    if manifest != context.manifest {
        let what = difference(&context.manifest, &manifest);
        context.report(Progress::ManifestDiffers(what)).await;
        return None;
    }
    warn_of_an_old_version(context, &manifest);
    context.report(Progress::ManifestRead).await;
    match dialect.read_ready(stdout, patience).await {
        Ok(ready) => {
            context.report(Progress::Ready(Arc::clone(&ready))).await;
            Some(ready)
        }
        Err(error) => failed(context, error, done).await,
    }
}

/// An operator who looks at the log of a plugin, or of the host, learns in time that its version comes to its end.
fn warn_of_an_old_version(context: &StartContext, manifest: &PluginManifest) {
    let major = major_of(manifest);
    if let Some(advice) = context.shared.versions.deprecation(major) {
        tracing::warn!(plugin = %context.name, api_version = major, advice, "the plugin's api_version is deprecated");
        context.log.say("warn", format!("api_version {major} is deprecated: {advice}"));
    }
}

/// A closed stream is mostly an exit, whose status says more; it gets a moment to be seen.
async fn failed<T>(context: &StartContext, error: ReadError, done: &CancellationToken) -> Option<T> {
    if matches!(error, ReadError::Closed { .. }) {
        done.cancel();
        tokio::time::sleep(EXIT_EXPLAINS).await;
    }
    context.report(Progress::Failed(error.to_string())).await;
    None
}

/// Which fields of the manifest are not as inspected.
fn difference(inspected: &PluginManifest, started: &PluginManifest) -> String {
    let (Ok(serde_json::Value::Object(a)), Ok(serde_json::Value::Object(b))) =
        (serde_json::to_value(inspected), serde_json::to_value(started))
    else {
        return "its manifest".to_owned();
    };
    let mut fields: Vec<&str> = Vec::new();
    for key in a.keys().chain(b.keys()) {
        if a.get(key) != b.get(key) && !fields.contains(&key.as_str()) {
            fields.push(key);
        }
    }
    fields.join(", ")
}

/// Opens the channel and reports the finished link.
async fn connect(context: &StartContext, process: &Arc<Process>, socket: PathBuf, ready: Arc<Ready>) {
    let announced = ready.known_features();
    let features: Vec<Feature> =
        HOST_FEATURES.iter().copied().filter(|feature| announced.contains(feature)).collect();
    let mut link = Link {
        name: context.name.clone(),
        incarnation: context.start,
        socket,
        launcher_pid: process.launcher_pid(),
        secret: context.secret.clone(),
        manifest: Arc::clone(&context.manifest),
        ready: Arc::clone(&ready),
        features,
        channel: None,
        has_ui: ready.has_ui,
        closed: CancellationToken::new(),
        work: context.work.clone(),
        ended: context.ended.clone(),
        blames_an_event: Arc::default(),
        tap: context.tap(),
    };
    match open_channel(context, &link).await {
        Ok(channel) => link.channel = channel,
        Err(why) => {
            tokio::time::sleep(EXIT_EXPLAINS).await;
            return context.report(Progress::Failed(why)).await;
        }
    }
    context.report(Progress::Connected(Arc::new(link))).await;
}

/// Looks for a UI that ready did not announce. Some plugins serve it a moment after their channel was opened, so one answer
/// proves nothing; the plugin runs meanwhile.
pub(crate) async fn look_for_ui(context: StartContext, link: Arc<Link>) {
    for wait in UI_WAITS {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = context.over.cancelled() => return,
        }
        if health::ask(&link, "/ui/", UI_TIMEOUT).await.is_ok() {
            return context.report(Progress::UiFound).await;
        }
    }
}

/// The same start with another channel, open for new work.
fn renewed(link: &Link, channel: Option<ChannelHandle>) -> Link {
    Link {
        name: link.name.clone(),
        incarnation: link.incarnation,
        socket: link.socket.clone(),
        launcher_pid: link.launcher_pid,
        secret: link.secret.clone(),
        manifest: Arc::clone(&link.manifest),
        ready: Arc::clone(&link.ready),
        features: link.features.clone(),
        channel,
        has_ui: link.has_ui,
        closed: CancellationToken::new(),
        work: link.work.clone(),
        ended: link.ended.clone(),
        blames_an_event: Arc::clone(&link.blames_an_event),
        tap: link.tap.clone(),
    }
}

/// `Ok(None)` when the plugin has no channel.
async fn open_channel(context: &StartContext, link: &Link) -> Result<Option<ChannelHandle>, String> {
    let shared = &context.shared;
    let spec = ChannelSpec {
        name: context.name.clone(),
        secret: context.secret.clone(),
        grants: context.grants.clone(),
        platform: Arc::clone(&shared.platform),
        store: Arc::clone(&shared.store),
        config: context.config.clone(),
        acks: link.features.contains(&Feature::Ack),
        audit: shared.audit.clone(),
        metrics: shared.metrics.clone(),
        tap: link.tap.clone(),
    };
    let told = link.tap.request("GET", channel::CHANNEL_PATH);
    let opened = channel::open(spec, &link.socket, link.launcher_pid).await;
    match &opened {
        Ok(Opened::Channel(_)) => told.answered(101),
        Ok(Opened::Unsupported { status }) | Err(channel::OpenError::Refused { status }) => {
            told.answered(*status)
        }
        Err(_) => {}
    }
    match opened {
        Ok(Opened::Channel(channel)) => {
            if link.features.contains(&Feature::Config) {
                tell_config(context, channel.clone()).await;
            }
            Ok(Some(channel))
        }
        Ok(Opened::Unsupported { .. }) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Sends the configuration before anything else goes over a channel, and again after each change as long as it is open.
async fn tell_config(context: &StartContext, channel: ChannelHandle) {
    let mut config = context.config.clone();
    let first = config.borrow_and_update().clone();
    // A channel that is closed already is noticed by whoever watches it.
    if channel.send_config(&first).await.is_err() {
        return;
    }
    let over = context.over.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                changed = config.changed() => if changed.is_err() { return },
                () = channel.closed.cancelled() => return,
                () = over.cancelled() => return,
            }
            let config = config.borrow_and_update().clone();
            if channel.send_config(&config).await.is_err() {
                return;
            }
        }
    });
}

/// Tells when the channel of a link is lost, unless the start is over first.
pub(crate) async fn watch_channel(context: StartContext, channel: ChannelHandle) {
    tokio::select! {
        () = channel.closed.cancelled() => {
            let how = channel.end().map_or_else(|| "the channel was lost".to_owned(), ToString::to_string);
            context.report(Progress::ChannelLost(how)).await;
        }
        () = context.over.cancelled() => {}
    }
}

/// Opens a new channel for a plugin that accepts one, with a few tries.
pub(crate) async fn reconnect(context: StartContext, link: Arc<Link>) {
    let mut last = String::new();
    for wait in RECONNECT_WAITS {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = context.over.cancelled() => return,
        }
        match open_channel(&context, &link).await {
            Ok(Some(channel)) => {
                let link = Arc::new(renewed(&link, Some(channel)));
                return context.report(Progress::Reconnected(link)).await;
            }
            Ok(None) => last = "the plugin does not offer it any more".to_owned(),
            Err(why) => last = why,
        }
    }
    let why = format!("the channel was lost and could not be opened again: {last}");
    context.report(Progress::ReconnectFailed(why)).await;
}

/// Asks for the plugin's health until the start is over.
pub(crate) async fn watch_health(context: StartContext, process: Arc<Process>, link: Arc<Link>) {
    let mut pulse = Pulse::default();
    loop {
        let policy = context.shared.config().health;
        let judgement = tokio::select! {
            judgement = check(&context, &process, &link, &mut pulse) => judgement,
            () = context.over.cancelled() => return,
        };
        match judgement {
            Judgement::Show(health) => context.report(Progress::Health(health)).await,
            Judgement::Failed(why) => return context.report(Progress::HealthFailed(why)).await,
        }
        tokio::select! {
            () = tokio::time::sleep(policy.interval) => {}
            () = context.over.cancelled() => return,
        }
    }
}

async fn check(context: &StartContext, process: &Process, link: &Arc<Link>, pulse: &mut Pulse) -> Judgement {
    let policy = context.shared.config().health;
    // Questions would queue up at a plugin that stands still, and be answered long after anybody waits.
    if *context.debug.borrow() || process.is_traced() {
        return pulse.suspend();
    }
    let answer = health::ask(link, &link.manifest.health_path, policy.timeout).await;
    // Asked afterwards, so that a debugger which came meanwhile is not taken for a failure.
    let suspended = *context.debug.borrow() || (answer.is_err() && process.is_traced());
    if suspended { pulse.suspend() } else { pulse.judge(answer, &policy) }
}

/// Measures what the plugin uses until the start is over.
pub(crate) async fn watch_usage(context: StartContext, process: Arc<Process>) {
    let counted = || Traffic::counted(&context.shared.metrics, context.name.as_str());
    let mut meter = Meter::begin(Instant::now(), counted());
    let limits = process.confined().limits();
    loop {
        let pause = context.shared.config().usage_every;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.over.cancelled() => return,
        }
        let (process, data) = (Arc::clone(&process), context.shared.places.data_path(context.name.as_str()));
        let measure = move || {
            let mut resources =
                usage::measure(process.launcher_pid()).counted_by(&process.confined().usage());
            resources.disk_bytes = crate::sandbox::used_by(&data);
            resources
        };
        // Failing means that the runtime ends.
        let Ok(resources) = tokio::task::spawn_blocking(measure).await else { return };
        let usage = meter.read(Instant::now(), Utc::now(), resources, counted()).near(&limits);
        // What was measured of a plugin that is gone would say nothing of it.
        if context.over.is_cancelled() {
            return;
        }
        context.report(Progress::Usage(usage)).await;
    }
}

/// Ends a plugin whose data directory has grown beyond its limit. One file alone the kernel stops before.
pub(crate) async fn watch_disk(context: StartContext, most: u64) {
    let mut pause = DISK_LOOK_EVERY;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.over.cancelled() => return,
        }
        let data = context.shared.places.data_path(context.name.as_str());
        let begin = Instant::now();
        let Ok(used) = tokio::task::spawn_blocking(move || crate::sandbox::used_by(&data)).await else {
            return;
        };
        // A directory that takes long to add up is looked at more rarely.
        pause = DISK_LOOK_EVERY.max(begin.elapsed() * DISK_LOOK_SHARE);
        if let Some(used) = used.filter(|used| *used > most) {
            let (used, most) = (used >> 20, most >> 20);
            let why = format!(
                "its data directory has {used} MiB and may have {most} MiB (disk_max); remove some of it, or allow it more"
            );
            return context.report(Progress::HealthFailed(why)).await;
        }
    }
}

/// Tells when no work with the plugin is in flight any more.
pub(crate) async fn await_drained(context: StartContext) {
    context.work.close();
    context.work.wait().await;
    context.report(Progress::Drained).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_the_fields() {
        let before = PluginManifest::builder("a", "1.0.0").event("x.y").build();
        let after = PluginManifest::builder("a", "1.0.1").event("x.*").build();
        assert_eq!(difference(&before, &after), "events, version");
    }
}
