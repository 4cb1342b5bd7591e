//! Attacks over sockets: to ports of the machine by every way around a filter, and with families that programs do not need.
#![expect(unsafe_code, reason = "these ways have no safe wrapper, which is why they are tried")]

use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use crate::{Attack, Outcome, Places, result};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "tcp_ipv4", mutates: false, run: |places| tcp("127.0.0.1", places.text("tcp")) },
    Attack { name: "tcp_ipv6", mutates: false, run: |places| tcp("::1", places.text("tcp6")) },
    Attack { name: "tcp_any_address", mutates: false, run: |places| tcp("0.0.0.0", places.text("tcp")) },
    Attack { name: "tcp_fast_open", mutates: false, run: fast_open },
    Attack { name: "multipath_tcp", mutates: false, run: multipath },
    Attack { name: "udp", mutates: false, run: udp },
    Attack { name: "abstract_socket", mutates: false, run: abstract_socket },
    Attack {
        name: "vsock",
        mutates: false,
        run: |_| family(libc::AF_VSOCK, libc::SOCK_STREAM, "a socket to the hypervisor"),
    },
    Attack {
        name: "packet_socket",
        mutates: false,
        run: |_| family(libc::AF_PACKET, libc::SOCK_RAW, "a packet socket"),
    },
    Attack { name: "raw_socket", mutates: false, run: raw_socket },
];

/// How long an answer on loopback may take.
const PATIENCE: Duration = Duration::from_secs(5);

const IPPROTO_MPTCP: i32 = 262;

fn tcp(address: &str, port: &str) -> Outcome {
    if port == "0" {
        return Outcome::Untestable("the machine does not have this family".into());
    }
    let port = port.parse().unwrap_or(0);
    Outcome::of(TcpStream::connect((address, port)), "connected to a port of the machine")
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers.
    let fd = result(unsafe { libc::socket(family, kind, protocol) }.into())?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) })
}

fn address(places: &Places) -> libc::sockaddr_in {
    // SAFETY: a structure of plain numbers, for which zeros are valid.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET.try_into().unwrap_or_default();
    address.sin_port = places.text("tcp").parse().unwrap_or(0u16).to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
    address
}

fn size() -> u32 {
    size_of::<libc::sockaddr_in>().try_into().unwrap_or_default()
}

fn multipath(places: &Places) -> Outcome {
    use std::os::fd::AsRawFd;
    let address = address(places);
    let socket = match socket(libc::AF_INET, libc::SOCK_STREAM, IPPROTO_MPTCP) {
        Err(e) if [Some(libc::EPROTONOSUPPORT), Some(libc::EINVAL)].contains(&e.raw_os_error()) => {
            return Outcome::Untestable("the kernel has no multipath TCP".into());
        }
        other => other,
    };
    let done = socket.and_then(|socket| {
        // SAFETY: the address lives through the call, and its size is given.
        result(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), size()) }.into())
    });
    Outcome::of(done, "connected to a port of the machine")
}

fn fast_open(places: &Places) -> Outcome {
    use std::os::fd::AsRawFd;
    let address = address(places);
    let done = socket(libc::AF_INET, libc::SOCK_STREAM, 0).and_then(|socket| {
        // SAFETY: buffer and address live through the call, and their sizes are given.
        result(unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                c"x".as_ptr().cast(),
                1,
                libc::MSG_FASTOPEN,
                (&raw const address).cast(),
                size(),
            )
        } as i64)
    });
    Outcome::of(done, "sent to a port of the machine")
}

fn udp(places: &Places) -> Outcome {
    let port = places.text("udp").parse().unwrap_or(0);
    let done = UdpSocket::bind("127.0.0.1:0").and_then(|socket| {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(("127.0.0.1", port))?;
        socket.send(b"hello")?;
        socket.recv(&mut [0; 16])
    });
    Outcome::of(done, "got an answer from a port of the machine")
}

fn abstract_socket(places: &Places) -> Outcome {
    let address = SocketAddr::from_abstract_name(places.text("abstract"));
    Outcome::of(
        address.and_then(|a| UnixStream::connect_addr(&a)),
        "connected to an abstract socket of another",
    )
}

fn raw_socket(_: &Places) -> Outcome {
    family(libc::AF_INET, libc::SOCK_RAW, "a raw socket")
}

fn family(family: i32, kind: i32, what: &str) -> Outcome {
    let protocol = if family == libc::AF_INET { libc::IPPROTO_ICMP } else { 0 };
    match socket(family, kind, protocol) {
        Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            Outcome::Untestable(format!("{what}: the kernel does not have this family"))
        }
        other => Outcome::of(other, &format!("made {what}")),
    }
}
