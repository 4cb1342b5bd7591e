//! One conversation with a client, from its first byte to its last: a question for a name, or a connection.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::head::{self, Head};
use super::line::{Answer, Question};
use super::names::{self, MAX_QUESTION, Query, Reply};
use super::pipe::{Pipe, fill};
use super::shared::{Asked, Back, Shared};

/// How long a client has to say what it wants, and the host to answer. The host decides without waiting for anybody.
const PATIENCE: Duration = Duration::from_secs(10);

/// One conversation, and how long it may stay at what it is at.
pub(super) struct Conversation {
    stage: Stage,
    /// When it is given up; a flow is not.
    pub(super) until: Option<Instant>,
}

/// What one conversation is at.
enum Stage {
    /// A client that comes over TCP says which name it wants.
    Question { client: TcpStream, read: Vec<u8> },
    /// The host is asked about a name.
    Lookup { asked: Asked, query: Query, back: Back },
    /// A client of the proxy says where it wants to go.
    Head { client: TcpStream, read: Vec<u8> },
    /// The host is asked to connect.
    Opening { client: TcpStream, asked: Asked, early: Vec<u8>, by_proxy: bool },
    /// Bytes go to and fro.
    Flow { client: TcpStream, host: UnixStream, out: Pipe, back: Pipe },
}

impl Conversation {
    /// A question for a name that came in one piece.
    pub(super) fn lookup(query: Query, back: Back, shared: &Shared, now: Instant) -> Option<Self> {
        look_up(query, back, shared).map(|stage| Self::at(stage, now))
    }

    /// A client that asks for a name over TCP.
    pub(super) fn question(client: TcpStream, now: Instant) -> Self {
        Self::at(Stage::Question { client, read: Vec::new() }, now)
    }

    /// A client of the proxy.
    pub(super) fn by_proxy(client: TcpStream, now: Instant) -> Self {
        Self::at(Stage::Head { client, read: Vec::new() }, now)
    }

    /// A client that connected to the address of a name.
    pub(super) fn open(
        client: TcpStream,
        name: String,
        port: u16,
        shared: &Shared,
        now: Instant,
    ) -> Option<Self> {
        let asked = shared.ask(&Question::Connect(name, port)).ok()?;
        Some(Self::at(Stage::Opening { client, asked, early: Vec::new(), by_proxy: false }, now))
    }

    fn at(stage: Stage, now: Instant) -> Self {
        Self { stage, until: Some(now + PATIENCE) }
    }

    /// Whether it is about a name and not a connection.
    pub(super) fn is_lookup(&self) -> bool {
        matches!(self.stage, Stage::Question { .. } | Stage::Lookup { .. })
    }

    /// Moves a conversation on; `None` when it is over.
    pub(super) fn advance(self, shared: &mut Shared, now: Instant) -> Option<Self> {
        let Conversation { stage, until } = self;
        let later = Some(now + PATIENCE);
        let (stage, until) = match stage {
            Stage::Question { mut client, mut read } => {
                let ended = fill(&mut client, &mut read, MAX_QUESTION + 2).ok()?;
                match whole_question(&read) {
                    Some(message) => (look_up(names::read(message)?, Back::Stream(client), shared)?, later),
                    None if ended || read.len() >= MAX_QUESTION + 2 => return None,
                    None => (Stage::Question { client, read }, until),
                }
            }
            Stage::Lookup { mut asked, query, back } => match asked.answer() {
                Ok(None) => (Stage::Lookup { asked, query, back }, until),
                Ok(Some((answer, _))) => {
                    let reply = shared.learn(&query.name, answer);
                    shared.reply(&query, reply, back);
                    return None;
                }
                Err(_) => {
                    shared.reply(&query, Reply::Failed, back);
                    return None;
                }
            },
            Stage::Head { mut client, mut read } => {
                let ended = fill(&mut client, &mut read, head::MAX_HEAD).ok()?;
                match head::read(&read) {
                    Head::More if ended => return None,
                    Head::More => (Stage::Head { client, read }, until),
                    Head::Bad => return refuse(&client, "400 Bad Request", head::NOT_CONNECT),
                    Head::Connect { name, port, length } => {
                        let early = read.split_off(length);
                        match shared.ask(&Question::Connect(name, port)) {
                            Ok(asked) => (Stage::Opening { client, asked, early, by_proxy: true }, later),
                            Err(_) => return refuse(&client, "502 Bad Gateway", "the host cannot be asked"),
                        }
                    }
                }
            }
            Stage::Opening { client, mut asked, early, by_proxy } => match asked.answer() {
                Ok(None) => (Stage::Opening { client, asked, early, by_proxy }, until),
                Ok(Some((Answer::Yes(_), first))) => {
                    let greeting =
                        if by_proxy { &b"HTTP/1.1 200 Connection established\r\n\r\n"[..] } else { &[] };
                    let out = Pipe::holding(early);
                    let back = Pipe::holding([greeting, &first].concat());
                    let flow = Stage::Flow { client, host: asked.host, out, back };
                    // What is held already goes on its way at once.
                    return Conversation { stage: flow, until: None }.advance(shared, now);
                }
                Ok(Some((Answer::No(why), _))) if by_proxy => return refuse(&client, "403 Forbidden", &why),
                Err(_) if by_proxy => return refuse(&client, "502 Bad Gateway", "the host did not answer"),
                _ => return None,
            },
            Stage::Flow { mut client, mut host, mut out, mut back } => {
                out.pump(&mut client, &mut host, |host| host.shutdown(Shutdown::Write)).ok()?;
                back.pump(&mut host, &mut client, |client| client.shutdown(Shutdown::Write)).ok()?;
                if out.closed && back.closed {
                    return None;
                }
                (Stage::Flow { client, host, out, back }, None)
            }
        };
        Some(Conversation { stage, until })
    }

    /// What has to happen at which socket for this to go on.
    pub(super) fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        match &self.stage {
            Stage::Question { client, .. } | Stage::Head { client, .. } => {
                vec![(client.as_fd(), PollFlags::IN)]
            }
            Stage::Lookup { asked, .. } | Stage::Opening { asked, .. } => {
                vec![(asked.host.as_fd(), PollFlags::IN)]
            }
            Stage::Flow { client, host, out, back } => vec![
                (client.as_fd(), out.wants_more() | back.wants_out()),
                (host.as_fd(), back.wants_more() | out.wants_out()),
            ],
        }
    }
}

/// Asks the host about a name.
fn look_up(query: Query, back: Back, shared: &Shared) -> Option<Stage> {
    match shared.ask(&Question::Ports(query.name.clone())) {
        Ok(asked) => Some(Stage::Lookup { asked, query, back }),
        Err(_) => {
            shared.reply(&query, Reply::Failed, back);
            None
        }
    }
}

/// A question over TCP stands behind its length.
fn whole_question(read: &[u8]) -> Option<&[u8]> {
    let (length, message) = read.split_first_chunk::<2>()?;
    message.get(..usize::from(u16::from_be_bytes(*length)))
}

/// Tells a client of the proxy why it is not served.
fn refuse<T>(mut client: &TcpStream, status: &str, why: &str) -> Option<T> {
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{why}\n",
        why.len() + 1
    );
    // It fits into the buffer of a new connection, or the client is gone.
    let _ = client.write_all(text.as_bytes());
    let _ = client.shutdown(Shutdown::Write);
    None
}
