//! Evidence: what the kernel says of the running program, layer by layer. That a call was made proves nothing and is not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::decide::{Decided, Decision};
use crate::layers::{Layer, Policy};
use crate::limits::Group;
use crate::plan::{Access, ProcessLimits, Root, Step};

/// How a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// In force, as the evidence shows.
    InForce,
    /// A part or something weaker is in force.
    Partial,
    /// Wanted, and not in force.
    NotInForce,
    /// Not wanted.
    Off,
    /// It cannot be read, for example because the program has ended.
    Unknown,
}

/// What is known of one layer of a running program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerReport {
    /// The layer.
    pub layer: Layer,
    /// What was wanted.
    pub policy: Policy,
    /// How it is.
    pub state: State,
    /// What brings it about.
    pub mechanism: Option<String>,
    /// What was read back, or why there is nothing.
    pub evidence: String,
}

/// What a launcher said of a step; the kernel tells nobody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// Name of the step.
    pub step: String,
    /// Whether all that the step wanted is in force.
    pub whole: bool,
    /// What the kernel enforces.
    pub words: String,
}

impl State {
    /// Words for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::InForce => "in force",
            State::Partial => "partial",
            State::NotInForce => "NOT in force",
            State::Off => "off",
            State::Unknown => "unknown",
        }
    }
}

/// What was read: whether it is as wanted, and the words for it. `None` when it cannot be read.
type Reading = Option<(bool, String)>;

/// Reads back every layer of a running program. `pid` is the program's number as this process sees it.
#[must_use]
pub fn verify(
    decision: &Decision,
    pid: Option<u32>,
    remarks: &[Remark],
    group: Option<&Group>,
) -> Vec<LayerReport> {
    let process = pid.and_then(Seen::of);
    let reader = Reader { decision, process: process.as_ref(), remarks, group };
    decision.layers.iter().map(|decided| reader.report(decided)).collect()
}

/// The files of `/proc` that show a process.
struct Seen {
    pid: u32,
    status: BTreeMap<String, String>,
}

struct Reader<'a> {
    decision: &'a Decision,
    process: Option<&'a Seen>,
    remarks: &'a [Remark],
    group: Option<&'a Group>,
}

impl Reader<'_> {
    fn report(&self, decided: &Decided) -> LayerReport {
        let Decided { layer, policy, mechanism, missing } = decided.clone();
        let (state, evidence) = match (policy, &missing) {
            (Policy::Off, _) => (State::Off, off(layer)),
            // Something weaker may be there in its place; it is not taken for the layer.
            (_, Some(why)) if mechanism.is_none() => (State::NotInForce, why.clone()),
            (_, missing) => match self.read(layer, missing.is_some()) {
                None => (State::Unknown, "the program cannot be looked at (it may have ended)".to_owned()),
                Some((true, found)) => match missing {
                    None => (State::InForce, found),
                    Some(why) => (State::Partial, format!("{found}; {why}")),
                },
                Some((false, found)) => (State::NotInForce, found),
            },
        };
        LayerReport { layer, policy, state, mechanism, evidence }
    }

    fn read(&self, layer: Layer, weaker: bool) -> Reading {
        match layer {
            Layer::Processes if weaker => Some((true, "the launcher adopts orphans".into())),
            Layer::Processes => self.process?.namespace("pid"),
            Layer::User => self.user(),
            Layer::Privileges => self.process?.privileges(),
            Layer::Files => self.files(),
            Layer::ProcessView => self.process?.own_proc(),
            Layer::Network if weaker => self.process?.filter(),
            Layer::Network => self.process?.namespace("net"),
            Layer::Ipc => self.process?.namespace("ipc"),
            Layer::Hostname => self.process?.namespace("uts"),
            Layer::GroupView => self.process?.namespace("cgroup"),
            Layer::SystemCalls => self.process?.filter(),
            Layer::Landlock => self.landlock(weaker),
            Layer::Memory => self.limit(layer, self.decision.group.memory, "Max data size", |l| l.memory),
            Layer::Cpu => self.processor_time(),
            Layer::Tasks => {
                let wanted = self.decision.group.tasks.map(|tasks| tasks + crate::LAUNCHER_TASKS);
                self.limit(layer, wanted, "Max processes", |l| l.tasks)
            }
            Layer::OpenFiles => self.process_limit("Max open files", |l| l.open_files),
            Layer::FileSize => self.process_limit("Max file size", |l| l.file_size),
        }
    }

    /// The share of a processor counts, however the quota and its span are written.
    fn processor_time(&self) -> Reading {
        let (quota, period) = crate::limits::quota_and_period(self.decision.group.cpu?);
        self.limit_of_group(Layer::Cpu, " (the quota begins once the program is ready)", |content| {
            let mut numbers = content.split_whitespace().map(str::parse::<u64>);
            match (numbers.next(), numbers.next()) {
                (Some(Ok(found)), Some(Ok(over))) => over > 0 && found * period <= quota * over,
                _ => false,
            }
        })
    }

    fn user(&self) -> Reading {
        let wanted = self.decision.steps.iter().find_map(|step| match step {
            Step::BecomeUser { uid, gid } => Some((*uid, *gid)),
            _ => None,
        })?;
        let seen = self.process?;
        let (uids, gids, groups) = (seen.status("Uid")?, seen.status("Gid")?, seen.status("Groups")?);
        let all = |text: &str, id: u32| text.split_whitespace().all(|n| n == id.to_string());
        let good = all(uids, wanted.0) && all(gids, wanted.1) && groups.trim().is_empty();
        Some((good, format!("Uid: {}; Gid: {}; Groups: {}", spaced(uids), spaced(gids), or_none(groups))))
    }

    /// The root is an empty file system of its own, and each mount has the flags that it should have.
    fn files(&self) -> Reading {
        let seen = self.process?;
        let (own, namespace) = seen.namespace("mnt")?;
        let root = self.decision.steps.iter().find_map(|step| match step {
            Step::Root(root) => Some(root),
            _ => None,
        })?;
        let mounts = seen.mounts()?;
        let wrong = wrong_mounts(root, &mounts);
        if !wrong.is_empty() {
            let first: Vec<String> = wrong.iter().take(FIRST_WRONG).cloned().collect();
            let more = wrong.len().saturating_sub(FIRST_WRONG);
            let more = if more == 0 { String::new() } else { format!("; and {more} more") };
            return Some((false, first.join("; ") + &more));
        }
        let listed = root.mounts.len();
        let words = format!(
            "{namespace}; / is a read-only tmpfs; of {} mounts all are nosuid, and none is both writable and executable; {listed} of them are the program's own, with their flags",
            mounts.len()
        );
        Some((own, words))
    }

    /// The kernel shows nobody which rules are in force; the launcher's word from right before the execution is all there is.
    fn landlock(&self, weaker: bool) -> Reading {
        let remark = self.remarks.iter().find(|remark| remark.step == "landlock")?;
        Some((remark.whole || weaker, format!("the launcher's word: {}", remark.words)))
    }

    /// A limit that a group keeps, or in its place one for each process.
    fn limit(
        &self,
        layer: Layer,
        by_group: Option<u64>,
        name: &str,
        of: impl Fn(&ProcessLimits) -> Option<u64>,
    ) -> Reading {
        let Some(wanted) = by_group else { return self.process_limit(name, of) };
        // The kernel keeps memory in whole pages.
        let is_same = |found: u64| found <= wanted && found + PAGE > wanted;
        self.limit_of_group(layer, "", |content| content.parse().is_ok_and(is_same))
    }

    /// What a group says of a limit: whether that is good, and what there is to say where it is not.
    fn limit_of_group(&self, layer: Layer, otherwise: &str, is_good: impl Fn(&str) -> bool) -> Reading {
        let (group, seen) = (self.group?, self.process?);
        let (file, content) = group.limit(layer)?;
        if !group.contains(seen.pid) {
            return Some((false, "the program is not in its group".into()));
        }
        let good = is_good(&content);
        let otherwise = if good { "" } else { otherwise };
        Some((good, format!("{file}: {content}{otherwise}, the program is in the group")))
    }

    fn process_limit(&self, name: &str, of: impl Fn(&ProcessLimits) -> Option<u64>) -> Reading {
        let wanted = self.decision.steps.iter().find_map(|step| match step {
            Step::ProcessLimits(limits) => of(limits),
            _ => None,
        })?;
        let found = self.process?.hard_limit(name)?;
        // The host's own limit may be lower; it is not raised.
        let good = found.parse::<u64>().is_ok_and(|found| found <= wanted);
        Some((good, format!("{name}: {found}")))
    }
}

/// What is not mounted as it should be, in words.
fn wrong_mounts(root: &Root, mounts: &[MountSeen]) -> BTreeSet<String> {
    let last = |path: &str| mounts.iter().rev().find(|mount| mount.path == path);
    let as_it_is = |mount: &MountSeen| format!("{} is mounted {} ({})", mount.path, mount.flags, mount.kind);
    let not_there = |path: &str| format!("{path} is not mounted");
    let mut wrong = BTreeSet::new();
    if !last("/").is_some_and(|slash| slash.kind == "tmpfs" && slash.has("ro")) {
        wrong.insert(last("/").map_or_else(|| not_there("/"), as_it_is));
    }
    for mount in &root.mounts {
        let path = mount.path.display().to_string();
        let wanted: &[&str] = match mount.access {
            Access::Program => &["ro", "nosuid", "nodev"],
            Access::Data => &["rw", "nosuid", "nodev", "noexec"],
        };
        if !last(&path).is_some_and(|found| wanted.iter().all(|flag| found.has(flag))) {
            wrong.insert(last(&path).map_or_else(|| not_there(&path), as_it_is));
        }
    }
    let loose = |mount: &&MountSeen| !mount.has("nosuid") || !(mount.has("ro") || mount.has("noexec"));
    wrong.extend(mounts.iter().filter(loose).map(as_it_is));
    wrong
}

/// Mounts without their flags that are named; the others are counted.
const FIRST_WRONG: usize = 3;

/// Largest page that kernels use, in bytes.
const PAGE: u64 = 64 << 10;

/// What it means that a layer is off.
fn off(layer: Layer) -> String {
    match layer {
        Layer::Network => {
            "off in the settings: the program uses the machine's network and reaches what the machine reaches"
                .into()
        }
        _ => format!("off in the settings; it would protect from {}", layer.protects_from()),
    }
}

struct MountSeen {
    path: String,
    flags: String,
    kind: String,
}

impl MountSeen {
    fn has(&self, flag: &str) -> bool {
        self.flags.split(',').any(|one| one == flag)
    }
}

impl Seen {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let status = text.lines().filter_map(|line| line.split_once(':'));
        Some(Self { pid, status: status.map(|(k, v)| (k.to_owned(), v.trim().to_owned())).collect() })
    }

    fn status(&self, name: &str) -> Option<&str> {
        self.status.get(name).map(String::as_str)
    }

    /// Whether the program is in another namespace than this process.
    fn namespace(&self, kind: &str) -> Reading {
        let theirs = fs::read_link(self.file("ns").join(kind)).ok()?;
        let ours = fs::read_link(format!("/proc/self/ns/{kind}")).ok()?;
        Some((theirs != ours, format!("{}, the host's is {}", theirs.display(), ours.display())))
    }

    fn privileges(&self) -> Reading {
        let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
        let values: Vec<(&str, &str)> =
            sets.iter().filter_map(|set| self.status(set).map(|value| (*set, value))).collect();
        let kept: Vec<String> = values
            .iter()
            .filter(|(_, value)| value.bytes().any(|digit| digit != b'0'))
            .map(|(set, value)| format!("{set}: {value}"))
            .collect();
        let none = self.status("NoNewPrivs")?;
        // Where the bounding set cannot be emptied, no new privileges keeps anything from coming back.
        let good = none == "1" && values.len() >= 4 && kept.iter().all(|set| set.starts_with("CapBnd"));
        let capabilities =
            if kept.is_empty() { "all capability sets are empty".into() } else { kept.join(", ") };
        Some((good, format!("NoNewPrivs: {none}; {capabilities}")))
    }

    /// Filters are inherited: where the host has some itself, as in most containers, the program has to have more.
    fn filter(&self) -> Reading {
        let mode = self.status("Seccomp")?;
        let own = Seen::of(std::process::id())?;
        let count =
            |seen: &Self| seen.status("Seccomp_filters").and_then(|number| number.parse::<u32>().ok());
        Some(match (count(self), count(&own)) {
            (Some(theirs), Some(ours)) => (
                mode == "2" && theirs > ours,
                format!("Seccomp: {mode}; Seccomp_filters: {theirs}, the host's: {ours}"),
            ),
            // Kernels before 5.9 do not count them.
            _ => (mode == "2" && own.status("Seccomp") != Some("2"), format!("Seccomp: {mode}")),
        })
    }

    fn own_proc(&self) -> Reading {
        let mounts = self.mounts()?;
        let proc = mounts.iter().rev().find(|mount| mount.path == "/proc")?;
        let (own, namespace) = self.namespace("pid")?;
        let shown = fs::read_link(self.file("root").join("proc/self"));
        // A /proc of another namespace does not know the one who asks, and so has no answer for this process.
        let good = proc.kind == "proc" && own && shown.is_err();
        let shows = if good { "its own processes only" } else { "processes outside as well" };
        Some((good, format!("{} on /proc shows {shows}; {namespace}", proc.kind)))
    }

    /// What the kernel shows of the program under a name.
    fn file(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join(name)
    }

    fn hard_limit(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.file("limits")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().nth(1).map(str::to_owned)
    }

    fn mounts(&self) -> Option<Vec<MountSeen>> {
        let text = fs::read_to_string(self.file("mountinfo")).ok()?;
        let mounts = text.lines().filter_map(|line| {
            let (front, back) = line.split_once(" - ")?;
            let front: Vec<&str> = front.split(' ').collect();
            let kind = back.split(' ').next()?.to_owned();
            Some(MountSeen { path: unescaped(front.get(4)?), flags: (*front.get(5)?).to_owned(), kind })
        });
        Some(mounts.collect())
    }
}

/// The kernel writes spaces and the like in paths as octal numbers.
fn unescaped(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn or_none(text: &str) -> &str {
    if text.trim().is_empty() { "none" } else { text }
}
