//! A launcher that starts behind all others.
//!
//! Until it has joined the program's groups, a launcher runs where the host runs, and whoever wakes there while it has its turn has to
//! wait. So one for a program in the background has the policy `SCHED_IDLE` until then.
#![expect(unsafe_code, reason = "policies of the scheduler have no safe wrapper")]

use std::io;
use std::sync::LazyLock;

use crate::tree;

const THIS_THREAD: libc::pid_t = 0;

/// Whether a process of this host may leave the policy again. That takes a right which ordinary users do not have.
static MAY_COME_FORWARD: LazyLock<bool> = LazyLock::new(|| {
    let set = |policy| set_policy(THIS_THREAD, policy);
    on_its_own_thread(|| set(libc::SCHED_IDLE).and_then(|()| set(libc::SCHED_OTHER)).is_ok())
});

/// Starts a process that everybody else comes before, until it joins its groups or is [brought forward](bring_forward). Where it
/// could not come forward again, it starts like any other. Blocks, on a busy machine for longer than a start usually takes.
pub fn behind_others<T: Send>(start: impl FnOnce() -> T + Send) -> T {
    if !*MAY_COME_FORWARD {
        return start();
    }
    on_its_own_thread(|| {
        // It is nobody's loss but the neighbours' where the kernel refuses.
        let _ = set_policy(THIS_THREAD, libc::SCHED_IDLE);
        start()
    })
}

/// Lets a launcher that started behind others, and what it has started, be like them. On a machine that others use up it would not
/// get far otherwise.
pub fn bring_forward(launcher: u32) {
    let all = std::iter::once(launcher).chain(tree::descendants(launcher));
    all.filter_map(|pid| pid.try_into().ok()).for_each(|pid| {
        // One that is gone needs nothing any more.
        let _ = leave_idle(pid);
    });
}

/// Lets this process be like others again, if it started behind them.
pub(crate) fn come_forward() -> io::Result<()> {
    leave_idle(THIS_THREAD)
}

fn leave_idle(pid: libc::pid_t) -> io::Result<()> {
    // SAFETY: the call returns a number about a thread and touches nothing.
    let policy = unsafe { libc::sched_getscheduler(pid) };
    if policy == libc::SCHED_IDLE { set_policy(pid, libc::SCHED_OTHER) } else { Ok(()) }
}

/// A policy belongs to a thread and to what that starts. A thread of its own takes it along when it ends.
fn on_its_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let joined = std::thread::scope(|scope| scope.spawn(work).join());
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn set_policy(pid: libc::pid_t, policy: libc::c_int) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameters live as long as the call.
    match unsafe { libc::sched_setscheduler(pid, policy, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process with another one below it.
    fn start() -> Child {
        Command::new("sh").args(["-c", "sleep 600 & wait"]).stdin(Stdio::null()).spawn().unwrap()
    }

    fn end(mut process: Child) {
        while tree::kill_descendants(process.id()) > 0 {}
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// The policy of a process, as the kernel says it.
    fn policy_of(pid: u32) -> i32 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // The 41st field; the second one stands in parentheses and may hold anything.
        text.rsplit(") ").next().unwrap().split(' ').nth(38).unwrap().parse().unwrap()
    }

    /// The policy that a process started here has.
    fn policy_of_a_start() -> i32 {
        let process = start();
        let policy = policy_of(process.id());
        end(process);
        policy
    }

    #[test]
    fn a_start_is_behind_others_where_it_may_come_forward_and_its_host_is_not() {
        let expected = if *MAY_COME_FORWARD { libc::SCHED_IDLE } else { libc::SCHED_OTHER };
        assert_eq!(behind_others(policy_of_a_start), expected);
        assert_eq!(policy_of_a_start(), libc::SCHED_OTHER, "what is started afterwards is like others");
    }

    #[test]
    fn a_start_that_is_brought_forward_is_like_others_with_all_below_it() {
        let process = behind_others(start);
        let below = loop {
            if let Some(below) = tree::descendants(process.id()).first() {
                break *below;
            }
            std::thread::yield_now();
        };
        let behind = if *MAY_COME_FORWARD { libc::SCHED_IDLE } else { libc::SCHED_OTHER };
        assert_eq!([process.id(), below].map(policy_of), [behind; 2]);
        bring_forward(process.id());
        assert_eq!([process.id(), below].map(policy_of), [libc::SCHED_OTHER; 2]);
        end(process);
    }

    #[test]
    fn who_comes_forward_is_like_others() {
        let policy = behind_others(|| {
            come_forward().unwrap();
            policy_of_a_start()
        });
        assert_eq!(policy, libc::SCHED_OTHER);
    }
}
