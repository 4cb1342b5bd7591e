//! Signals: the launcher outlives those that a program (or a service manager) sends it, the program begins with the defaults.
#![expect(unsafe_code, reason = "dispositions of signals have no safe wrapper")]

/// Numbers of all signals.
const ALL: std::ops::RangeInclusive<i32> = 1..=64;

/// Makes this process outlive every signal that can be outlived, and lets it wait for its children.
pub(crate) fn outlive_all() {
    for signal in ALL {
        let disposition = if signal == libc::SIGCHLD { libc::SIG_DFL } else { libc::SIG_IGN };
        // SAFETY: both dispositions are constants of the system; no handler of ours runs. Numbers that cannot be set
        // (SIGKILL, SIGSTOP, those of the C library) are refused with an error, which is right.
        unsafe { libc::signal(signal, disposition) };
    }
}

/// Gives this process the dispositions that a program expects.
pub(crate) fn reset_all() {
    for signal in ALL {
        // SAFETY: as above.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}
