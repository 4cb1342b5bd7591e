//! One direction of a connection: takes what there is, holds a little, and gives what is taken. It never waits.

use std::io::{self, Read, Write};

use rustix::event::PollFlags;

/// Bytes that are held for a side that does not take them yet.
const BUFFER: usize = 16 * 1024;

/// One direction of a connection.
#[derive(Default)]
pub(super) struct Pipe {
    held: Vec<u8>,
    /// Nothing more comes.
    ended: bool,
    /// The other side knows that.
    pub(super) closed: bool,
}

impl Pipe {
    /// One that has something to give already.
    pub(super) fn holding(held: Vec<u8>) -> Self {
        Self { held, ..Self::default() }
    }

    /// What it waits for at the side that it takes from.
    pub(super) fn wants_more(&self) -> PollFlags {
        if !self.ended && self.held.len() < BUFFER { PollFlags::IN } else { PollFlags::empty() }
    }

    /// What it waits for at the side that it gives to.
    pub(super) fn wants_out(&self) -> PollFlags {
        if self.held.is_empty() { PollFlags::empty() } else { PollFlags::OUT }
    }

    /// Takes what there is, gives what is taken, and passes the end on.
    pub(super) fn pump<R: Read, W: Write>(
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
pub(super) fn fill(from: &mut impl Read, to: &mut Vec<u8>, most: usize) -> io::Result<bool> {
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
