//! The way out of a network that has nothing but loopback: a small process beside the program, in the same namespaces.
//!
//! It answers questions for names (`names`), takes connections to the addresses that stand for names and from clients that use a
//! proxy (`head`), and hands each on over the host's socket (`line`). `forward` waits for all of them, `conversation` moves one on,
//! `shared` is what they have together. It decides nothing: the host says which names there are and connects. So a program that
//! makes it do something else reaches no more than the host's socket, which it may use anyway.
//!
//! It is a fork of the init, made while that has one thread, and gives up everything but sockets (`confine`) before it begins.
#![expect(unsafe_code, reason = "a fork without an execution has no safe wrapper")]

mod confine;
mod conversation;
mod forward;
mod head;
pub(crate) mod line;
mod names;
mod pipe;
mod shared;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::pipe::PipeFlags;
use rustix::process::Pid;

use self::forward::Sockets;
use crate::plan::{Egress, Plan, Step};

/// Where programs that know proxies find one, for CONNECT. An address of its own, so that the program's own ports stay free.
pub const PROXY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 77, 0, 1), 3128);

/// Where questions for names go; what `/etc/resolv.conf` says.
pub(crate) const NAME_SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 53);

/// Longest explanation of a failure that is taken over, in bytes.
const MAX_TROUBLE: u64 = 512;

/// Starts it, if the plan has it. It listens and has given up everything else when this returns. `control` is not for it.
pub(crate) fn start(plan: &Plan, control: BorrowedFd<'_>) -> io::Result<Option<Pid>> {
    let egress = plan.steps.iter().find_map(|step| match step {
        Step::Egress(egress) => Some(egress),
        _ => None,
    });
    let Some(egress) = egress else { return Ok(None) };
    let sockets = Sockets::bind(&egress.loopback)?;
    let (said, say) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let control = control.as_raw_fd();
    // SAFETY: the init has one thread here, so the child may do what any process may. It never returns from `child`.
    let pid = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => child(plan, egress, sockets, control, File::from(say)),
        pid => Pid::from_raw(pid),
    };
    drop(say);
    // The end without a word means that all is well.
    let mut trouble = String::new();
    File::from(said).take(MAX_TROUBLE).read_to_string(&mut trouble)?;
    if trouble.is_empty() { Ok(pid) } else { Err(io::Error::other(trouble)) }
}

/// The child's whole life.
fn child(plan: &Plan, egress: &Egress, sockets: Sockets, control: i32, mut say: File) -> ! {
    // SAFETY: this process never uses the control socket, whose end in the init tells the host of the init's life.
    unsafe { libc::close(control) };
    crate::outer::give_up_output();
    let socket = egress.socket.clone();
    let lived = std::panic::catch_unwind(move || {
        if let Err(error) = confine::give_up(plan) {
            let _ = write!(say, "{error}");
            return Err(error);
        }
        drop(say);
        forward::serve(sockets, &socket)
    });
    let code = i32::from(!matches!(lived, Ok(Ok(()))));
    // SAFETY: what the init would do at its end is not this process's to do.
    unsafe { libc::_exit(code) }
}
