//! Standard output, kept for the two handshake lines.
//!
//! The real standard output is moved to a descriptor of its own, and descriptor 1 is pointed at standard error.
//! So a stray `println!`, of the plugin or of a library, becomes a log line instead of breaking the handshake, and
//! nothing is ever written to a pipe that a host stopped reading.

use std::fs::File;
use std::io::{self, Write};

use rustix::io::fcntl_dupfd_cloexec;
use temps_protocol::Ready;

/// The lowest number for the moved descriptor, above the three standard ones.
const LOWEST_DESCRIPTOR: i32 = 3;

/// Where the handshake lines go. It stays open until the plugin ends: a host may take its end for the plugin's.
#[derive(Debug)]
pub(crate) struct HandshakePipe {
    pipe: File,
    said: Said,
}

/// How far the handshake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Manifest,
    Ready,
}

impl HandshakePipe {
    /// Takes standard output away from everybody else in this process.
    pub(crate) fn claim() -> io::Result<Self> {
        // Text that was printed before this and still lies in the buffer of the standard library follows the
        // descriptor to standard error.
        let real = fcntl_dupfd_cloexec(rustix::stdio::stdout(), LOWEST_DESCRIPTOR)?;
        rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
        Ok(Self { pipe: File::from(real), said: Said::Nothing })
    }

    /// Writes the first line.
    pub(crate) fn announce_manifest(&mut self, line: &str) -> io::Result<()> {
        self.said = Said::Manifest;
        self.write_line(line)
    }

    /// Writes the second line.
    pub(crate) fn announce_ready(&mut self, ready: &Ready) -> io::Result<()> {
        self.said = Said::Ready;
        self.write_line(&ready.to_line())
    }

    /// Tells a host that waits for the second line that it will not come, so that it need not wait for its time-out.
    pub(crate) fn refuse(&mut self) {
        if self.said == Said::Manifest {
            let refusal = Ready { ready: false, has_ui: false, openapi: None, features: Vec::new() };
            let _ = self.announce_ready(&refusal);
        }
    }

    /// Writes one line in one piece.
    fn write_line(&mut self, line: &str) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        self.pipe.write_all(&bytes)
    }
}
