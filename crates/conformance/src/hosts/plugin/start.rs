//! What a plugin is given at its start: arguments, environment, directories, standard streams.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use temps_protocol::Feature;

use super::Plugin;

/// The variables that a plugin without a database may have.
const TABLE: [&str; 11] = [
    "TEMPS_API_VERSION",
    "TEMPS_FEATURES",
    "TEMPS_PLUGIN_NAME",
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// Longest path of a socket, in bytes.
const MAX_SOCKET_PATH: usize = 107;

/// Fewest characters of a secret that nobody guesses.
const MIN_SECRET: usize = 16;

/// What is written after ready, in lines of a kilobyte: more than any pipe holds.
const OUTPUT_LINES: usize = 512;

/// How long a host may take to read that.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(20);

/// What stands on the command line and in the environment.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) socket: PathBuf,
    pub(super) secret: String,
    pub(super) data: PathBuf,
    pub(super) name: Option<String>,
    pub(super) arguments: Vec<String>,
    environment: BTreeMap<String, String>,
}

impl Start {
    pub(super) fn of_this_process() -> io::Result<Self> {
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let arguments: Vec<String> = std::env::args_os().skip(1).map(lossy).collect();
        let value = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name);
            let value = at.and_then(|at| arguments.get(at + 1)).cloned();
            value.ok_or_else(|| io::Error::other(format!("{name} is missing on the command line")))
        };
        let environment = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect();
        Ok(Self {
            socket: value("--socket-path")?.into(),
            secret: value("--auth-secret")?,
            data: value("--data-dir")?.into(),
            name: std::env::var("TEMPS_PLUGIN_NAME").ok(),
            environment,
            arguments,
        })
    }

    fn variable(&self, name: &str) -> &str {
        self.environment.get(name).map_or("", String::as_str)
    }
}

/// Judges the start. It is called once the host uses the plugin, because an inspected one is not given everything.
pub(super) fn judge(plugin: &Plugin) {
    let (start, ledger) = (&plugin.start, &plugin.ledger);
    ledger.expect("health.asked", "a plugin that is well");
    let mut names: Vec<&str> = start.arguments.iter().step_by(2).map(String::as_str).collect();
    names.sort_unstable();
    let exact = names == ["--auth-secret", "--data-dir", "--socket-path"] && start.arguments.len() == 6;
    let shown = start.arguments.join(" ").replace(&start.secret, "***");
    ledger.judge("start.arguments", exact, "a start", || format!("the arguments {shown}"));
    judge_socket(plugin);
    judge_secret(plugin);
    judge_data(plugin);
    let wrong = wrong_variables(plugin);
    ledger.judge("start.environment", wrong.is_empty(), "a start", || wrong.join("; "));
    ledger.judge("start.stdin", stdin_is_empty(), "a read of standard input", || {
        "no end within 2 s, or bytes".to_owned()
    });
    let program = std::env::current_exe().unwrap_or_default();
    let copied = program != Path::new(&plugin.order.placed);
    ledger.judge("start.copy", copied, "a start", || format!("the program runs as {}", program.display()));
    ledger.judge(
        "inspection.data",
        ledger.fact("inspected").is_null(),
        "a file in the data directory of the inspection",
        || "it is there in the first real start".to_owned(),
    );
}

/// A plugin in a directory, started by a script, has come to here.
pub(super) fn judge_directory(plugin: &Plugin) {
    plugin.ledger.judge("start.script", true, "", String::new);
    let program = std::env::current_exe().unwrap_or_default();
    let copied = !program.starts_with(&plugin.order.placed);
    plugin.ledger.judge("start.directory", copied, "a directory", || {
        format!("the program runs as {}", program.display())
    });
}

fn judge_socket(plugin: &Plugin) {
    let path = &plugin.start.socket;
    let length = path.as_os_str().len();
    let mode =
        path.parent().and_then(|parent| std::fs::metadata(parent).ok()).map(|meta| meta.permissions().mode());
    let closed = mode.is_some_and(|mode| mode & 0o007 == 0);
    let kept = path.is_absolute() && length <= MAX_SOCKET_PATH && closed;
    plugin.ledger.judge("start.socket_path", kept, "a start", || {
        let mode = mode.map_or("a directory that is not there".to_owned(), |mode| {
            format!("the mode {:o}", mode & 0o7777)
        });
        format!("{} of {length} bytes, in {mode}", path.display())
    });
}

fn judge_secret(plugin: &Plugin) {
    let (secret, ledger) = (&plugin.start.secret, &plugin.ledger);
    let key = format!("secret/{}", super::wire::digest(secret));
    let before = ledger.fact(&key).as_u64().filter(|life| *life != plugin.life);
    ledger.remember(&key, plugin.life);
    let came = || match before {
        Some(life) => format!("the secret of start {life} again in start {}", plugin.life),
        None => format!("a secret of {} characters", secret.len()),
    };
    ledger.judge("start.secret", before.is_none() && secret.len() >= MIN_SECRET, "a start", came);
}

fn judge_data(plugin: &Plugin) {
    let data = &plugin.start.data;
    let here = std::env::current_dir().ok().and_then(|here| here.canonicalize().ok());
    let is_here = here.is_some() && here == data.canonicalize().ok();
    let written = std::fs::write(data.join("written"), "x");
    let came = || match &written {
        Err(error) => format!("{} cannot be written to: {error}", data.display()),
        Ok(()) => format!("the working directory is {}", here.clone().unwrap_or_default().display()),
    };
    plugin.ledger.judge("start.data_directory", is_here && written.is_ok(), "a start", came);
}

fn wrong_variables(plugin: &Plugin) -> Vec<String> {
    let start = &plugin.start;
    let mut wrong = Vec::new();
    let mut expect = |name: &str, right: bool| {
        if !right {
            wrong.push(format!("{name} is {:?}", start.environment.get(name)));
        }
    };
    let version = start.variable("TEMPS_API_VERSION");
    let numbers: Vec<Result<u32, _>> = version.split('.').map(str::parse).collect();
    expect(
        "TEMPS_API_VERSION",
        numbers.len() == 3 && numbers[0] == Ok(1) && numbers.iter().all(Result::is_ok),
    );
    let known = Feature::parse_list(start.variable("TEMPS_FEATURES"));
    expect("TEMPS_FEATURES", start.environment.contains_key("TEMPS_FEATURES") && !known.is_empty());
    expect("TEMPS_PLUGIN_NAME", start.name.as_deref() == Some(plugin.script().name()));
    expect("PATH", start.variable("PATH") == "/usr/local/bin:/usr/bin:/bin");
    expect("HOME", Path::new(start.variable("HOME")) == start.data);
    expect("LANG", start.variable("LANG") == "C.UTF-8");
    let temporary = Path::new(start.variable("TMPDIR"));
    expect("TMPDIR", std::fs::write(temporary.join("written"), "x").is_ok() && temporary.is_absolute());
    let stranger = |name: &&String| !TABLE.contains(&name.as_str()) && !plugin.order.added.contains(name);
    wrong.extend(start.environment.keys().filter(stranger).map(|name| format!("{name} is there")));
    wrong
}

fn stdin_is_empty() -> bool {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let _ = tell.send(matches!(io::stdin().read(&mut [0]), Ok(0)));
    });
    told.recv_timeout(Duration::from_secs(2)).unwrap_or(false)
}

/// Writes so much to both outputs that a host that does not read them is found.
pub(super) fn fill_the_output(plugin: &Plugin) {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let line = format!("{{\"type\":\"ready\",\"ready\":false,\"filler\":\"{}\"}}\n", "x".repeat(960));
        for _ in 0..OUTPUT_LINES {
            let _ = io::stdout().write_all(line.as_bytes());
            let _ = io::stderr().write_all(line.as_bytes());
        }
        let _ = tell.send(());
    });
    plugin.ledger.expect("output.drained", "512 KiB on standard output and on standard error after ready");
    let read = told.recv_timeout(OUTPUT_TIMEOUT).is_ok();
    plugin.ledger.judge(
        "output.drained",
        read,
        "512 KiB on standard output and on standard error after ready",
        || format!("it was not read within {} s", OUTPUT_TIMEOUT.as_secs()),
    );
}
