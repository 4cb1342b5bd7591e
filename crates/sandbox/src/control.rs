//! The control socket between the host and a launcher, and what goes over it.
//!
//! It keeps message boundaries (`SOCK_SEQPACKET`), so each message is one JSON text. Its end is the lifeline: the launcher kills
//! everything when the host's end is closed, for whatever reason.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::plan::{Containment, MAX_MESSAGE_BYTES, Plan};

/// What the host tells a launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The first message: carry out this plan.
    Launch(Plan),
    /// The answer to [`Report::Prepared`]: execute the program.
    Execute,
    /// Send a signal to the program's process group.
    Signal(i32),
}

/// What a launcher tells the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// A step failed; nothing was started, and the launcher ends. Where several such reports come, the first names the cause.
    StepFailed {
        /// Name of the step.
        step: String,
        /// What happened, and what to do where that is known.
        error: String,
    },
    /// What the kernel made of a step, where only the process that did it can know. It comes before `Prepared`.
    Remarked {
        /// Name of the step.
        step: String,
        /// Whether all that the step wanted is in force.
        whole: bool,
        /// What the kernel enforces.
        words: String,
    },
    /// All steps are done, and the process that will be the program waits for [`Order::Execute`]. What the kernel shows of it
    /// now it will show of the program.
    Prepared {
        /// Its process id in its own pid namespace.
        pid: i32,
    },
    /// The program was executed.
    Started {
        /// Its process id in its own pid namespace.
        pid: i32,
        /// What keeps its processes together, as measured by the launcher.
        containment: Containment,
        /// Whether `/proc` shows its own namespace only.
        fresh_proc: bool,
    },
    /// The program ended; everything that it left behind is killed now.
    Exited {
        /// Its exit status, if it exited.
        code: Option<i32>,
        /// The signal that ended it, if one did.
        signal: Option<i32>,
    },
}

/// One end of the control socket.
#[derive(Debug)]
pub struct Control {
    socket: OwnedFd,
}

/// Why a message did not go over the control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The other side is gone.
    #[error("the other side of the control socket is gone")]
    Closed,
    /// The message cannot be written as text; paths and arguments must be UTF-8.
    #[error("the message cannot be written: {0}")]
    Unwritable(serde_json::Error),
    /// The message is longer than [`MAX_MESSAGE_BYTES`].
    #[error("the message has {0} bytes; at most {MAX_MESSAGE_BYTES} are allowed")]
    TooLong(usize),
    /// What came is no message of this protocol.
    #[error("what came over the control socket cannot be read: {0}")]
    Unreadable(serde_json::Error),
    /// The socket failed.
    #[error("the control socket failed: {0}")]
    Socket(#[from] io::Error),
}

impl Control {
    /// A pair: the host's end, which never blocks, and the end that becomes the launcher's standard input.
    ///
    /// Both are closed when another program is executed. Nothing but the host may hold the host's end.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn pair() -> io::Result<(Control, OwnedFd)> {
        let (host, launcher) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&host, true)?;
        Ok((Control { socket: host }, launcher))
    }

    /// Sends an order to the launcher.
    ///
    /// # Errors
    /// [`ControlError`]; `Socket` with [`io::ErrorKind::WouldBlock`] when the launcher has not read earlier orders.
    pub fn order(&self, order: &Order) -> Result<(), ControlError> {
        self.send(order)
    }

    /// Reads the launcher's next report; `None` when the launcher is gone.
    ///
    /// # Errors
    /// [`ControlError`]; `Socket` with [`io::ErrorKind::WouldBlock`] when there is none yet.
    pub fn report(&self) -> Result<Option<Report>, ControlError> {
        self.receive(RecvFlags::empty())
    }

    /// The launcher's own end: its standard input, moved out of the way of the program's.
    pub(crate) fn of_launcher() -> io::Result<Self> {
        let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        if rustix::net::sockopt::socket_type(&socket)? != SocketType::SEQPACKET {
            return Err(rustix::io::Errno::NOTSOCK.into());
        }
        Ok(Self { socket })
    }

    /// Looks at the next order without taking it: the init will read it again.
    pub(crate) fn peek_order(&self) -> Result<Option<Order>, ControlError> {
        self.receive(RecvFlags::PEEK)
    }

    /// Takes the next order, waiting for it; `None` when the host is gone.
    pub(crate) fn take_order(&self) -> Result<Option<Order>, ControlError> {
        self.receive(RecvFlags::empty())
    }

    /// Sends a report to the host.
    pub(crate) fn tell(&self, report: &Report) -> Result<(), ControlError> {
        self.send(report)
    }

    fn send<T: Serialize>(&self, message: &T) -> Result<(), ControlError> {
        let text = serde_json::to_vec(message).map_err(ControlError::Unwritable)?;
        if text.len() > MAX_MESSAGE_BYTES {
            return Err(ControlError::TooLong(text.len()));
        }
        match rustix::io::retry_on_intr(|| rustix::net::send(&self.socket, &text, SendFlags::NOSIGNAL)) {
            Ok(_) => Ok(()),
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => Err(ControlError::Closed),
            Err(error) => Err(ControlError::Socket(error.into())),
        }
    }

    fn receive<T: DeserializeOwned>(&self, flags: RecvFlags) -> Result<Option<T>, ControlError> {
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        let mut receive =
            || rustix::io::retry_on_intr(|| rustix::net::recv(&self.socket, buffer.as_mut_slice(), flags));
        // A side that ended without reading everything makes the other side's next call fail once. What it had sent
        // before is still there, behind that failure.
        let received = match receive() {
            Err(rustix::io::Errno::CONNRESET) => receive(),
            other => other,
        };
        let length = match received {
            Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Ok((length, _)) => length,
            Err(error) => return Err(ControlError::Socket(error.into())),
        };
        serde_json::from_slice(&buffer[..length]).map(Some).map_err(ControlError::Unreadable)
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Control {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_end_never_blocks_and_closes_on_exec() {
        let (host, launcher) = Control::pair().unwrap();
        for fd in [host.as_fd(), launcher.as_fd()] {
            assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        }
        let Err(ControlError::Socket(error)) = host.report() else { panic!("not refused") };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(launcher);
        // A process that another test starts in this moment holds the other end until it is executed.
        let ended = loop {
            match host.report() {
                Err(ControlError::Socket(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::yield_now();
                }
                ended => break ended.unwrap(),
            }
        };
        assert!(ended.is_none());
        assert!(matches!(host.order(&Order::Signal(15)), Err(ControlError::Closed)));
    }

    #[test]
    fn the_last_words_of_a_side_that_left_orders_unread_arrive() {
        let (host, launcher) = Control::pair().unwrap();
        let launcher = Control { socket: launcher };
        host.order(&Order::Signal(15)).unwrap();
        let words = Report::StepFailed { step: "plan".into(), error: "no".into() };
        launcher.tell(&words).unwrap();
        drop(launcher);
        assert_eq!(host.report().unwrap(), Some(words));
        assert_eq!(host.report().unwrap(), None);
    }

    #[test]
    fn messages_stay_apart() {
        let (host, launcher) = Control::pair().unwrap();
        let launcher = Control { socket: launcher };
        host.order(&Order::Signal(15)).unwrap();
        host.order(&Order::Signal(9)).unwrap();
        assert_eq!(launcher.peek_order().unwrap(), Some(Order::Signal(15)));
        assert_eq!(launcher.take_order().unwrap(), Some(Order::Signal(15)));
        assert_eq!(launcher.take_order().unwrap(), Some(Order::Signal(9)));
    }
}
