//! What is attacked: files, sockets, shared memory and a process, all of them as open as carelessness makes them.
#![expect(unsafe_code, reason = "shared memory has no safe wrapper")]
#![expect(clippy::print_stdout, reason = "the places are what it is for")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::ExitCode;

/// Offers everything until its input ends.
pub(crate) fn run(directory: &str) -> ExitCode {
    match offer(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("the victim failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn offer(directory: &str) -> io::Result<()> {
    let all = |path: &str, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    let file = format!("{directory}/secret");
    fs::write(&file, "s3cret")?;
    all(directory, 0o777)?;
    all(&file, 0o666)?;
    let socket = format!("{directory}/victim.sock");
    let path = UnixListener::bind(&socket)?;
    all(&socket, 0o777)?;
    let name = format!("temps-victim-{}", std::process::id());
    let hidden = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    let tcp6 = TcpListener::bind("[::1]:0");
    let port = |address: io::Result<std::net::SocketAddr>| address.map_or(0, |address| address.port());
    let key = i32::try_from(std::process::id()).unwrap_or(1) + 0x7e00_0000;
    // SAFETY: plain numbers; the segment is removed below.
    let segment = unsafe { libc::shmget(key, 4096, libc::IPC_CREAT | 0o666) };
    println!(
        "pid={} tcp={} tcp6={} udp={} socket={socket} abstract={name} file={file} directory={directory} key={key} hostname={}",
        std::process::id(),
        port(tcp.local_addr()),
        tcp6.as_ref().map_or(0, |listener| port(listener.local_addr())),
        port(udp.local_addr()),
        rustix::system::uname().nodename().to_string_lossy(),
    );
    io::stdout().flush()?;
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&buffer[..length], from);
        }
    });
    io::stdin().read_to_end(&mut Vec::new())?;
    drop((path, hidden, tcp, tcp6));
    // SAFETY: the segment is ours and is mapped nowhere.
    unsafe { libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut()) };
    Ok(())
}
