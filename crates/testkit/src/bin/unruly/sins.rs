//! The sins that are not part of an answer: what is written before the manifest, and what runs beside the plugin.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use temps_testkit::Sin;
use temps_testkit::behaviour::DAEMON_MARK;

use crate::{Plugin, manifest_line, ready_line, write_line};

/// Most files that [`Sin::LeaksDescriptors`] opens where nothing stops it.
const MAX_LEAKED: usize = 100_000;

/// How long what [`Sin::Forks`] starts lives by itself.
const LIFETIME_SECONDS: &str = "600";

/// Size of each file of [`Sin::FillsDisk`] in units of 1,000,000 bytes: below every limit of single files.
const FILE_MEGABYTES: usize = 4;

/// One line of the floods.
const FLOOD_LINE: &[u8] =
    b"This line is printed over and over again by a plugin that was told to flood what the host must drain\n";

/// What happens in place of, or before, an honest manifest line.
pub(crate) async fn before_the_manifest(plugin: &Plugin) -> std::io::Result<()> {
    for sin in &plugin.order.sins {
        match sin {
            Sin::NoOutput => std::future::pending::<()>().await,
            Sin::HalfALine => {
                let line = manifest_line(&plugin.order)?;
                let mut stdout = std::io::stdout();
                stdout.write_all(&line.as_bytes()[..line.len() / 2])?;
                stdout.flush()?;
                std::future::pending::<()>().await;
            }
            Sin::HugeLine { megabytes } => {
                let part = vec![b'a'; 1_000_000];
                let mut stdout = std::io::stdout();
                stdout.write_all(b"{\"type\":\"manifest\",\"name\":\"")?;
                for _ in 0..*megabytes {
                    stdout.write_all(&part)?;
                }
                stdout.write_all(b"\"}\n")?;
                stdout.flush()?;
            }
            Sin::Chatter => write_line("Listening for connections, have a nice day")?,
            Sin::WrongTypeFirst => write_line(r#"{"type":"greeting","name":"unruly"}"#)?,
            Sin::ReadyBeforeManifest => write_line(&ready_line(&plugin.order).to_string())?,
            _ => {}
        }
    }
    Ok(())
}

/// Starts what runs beside the plugin once it said ready.
pub(crate) fn after_ready(plugin: &Arc<Plugin>) -> std::io::Result<()> {
    for sin in &plugin.order.sins {
        match *sin {
            Sin::Daemonises => leave_a_daemon("leave")?,
            Sin::FloodsStdout { megabytes } => in_background(move || flood(std::io::stdout(), megabytes)),
            Sin::FloodsStderr { megabytes } => in_background(move || flood(std::io::stderr(), megabytes)),
            Sin::LeaksDescriptors => in_background(leak_descriptors),
            Sin::EatsCpu { threads } => (0..threads).for_each(|_| in_background(compute_for_ever)),
            Sin::EatsMemory { megabytes } => in_background(move || eat_memory(megabytes)),
            Sin::Forks { processes } => in_background(move || fork(processes)),
            Sin::FillsDisk { megabytes } => {
                let data_dir = plugin.data_dir.clone();
                in_background(move || fill_disk(&data_dir, megabytes));
            }
            Sin::ExitAfter { ms } => in_background(move || {
                std::thread::sleep(Duration::from_millis(ms));
                std::process::exit(1);
            }),
            _ => {}
        }
    }
    Ok(())
}

fn in_background(work: impl FnOnce() + Send + 'static) {
    std::thread::spawn(work);
}

fn flood(mut stream: impl Write, megabytes: usize) {
    for _ in 0..megabytes * 1_000_000 / FLOOD_LINE.len() {
        if stream.write_all(FLOOD_LINE).is_err() {
            return;
        }
    }
}

fn leak_descriptors() {
    let mut leaked = Vec::new();
    while leaked.len() < MAX_LEAKED {
        match std::fs::File::open("/dev/null") {
            Ok(file) => leaked.push(file),
            Err(_) => break,
        }
    }
    loop {
        std::thread::park();
        std::hint::black_box(&leaked);
    }
}

fn compute_for_ever() {
    let mut number = 1_u64;
    loop {
        number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

fn eat_memory(megabytes: usize) {
    // One part at a time, so that a limit is met on the way and not by one refused allocation.
    let mut eaten = Vec::new();
    for part in 0..megabytes {
        eaten.push(vec![u8::try_from(part % 255 + 1).unwrap_or(1); 1_000_000]);
    }
    loop {
        std::thread::park();
        std::hint::black_box(&eaten);
    }
}

/// Each of them sleeps, so that together they reach the limit of tasks and not that of processor time.
fn fork(processes: usize) {
    let mut started = Vec::new();
    while started.len() < processes {
        // What is refused now may be granted later: a bomb does not give up.
        let Ok(child) = Command::new("sleep").arg(LIFETIME_SECONDS).stdin(Stdio::null()).spawn() else {
            continue;
        };
        started.push(child);
    }
}

fn fill_disk(data_dir: &Path, megabytes: usize) {
    let part = vec![b'f'; 1_000_000];
    for number in 0..megabytes.div_ceil(FILE_MEGABYTES) {
        let Ok(mut file) = std::fs::File::create(data_dir.join(format!("filler-{number}"))) else { return };
        for _ in 0..FILE_MEGABYTES {
            if file.write_all(&part).is_err() {
                return;
            }
        }
    }
}

/// Starts this program once more, to play `part` in [`live_as_daemon`].
fn leave_a_daemon(part: &str) -> std::io::Result<()> {
    Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .env(DAEMON_MARK, part)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
}

/// The life of a copy: `leave` takes a session of its own, starts `beat` and ends, so that `beat` has no parent here.
pub(crate) fn live_as_daemon(part: &str, data_dir: &Path) -> std::io::Result<()> {
    if part == "leave" {
        rustix::process::setsid()?;
        return leave_a_daemon("beat");
    }
    std::fs::write(data_dir.join("daemon.pid"), std::process::id().to_string())?;
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(std::io::Error::other)?;
        std::fs::write(data_dir.join("daemon.beat"), now.as_millis().to_string())?;
        std::thread::sleep(Duration::from_millis(100));
    }
}
