//! Attacks on the kernel's rarely used parts, which programs do not need.
#![expect(unsafe_code, reason = "these calls have no safe wrapper")]

use std::ffi::CString;
use std::io;
use std::os::fd::FromRawFd;

use crate::{Attack, Outcome, Places, result};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "user_namespace", mutates: false, run: user_namespace },
    Attack { name: "clone_namespace", mutates: false, run: clone_namespace },
    Attack { name: "mount", mutates: true, run: mount },
    Attack { name: "make_device", mutates: true, run: make_device },
    Attack { name: "bpf", mutates: false, run: bpf },
    Attack { name: "io_uring", mutates: false, run: io_uring },
    Attack { name: "keyring", mutates: false, run: keyring },
    Attack { name: "userfaultfd", mutates: false, run: userfaultfd },
    Attack { name: "perf_events", mutates: false, run: perf_events },
    Attack { name: "personality", mutates: false, run: personality },
    Attack { name: "other_call_table", mutates: false, run: other_call_table },
    Attack { name: "x32_calls", mutates: false, run: x32_calls },
    Attack { name: "execute_from_memory", mutates: false, run: execute_from_memory },
];

/// Flag of `userfaultfd` with which ordinary users may use it.
const UFFD_USER_MODE_ONLY: i32 = 1;

/// Memory that no program randomises any more.
const ADDR_NO_RANDOMIZE: libc::c_ulong = 0x0004_0000;

fn user_namespace(_: &Places) -> Outcome {
    // SAFETY: this process has one thread.
    Outcome::of(result(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into()), "made a user namespace")
}

fn clone_namespace(_: &Places) -> Outcome {
    let flags = i64::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
    // SAFETY: without a stack of its own the child is a copy like that of a fork; it ends at once.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if child == 0 {
        // SAFETY: ends the child without running anything else.
        unsafe { libc::_exit(0) };
    }
    Outcome::of(result(child), "made a process in a user namespace")
}

fn mount(places: &Places) -> Outcome {
    let target = CString::new(places.text("data")).unwrap_or_default();
    let kind = c"tmpfs".as_ptr();
    // SAFETY: all texts end with a zero and live through the call.
    let done = result(unsafe { libc::mount(kind, target.as_ptr(), kind, 0, std::ptr::null()) }.into());
    if done.is_ok() {
        // SAFETY: as above.
        unsafe { libc::umount(target.as_ptr()) };
    }
    Outcome::of(done, "mounted something")
}

fn make_device(places: &Places) -> Outcome {
    let path = CString::new(format!("{}/device", places.text("data"))).unwrap_or_default();
    // SAFETY: the text ends with a zero and lives through the call.
    let done =
        result(unsafe { libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, 3)) }.into());
    // SAFETY: as above.
    unsafe { libc::unlink(path.as_ptr()) };
    Outcome::of(done, "made a device")
}

fn bpf(_: &Places) -> Outcome {
    // An array with one element of four bytes.
    let attributes: [u32; 16] = [2, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: the structure lives through the call, and its size is given.
    let done = unsafe { libc::syscall(libc::SYS_bpf, 0, attributes.as_ptr(), size_of_val(&attributes)) };
    Outcome::of(result(done), "made a map for programs in the kernel")
}

fn io_uring(_: &Places) -> Outcome {
    let mut parameters = [0u32; 64];
    // SAFETY: the structure is larger than what the kernel writes.
    let done = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    Outcome::of(result(done), "made a ring of system calls")
}

fn keyring(_: &Places) -> Outcome {
    // SAFETY: plain numbers: joins a new session keyring without a name.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, 0) };
    Outcome::of(result(done), "used the kernel's keys")
}

fn userfaultfd(_: &Places) -> Outcome {
    // SAFETY: plain numbers.
    Outcome::of(
        result(unsafe { libc::syscall(libc::SYS_userfaultfd, UFFD_USER_MODE_ONLY) }),
        "handles page faults",
    )
}

fn perf_events(_: &Places) -> Outcome {
    // A software clock of this process, without the kernel's part: the first two words are kind and size.
    let mut attributes = [0u32; 32];
    attributes[0] = 1;
    attributes[1] = 128;
    attributes[10] = 0x60;
    // SAFETY: the structure lives through the call, and holds its size.
    let done = unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0) };
    Outcome::of(result(done), "opened performance events")
}

fn personality(_: &Places) -> Outcome {
    // SAFETY: plain numbers.
    Outcome::of(
        result(unsafe { libc::personality(ADDR_NO_RANDOMIZE) }.into()),
        "switched randomised addresses off",
    )
}

#[cfg(target_arch = "x86_64")]
fn other_call_table(_: &Places) -> Outcome {
    // In a child, because the filter kills whoever does it.
    in_child("made a call of the 32-bit table", || {
        let number: i64;
        // SAFETY: getpid of the 32-bit table takes nothing and changes nothing but its result.
        unsafe {
            std::arch::asm!("int 0x80", inlateout("rax") 20i64 => number, out("r8") _, out("r9") _, out("r10") _, out("r11") _)
        };
        number > 0
    })
}

#[cfg(target_arch = "x86_64")]
fn x32_calls(_: &Places) -> Outcome {
    in_child("made a call of the x32 table", || {
        // SAFETY: getpid takes nothing.
        unsafe { libc::syscall(0x4000_0000 + libc::SYS_getpid) > 0 }
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn other_call_table(_: &Places) -> Outcome {
    Outcome::Untestable("this processor has one table".into())
}

#[cfg(not(target_arch = "x86_64"))]
fn x32_calls(_: &Places) -> Outcome {
    Outcome::Untestable("this processor has one table".into())
}

/// Runs an attack that may be answered by death.
#[cfg(target_arch = "x86_64")]
fn in_child(what: &str, attack: impl FnOnce() -> bool) -> Outcome {
    // SAFETY: this process has one thread; the child runs the attack alone and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = i32::from(!attack());
        // SAFETY: ends the child without running anything else.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: the number is that of the child, and the status lives through the call.
    if unsafe { libc::waitpid(child, &raw mut status, 0) } != child {
        return Outcome::Untestable("no child could be made".into());
    }
    match (libc::WIFSIGNALED(status), libc::WTERMSIG(status), libc::WEXITSTATUS(status)) {
        (true, libc::SIGSYS, _) => Outcome::Held("it was killed for it".into()),
        (true, signal, _) => {
            Outcome::Untestable(format!("the kernel does not have the table (signal {signal})"))
        }
        (_, _, 0) => Outcome::Through(what.to_owned()),
        _ => Outcome::Untestable("the kernel does not have the table".into()),
    }
}

fn execute_from_memory(_: &Places) -> Outcome {
    // SAFETY: the text ends with a zero.
    let fd = unsafe { libc::memfd_create(c"dropped".as_ptr(), 0) };
    let done = result(fd.into()).and_then(|_| {
        // SAFETY: the descriptor is new and nobody else's.
        let mut file = unsafe { std::fs::File::from_raw_fd(fd) };
        io::copy(&mut std::fs::File::open("/bin/true")?, &mut file)?;
        let status = std::process::Command::new(format!("/proc/self/fd/{fd}")).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other("it did not run")) }
    });
    Outcome::of(done, "executed a program that is in no file system")
}
