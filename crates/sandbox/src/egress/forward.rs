//! The work of the way out: one thread that waits on all its sockets and moves each conversation on when it can.
//!
//! Everything is bounded, and what is beyond a bound waits where the kernel lets it wait: nothing is accepted then. How long a
//! connection may be idle is the host's to say, which ends its side.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::head::{self, Head};
use super::line::{Answer, MAX_LINE, Question};
use super::names::{self, MAX_QUESTION, Pool, Query, Reply};
use super::{NAME_SERVER, PROXY};

/// Connections at a time, those that are just being opened among them. The host has the same bound.
const MAX_CONNECTIONS: usize = 32;

/// Questions for names at a time.
const MAX_LOOKUPS: usize = 32;

/// How long a client has to say what it wants, and the host to answer. The host decides without waiting for anybody.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that are held for a side that does not take them yet, for each direction of each connection.
const BUFFER: usize = 16 * 1024;

/// Where it listens, beside the addresses of names.
pub(super) struct Sockets {
    questions: UdpSocket,
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
        Ok(Self {
            questions,
            long_questions: listen(NAME_SERVER)?,
            proxy: listen(PROXY)?,
            loopback: targets.collect::<io::Result<_>>()?,
        })
    }
}

fn listen(at: SocketAddrV4) -> io::Result<TcpListener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("listening on {at}: {error}"));
    let listener = TcpListener::bind(at).map_err(named)?;
    listener.set_nonblocking(true).map_err(named)?;
    Ok(listener)
}

/// Serves for as long as the namespace lives.
pub(super) fn serve(sockets: Sockets, host: &Path) -> io::Result<()> {
    let host = SocketAddrUnix::new(host)?;
    let mut forwarder = Forwarder { sockets, host, names: Pool::new(), all: Vec::new() };
    loop {
        let ready = forwarder.wait()?;
        forwarder.work(&ready, Instant::now());
    }
}

/// A question to the host that waits for its answer.
struct Asked {
    host: UnixStream,
    read: Vec<u8>,
}

/// Where the answer about a name goes.
enum Back {
    Datagram(SocketAddr),
    Stream(TcpStream),
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

struct Conversation {
    stage: Stage,
    /// When it is given up; a flow is not.
    until: Option<Instant>,
}

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    held: Vec<u8>,
    /// Nothing more comes.
    ended: bool,
    /// The other side knows that.
    closed: bool,
}

/// The ports at which a name's address listens.
type Doors = Vec<(u16, TcpListener)>;

struct Forwarder {
    sockets: Sockets,
    host: SocketAddrUnix,
    names: Pool<Doors>,
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
        let mut waiting: Vec<(Token, BorrowedFd<'_>, PollFlags)> = Vec::new();
        let mut listen = |token, fd| waiting.push((token, fd, PollFlags::IN));
        let lookups = self.all.iter().filter(|one| one.stage.is_lookup()).count();
        if lookups < MAX_LOOKUPS {
            listen(Token::Questions, self.sockets.questions.as_fd());
            listen(Token::LongQuestions, self.sockets.long_questions.as_fd());
        }
        if self.all.len() - lookups < MAX_CONNECTIONS {
            listen(Token::Proxy, self.sockets.proxy.as_fd());
            for (index, (_, listener)) in self.sockets.loopback.iter().enumerate() {
                listen(Token::Loopback(index), listener.as_fd());
            }
            for (name, doors) in self.names.iter() {
                for (port, listener) in doors {
                    listen(Token::Door(name.to_owned(), *port), listener.as_fd());
                }
            }
        }
        for (index, conversation) in self.all.iter().enumerate() {
            for (fd, flags) in conversation.stage.interests() {
                // What is of no interest is not waited for: its end would wake us again and again.
                if !flags.is_empty() {
                    waiting.push((Token::Conversation(index), fd, flags));
                }
            }
        }
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

    fn work(&mut self, ready: &[Token], now: Instant) {
        let mut going: Vec<Option<Conversation>> =
            std::mem::take(&mut self.all).into_iter().map(Some).collect();
        let mut begun = Vec::new();
        for token in ready {
            let new = match token {
                Token::Questions => self.question(),
                Token::LongQuestions => accept(&self.sockets.long_questions)
                    .map(|client| Stage::Question { client, read: Vec::new() }),
                Token::Proxy => {
                    accept(&self.sockets.proxy).map(|client| Stage::Head { client, read: Vec::new() })
                }
                Token::Loopback(index) => {
                    let (target, listener) = &self.sockets.loopback[*index];
                    accept(listener).and_then(|c| self.open(c, target.ip().to_string(), target.port()))
                }
                Token::Door(name, port) => {
                    let door = self.names.iter().find(|(n, _)| n == name).and_then(|(_, doors)| {
                        doors.iter().find(|(p, _)| p == port).map(|(_, listener)| listener)
                    });
                    door.and_then(accept).and_then(|client| self.open(client, name.clone(), *port))
                }
                Token::Conversation(index) => {
                    let conversation = going[*index].take();
                    going[*index] = conversation.and_then(|one| self.advance(one, now));
                    None
                }
            };
            begun.extend(new.map(|stage| Conversation { stage, until: Some(now + PATIENCE) }));
        }
        self.all = going.into_iter().flatten().chain(begun).collect();
        self.all.retain(|one| one.until.is_none_or(|until| until > now));
    }

    /// Takes one question over UDP.
    fn question(&self) -> Option<Stage> {
        // One byte more than is taken, so that what is too long is seen.
        let mut message = [0; MAX_QUESTION + 1];
        let (length, from) = self.sockets.questions.recv_from(&mut message).ok()?;
        let query = names::read(message.get(..length)?)?;
        self.look_up(query, Back::Datagram(from))
    }

    fn look_up(&self, query: Query, back: Back) -> Option<Stage> {
        match self.ask(&Question::Ports(query.name.clone())) {
            Ok(asked) => Some(Stage::Lookup { asked, query, back }),
            Err(_) => {
                self.reply(&query, Reply::Failed, back);
                None
            }
        }
    }

    fn open(&self, client: TcpStream, name: String, port: u16) -> Option<Stage> {
        let asked = self.ask(&Question::Connect(name, port)).ok()?;
        Some(Stage::Opening { client, asked, early: Vec::new(), by_proxy: false })
    }

    fn ask(&self, question: &Question) -> io::Result<Asked> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // It succeeds at once or not at all: the host's queue is full, or the host is gone.
        rustix::net::connect(&socket, &self.host)?;
        let mut host = UnixStream::from(socket);
        // A line fits into the buffer of a new connection.
        host.write_all(question.to_string().as_bytes())?;
        Ok(Asked { host, read: Vec::new() })
    }

    fn reply(&self, query: &Query, reply: Reply, back: Back) {
        let message = query.answer(reply);
        // A client that is gone is not worth a word.
        let _ = match back {
            Back::Datagram(to) => self.sockets.questions.send_to(&message, to).map(drop),
            Back::Stream(mut client) => {
                let length = u16::try_from(message.len()).unwrap_or_default();
                client.write_all(&[&length.to_be_bytes()[..], &message].concat())
            }
        };
    }

    /// Moves a conversation on; `None` when it is over.
    fn advance(&mut self, conversation: Conversation, now: Instant) -> Option<Conversation> {
        let Conversation { stage, until } = conversation;
        let later = Some(now + PATIENCE);
        let (stage, until) = match stage {
            Stage::Question { mut client, mut read } => {
                let ended = fill(&mut client, &mut read, MAX_QUESTION + 2).ok()?;
                match whole_question(&read) {
                    Some(message) => (self.look_up(names::read(message)?, Back::Stream(client))?, later),
                    None if ended || read.len() >= MAX_QUESTION + 2 => return None,
                    None => (Stage::Question { client, read }, until),
                }
            }
            Stage::Lookup { mut asked, query, back } => match asked.answer() {
                Ok(None) => (Stage::Lookup { asked, query, back }, until),
                Ok(Some((answer, _))) => {
                    let reply = self.learn(&query.name, answer);
                    self.reply(&query, reply, back);
                    return None;
                }
                Err(_) => {
                    self.reply(&query, Reply::Failed, back);
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
                        match self.ask(&Question::Connect(name, port)) {
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
                    let out = Pipe { held: early, ..Pipe::default() };
                    let back = Pipe { held: [greeting, &first].concat(), ..Pipe::default() };
                    let flow = Stage::Flow { client, host: asked.host, out, back };
                    // What is held already goes on its way at once.
                    return self.advance(Conversation { stage: flow, until: None }, now);
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

    /// Opens the ports of a name at its address, as the host says, and closes those that are not to be had any more.
    fn learn(&mut self, name: &str, answer: Answer) -> Reply {
        let ports = match answer {
            Answer::Yes(ports) if !ports.is_empty() => ports,
            _ => return Reply::NoSuchName,
        };
        let (address, doors) = self.names.of(name);
        doors.retain(|(port, _)| ports.contains(port));
        for port in ports {
            if doors.iter().any(|(open, _)| *open == port) {
                continue;
            }
            match listen(SocketAddrV4::new(address, port)) {
                Ok(listener) => doors.push((port, listener)),
                Err(_) => return Reply::Failed,
            }
        }
        Reply::At(address)
    }
}

impl Asked {
    /// The host's answer and what it has sent behind it; `None` while the answer is not whole.
    fn answer(&mut self) -> io::Result<Option<(Answer, Vec<u8>)>> {
        let ended = fill(&mut self.host, &mut self.read, MAX_LINE)?;
        let Some(end) = self.read.iter().position(|byte| *byte == b'\n') else {
            let never = ended || self.read.len() >= MAX_LINE;
            return if never { Err(io::ErrorKind::InvalidData.into()) } else { Ok(None) };
        };
        let rest = self.read.split_off(end + 1);
        let line = std::str::from_utf8(&self.read).map_err(io::Error::other)?;
        Ok(Some((line.parse().map_err(io::Error::other)?, rest)))
    }
}

impl Stage {
    fn is_lookup(&self) -> bool {
        matches!(self, Stage::Question { .. } | Stage::Lookup { .. })
    }

    /// What has to happen at which socket for this to go on.
    fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        match self {
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

impl Pipe {
    fn wants_more(&self) -> PollFlags {
        if !self.ended && self.held.len() < BUFFER { PollFlags::IN } else { PollFlags::empty() }
    }

    fn wants_out(&self) -> PollFlags {
        if self.held.is_empty() { PollFlags::empty() } else { PollFlags::OUT }
    }

    /// Takes what there is, gives what is taken, and passes the end on.
    fn pump<R: Read, W: Write>(
        &mut self,
        from: &mut R,
        to: &mut W,
        close: impl FnOnce(&mut W) -> io::Result<()>,
    ) -> io::Result<()> {
        if !self.ended && self.held.len() < BUFFER {
            self.ended = fill(from, &mut self.held, BUFFER)?;
        }
        while !self.held.is_empty() {
            match to.write(&self.held) {
                Ok(written) => drop(self.held.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.ended && !self.closed {
            self.closed = true;
            // The other side may be gone altogether, which is the end as well.
            let _ = close(to);
        }
        Ok(())
    }
}

/// Reads once, up to `most` bytes in all. Returns whether nothing more comes.
fn fill(from: &mut impl Read, to: &mut Vec<u8>, most: usize) -> io::Result<bool> {
    let before = to.len();
    to.resize(most.max(before), 0);
    let read = from.read(&mut to[before..]);
    to.truncate(before + read.as_ref().map_or(0, |read| *read));
    match read {
        Ok(read) => Ok(read == 0 && before < most),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// A question over TCP stands behind its length.
fn whole_question(read: &[u8]) -> Option<&[u8]> {
    let (length, message) = read.split_first_chunk::<2>()?;
    message.get(..usize::from(u16::from_be_bytes(*length)))
}

fn accept(listener: &TcpListener) -> Option<TcpStream> {
    let (client, _) = listener.accept().ok()?;
    client.set_nonblocking(true).ok()?;
    client.set_nodelay(true).ok()?;
    Some(client)
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
