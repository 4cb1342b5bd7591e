//! Standard output, kept for the two handshake lines.
//!
//! The real standard output is moved to a descriptor of its own, and descriptor 1 is pointed at standard error.
//! So a stray `println!`, of the plugin or of a library, becomes a log line instead of breaking the handshake, and
//! nothing is ever written to a pipe that a host stopped reading.

use std::fs::File;
use std::io::{self, Write};

use rustix::io::fcntl_dupfd_cloexec;

/// The lowest number for the moved descriptor, above the three standard ones.
const LOWEST_DESCRIPTOR: i32 = 3;

/// Where the handshake lines go. It stays open until the plugin ends: a host may take its end for the plugin's.
#[derive(Debug)]
pub(crate) struct HandshakePipe(File);

impl HandshakePipe {
    /// Takes standard output away from everybody else in this process.
    pub(crate) fn claim() -> io::Result<Self> {
        // Text that was printed before this and still lies in the buffer of the standard library follows the
        // descriptor to standard error.
        let real = fcntl_dupfd_cloexec(rustix::stdio::stdout(), LOWEST_DESCRIPTOR)?;
        rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
        Ok(Self(File::from(real)))
    }

    /// Writes one line in one piece.
    pub(crate) fn write_line(&mut self, line: &str) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        self.0.write_all(&bytes)?;
        self.0.flush()
    }
}
