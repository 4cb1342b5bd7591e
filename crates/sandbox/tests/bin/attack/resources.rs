//! Attacks on what everybody shares: memory, processors, processes, open files, disk.
#![expect(unsafe_code, reason = "the calls have no safe wrapper")]

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::{Attack, Outcome, Places};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "fork_bomb", mutates: false, run: fork_bomb },
    Attack { name: "memory_bomb", mutates: false, run: memory_bomb },
    Attack { name: "open_files", mutates: false, run: open_files },
    Attack { name: "big_file", mutates: true, run: |places| write(places.text("data"), 1, 24) },
    Attack { name: "fill_tmp", mutates: true, run: |_| write("/tmp", 12, 2) },
    Attack { name: "spin", mutates: false, run: spin },
];

/// Processes that a bomb of the test makes at most. The limit of the test is far below it.
const BOMB: usize = 150;

/// Memory that the bomb takes at most, in MiB. The limit of the test is far below it.
const MEMORY_MIB: usize = 200;

/// Descriptors that are opened at most.
const DESCRIPTORS: usize = 600;

/// How long the processors are kept busy.
const SPIN: Duration = Duration::from_secs(1);

fn fork_bomb(_: &Places) -> Outcome {
    let mut children = Vec::new();
    let mut refused = None;
    while children.len() < BOMB {
        // SAFETY: this process has one thread; the child only waits to be killed.
        match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            },
            child if child > 0 => children.push(child),
            _ => {
                refused = Some(std::io::Error::last_os_error());
                break;
            }
        }
    }
    for child in &children {
        // SAFETY: the number is that of a child that was not waited for.
        unsafe { libc::kill(*child, libc::SIGKILL) };
    }
    match refused {
        Some(error) => Outcome::Held(format!("after {} processes: {error}", children.len())),
        None => Outcome::Through(format!("made {BOMB} processes")),
    }
}

/// A bomb that is answered by death leaves no line; the test knows that.
fn memory_bomb(_: &Places) -> Outcome {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for taken in 0..MEMORY_MIB {
        let mut piece: Vec<u8> = Vec::new();
        if piece.try_reserve_exact(1 << 20).is_err() {
            return Outcome::Held(format!("after {taken} MiB: there is no more memory"));
        }
        piece.resize(1 << 20, 0u8);
        // Memory is there only once it is touched, page by page.
        piece.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        all.push(std::hint::black_box(piece));
    }
    Outcome::Through(format!("took {} MiB", all.len()))
}

fn open_files(_: &Places) -> Outcome {
    let mut open = Vec::new();
    while open.len() < DESCRIPTORS {
        match File::open("/dev/null") {
            Ok(file) => open.push(file),
            Err(error) => return Outcome::Held(format!("after {}: {error}", open.len())),
        }
    }
    Outcome::Through(format!("opened {DESCRIPTORS} files"))
}

/// Writes some files of so many MiB each. The signal of a file that is too large is taken as an error. Many small files
/// show the bound of the file system, one big file that of a file.
fn write(directory: &str, files: usize, mib: usize) -> Outcome {
    // SAFETY: the disposition is a constant of the system.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let piece = vec![1u8; 1 << 20];
    let path = |number: usize| format!("{directory}/big-{number}");
    let done = (0..files).try_for_each(|number| {
        let mut file = File::create(path(number))?;
        (0..mib).try_for_each(|_| file.write_all(&piece))
    });
    for number in 0..files {
        let _ = std::fs::remove_file(path(number));
    }
    Outcome::of(done, &format!("wrote {} MiB into {directory}", files * mib))
}

fn spin(_: &Places) -> Outcome {
    let begin = Instant::now();
    while begin.elapsed() < SPIN {
        std::hint::spin_loop();
    }
    // Whether it was slowed down is known by its group only.
    Outcome::Through("kept a processor busy".into())
}
