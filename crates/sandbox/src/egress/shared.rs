//! What all conversations share: the host's socket, the socket that questions for names come over, and which address stands for
//! which name.

use std::io::{self, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::line::{Answer, MAX_LINE, Question};
use super::names::{self, MAX_QUESTION, Pool, Query, Reply};
use super::pipe::fill;

/// The ports at which a name's address listens.
pub(super) type Doors = Vec<(u16, TcpListener)>;

/// What all conversations share.
pub(super) struct Shared {
    /// The host's socket.
    pub(super) host: SocketAddrUnix,
    /// Where questions come over UDP.
    pub(super) questions: UdpSocket,
    /// The addresses of names.
    pub(super) names: Pool<Doors>,
}

/// Where the answer about a name goes.
pub(super) enum Back {
    Datagram(SocketAddr),
    Stream(TcpStream),
}

/// A question to the host that waits for its answer.
pub(super) struct Asked {
    pub(super) host: UnixStream,
    read: Vec<u8>,
}

impl Shared {
    /// Takes one question over UDP, and whom to answer.
    pub(super) fn question(&self) -> Option<(Query, Back)> {
        // One byte more than is taken, so that what is too long is seen.
        let mut message = [0; MAX_QUESTION + 1];
        let (length, from) = self.questions.recv_from(&mut message).ok()?;
        Some((names::read(message.get(..length)?)?, Back::Datagram(from)))
    }

    /// Puts a question to the host, over a connection of its own.
    pub(super) fn ask(&self, question: &Question) -> io::Result<Asked> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // It succeeds at once or not at all: the host's queue is full, or the host is gone.
        rustix::net::connect(&socket, &self.host)?;
        let mut host = UnixStream::from(socket);
        // A line fits into the buffer of a new connection.
        host.write_all(question.to_string().as_bytes())?;
        Ok(Asked { host, read: Vec::new() })
    }

    /// Answers a question.
    pub(super) fn reply(&self, query: &Query, reply: Reply, back: Back) {
        let message = query.answer(reply);
        // A client that is gone is not worth a word.
        let _ = match back {
            Back::Datagram(to) => self.questions.send_to(&message, to).map(drop),
            Back::Stream(mut client) => {
                let length = u16::try_from(message.len()).unwrap_or_default();
                client.write_all(&[&length.to_be_bytes()[..], &message].concat())
            }
        };
    }

    /// Opens the ports of a name at its address, as the host says, and closes those that are not to be had any more.
    pub(super) fn learn(&mut self, name: &str, answer: Answer) -> Reply {
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
    pub(super) fn answer(&mut self) -> io::Result<Option<(Answer, Vec<u8>)>> {
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

/// A listener that never waits.
pub(super) fn listen(at: SocketAddrV4) -> io::Result<TcpListener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("listening on {at}: {error}"));
    let listener = TcpListener::bind(at).map_err(named)?;
    listener.set_nonblocking(true).map_err(named)?;
    Ok(listener)
}
