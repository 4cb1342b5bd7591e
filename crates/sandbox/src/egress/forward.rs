//! The work of the way out: one thread that waits on all its sockets and moves each conversation on when it can.
//!
//! Everything is bounded, and what is beyond a bound waits where the kernel lets it wait: nothing is accepted then. How long a
//! connection may be idle is the host's to say, which ends its side.

use std::io;
use std::net::{SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::SocketAddrUnix;

use super::conversation::Conversation;
use super::names::Pool;
use super::shared::{Shared, listen};
use super::{NAME_SERVER, PROXY};

/// Connections at a time, those that are just being opened among them. More than the host opens at a time, so that a client beyond
/// that is told so by the host and does not wait here without a word.
const MAX_CONNECTIONS: usize = 48;

/// Questions for names at a time.
const MAX_LOOKUPS: usize = 32;

/// Where it listens, beside the addresses of names.
pub(super) struct Sockets {
    questions: UdpSocket,
    listeners: Listeners,
}

struct Listeners {
    long_questions: TcpListener,
    proxy: TcpListener,
    /// Development targets, each at its own address.
    loopback: Vec<(SocketAddrV4, TcpListener)>,
}

impl Sockets {
    pub(super) fn bind(loopback: &[SocketAddrV4]) -> io::Result<Self> {
        let questions = UdpSocket::bind(NAME_SERVER)?;
        questions.set_nonblocking(true)?;
        let targets = loopback.iter().map(|target| Ok((*target, listen(*target)?)));
        let listeners = Listeners {
            long_questions: listen(NAME_SERVER)?,
            proxy: listen(PROXY)?,
            loopback: targets.collect::<io::Result<_>>()?,
        };
        Ok(Self { questions, listeners })
    }
}

/// Serves for as long as the namespace lives.
pub(super) fn serve(sockets: Sockets, host: &Path) -> io::Result<()> {
    let Sockets { questions, listeners } = sockets;
    let shared = Shared { host: SocketAddrUnix::new(host)?, questions, names: Pool::new() };
    let mut forwarder = Forwarder { listeners, shared, all: Vec::new() };
    loop {
        let ready = forwarder.wait()?;
        forwarder.work(&ready, Instant::now());
    }
}

struct Forwarder {
    listeners: Listeners,
    shared: Shared,
    all: Vec<Conversation>,
}

/// Something that can go on.
#[derive(Clone, PartialEq, Eq)]
enum Token {
    Questions,
    LongQuestions,
    Proxy,
    Loopback(usize),
    Door(String, u16),
    Conversation(usize),
}

impl Forwarder {
    /// Waits until something can go on or a time is over.
    fn wait(&self) -> io::Result<Vec<Token>> {
        let waiting = self.awaited();
        let timeout = self.all.iter().filter_map(|one| one.until).min().map(|until| {
            let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        let mut fds: Vec<PollFd<'_>> =
            waiting.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            other => other?,
        };
        let happened: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ready: Vec<Token> = waiting
            .into_iter()
            .zip(happened)
            .filter(|(_, happened)| *happened)
            .map(|((token, ..), _)| token)
            .collect();
        ready.dedup();
        Ok(ready)
    }

    /// Everything that is waited for now.
    fn awaited(&self) -> Vec<(Token, BorrowedFd<'_>, PollFlags)> {
        let mut waiting: Vec<(Token, BorrowedFd<'_>, PollFlags)> = Vec::new();
        let mut listen = |token, fd| waiting.push((token, fd, PollFlags::IN));
        let lookups = self.all.iter().filter(|one| one.is_lookup()).count();
        if lookups < MAX_LOOKUPS {
            listen(Token::Questions, self.shared.questions.as_fd());
            listen(Token::LongQuestions, self.listeners.long_questions.as_fd());
        }
        if self.all.len() - lookups < MAX_CONNECTIONS {
            listen(Token::Proxy, self.listeners.proxy.as_fd());
            for (index, (_, listener)) in self.listeners.loopback.iter().enumerate() {
                listen(Token::Loopback(index), listener.as_fd());
            }
            for (name, doors) in self.shared.names.iter() {
                for (port, listener) in doors {
                    listen(Token::Door(name.to_owned(), *port), listener.as_fd());
                }
            }
        }
        for (index, conversation) in self.all.iter().enumerate() {
            for (fd, flags) in conversation.interests() {
                // What is of no interest is not waited for: its end would wake us again and again.
                if !flags.is_empty() {
                    waiting.push((Token::Conversation(index), fd, flags));
                }
            }
        }
        waiting
    }

    fn work(&mut self, ready: &[Token], now: Instant) {
        let mut going: Vec<Option<Conversation>> =
            std::mem::take(&mut self.all).into_iter().map(Some).collect();
        let mut begun = Vec::new();
        for token in ready {
            if let Token::Conversation(index) = token {
                let conversation = going[*index].take();
                going[*index] = conversation.and_then(|one| one.advance(&mut self.shared, now));
            } else {
                begun.extend(self.begin(token, now));
            }
        }
        self.all = going.into_iter().flatten().chain(begun).collect();
        self.all.retain(|one| one.until.is_none_or(|until| until > now));
    }

    /// Takes what has come to a socket at which conversations begin.
    fn begin(&self, token: &Token, now: Instant) -> Option<Conversation> {
        let Self { listeners, shared, .. } = self;
        match token {
            Token::Questions => {
                let (query, back) = shared.question()?;
                Conversation::lookup(query, back, shared, now)
            }
            Token::LongQuestions => Some(Conversation::question(accept(&listeners.long_questions)?, now)),
            Token::Proxy => Some(Conversation::by_proxy(accept(&listeners.proxy)?, now)),
            Token::Loopback(index) => {
                let (target, listener) = listeners.loopback.get(*index)?;
                Conversation::open(accept(listener)?, target.ip().to_string(), target.port(), shared, now)
            }
            Token::Door(name, port) => {
                let (_, doors) = shared.names.iter().find(|(known, _)| known == name)?;
                let (_, listener) = doors.iter().find(|(open, _)| open == port)?;
                Conversation::open(accept(listener)?, name.clone(), *port, shared, now)
            }
            Token::Conversation(_) => None,
        }
    }
}

fn accept(listener: &TcpListener) -> Option<TcpStream> {
    let (client, _) = listener.accept().ok()?;
    client.set_nonblocking(true).ok()?;
    client.set_nodelay(true).ok()?;
    Some(client)
}
