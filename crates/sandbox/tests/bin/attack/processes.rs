//! Attacks on processes of others, and on what they share.
#![expect(unsafe_code, reason = "these calls have no safe wrapper")]

use std::fs;
use std::io;

use crate::{Attack, Outcome, Places, result};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "see_arguments", mutates: false, run: |places| proc(places, "cmdline") },
    Attack { name: "see_environment", mutates: false, run: |places| proc(places, "environ") },
    Attack { name: "signal", mutates: false, run: signal },
    Attack { name: "hold_process", mutates: false, run: hold },
    Attack { name: "trace", mutates: true, run: trace },
    Attack { name: "read_memory", mutates: false, run: read_memory },
    Attack { name: "shared_memory", mutates: false, run: shared_memory },
    Attack { name: "learn_hostname", mutates: false, run: learn_hostname },
    Attack { name: "become_root", mutates: false, run: become_root },
    Attack { name: "raise_limit", mutates: false, run: raise_limit },
];

fn proc(places: &Places, file: &str) -> Outcome {
    let read = fs::read(format!("/proc/{}/{file}", places.text("pid")));
    match read {
        // In another pid namespace the number may be somebody else's, so what is found must be the victim's.
        Ok(text) if file == "cmdline" && !String::from_utf8_lossy(&text).contains("victim") => {
            Outcome::Held("the number is another process's".into())
        }
        other => Outcome::of(other, &format!("read {file} of a process of another")),
    }
}

fn signal(places: &Places) -> Outcome {
    // SAFETY: signal 0 asks whether a signal may be sent, and sends none.
    Outcome::of(
        result(unsafe { libc::kill(places.number("pid"), 0) }.into()),
        "may signal a process of another",
    )
}

fn hold(places: &Places) -> Outcome {
    // SAFETY: plain numbers.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, places.number("pid"), 0) };
    Outcome::of(result(opened), "holds a process of another")
}

fn trace(places: &Places) -> Outcome {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the victim is traced without being stopped, and is let go when this process ends.
    let done = unsafe { libc::ptrace(libc::PTRACE_SEIZE, places.number("pid"), none, none) };
    Outcome::of(result(done), "traces a process of another")
}

fn read_memory(places: &Places) -> Outcome {
    let memory = fs::File::open(format!("/proc/{}/mem", places.text("pid")));
    let mut buffer = [0u8; 8];
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(0x1000), iov_len: 8 };
    // SAFETY: the local part is a buffer of that size; the other one is the kernel's to check.
    let read =
        unsafe { libc::process_vm_readv(places.number("pid"), &raw const local, 1, &raw const remote, 1, 0) };
    match result(read as i64) {
        // Nothing is mapped there, so this error comes after the permission was given.
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
            Outcome::Through("may read the memory of a process of another".into())
        }
        other => Outcome::of(
            other.map(|_| ()).or_else(|e| memory.map(|_| ()).map_err(|_| e)),
            "read memory of another",
        ),
    }
}

fn shared_memory(places: &Places) -> Outcome {
    // SAFETY: plain numbers; the segment is not attached.
    let found = unsafe { libc::shmget(places.number("key"), 4096, 0) };
    Outcome::of(result(found.into()), "found shared memory of another")
}

fn learn_hostname(places: &Places) -> Outcome {
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let same = own == places.text("hostname");
    Outcome::of(if same { Ok(()) } else { Err(io::Error::other(own)) }, "learned the machine's name")
}

fn become_root(_: &Places) -> Outcome {
    // SAFETY: plain numbers; this process has one thread.
    Outcome::of(result(unsafe { libc::setuid(0) }.into()), "became user 0")
}

fn raise_limit(_: &Places) -> Outcome {
    let now = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let more = now.maximum.map(|maximum| maximum + 1);
    let wanted = rustix::process::Rlimit { current: now.current, maximum: more };
    let done = rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted);
    Outcome::of(done.map_err(io::Error::from), "raised a limit")
}
