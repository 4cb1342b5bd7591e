//! WebSocket frames by hand, so that nothing of what the host sends is hidden.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};

/// Longest frame that is read, in bytes.
const MAX_PAYLOAD: u64 = 16 * 1024 * 1024;

pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

/// One frame as it came.
pub(super) struct Frame {
    pub(super) whole: bool,
    pub(super) reserved: bool,
    pub(super) masked: bool,
    pub(super) opcode: u8,
    pub(super) payload: Vec<u8>,
}

pub(super) fn read_frame(from: &mut impl Read) -> io::Result<Frame> {
    let mut head = [0; 2];
    from.read_exact(&mut head)?;
    let masked = head[1] & 0x80 != 0;
    let length = match head[1] & 0x7f {
        126 => {
            let mut bytes = [0; 2];
            from.read_exact(&mut bytes)?;
            u64::from(u16::from_be_bytes(bytes))
        }
        127 => {
            let mut bytes = [0; 8];
            from.read_exact(&mut bytes)?;
            u64::from_be_bytes(bytes)
        }
        short => u64::from(short),
    };
    if length > MAX_PAYLOAD {
        return Err(io::Error::other(format!("a frame of {length} bytes")));
    }
    let mut mask = [0; 4];
    if masked {
        from.read_exact(&mut mask)?;
    }
    let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    from.read_exact(&mut payload)?;
    for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    let (whole, reserved) = (head[0] & 0x80 != 0, head[0] & 0x70 != 0);
    Ok(Frame { whole, reserved, masked, opcode: head[0] & 0x0f, payload })
}

pub(super) fn write_frame(to: &mut impl Write, opcode: u8, payload: &[u8]) -> io::Result<()> {
    let mut bytes = vec![0x80 | opcode];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length), _) if length < 126 => bytes.push(length),
        (_, Ok(length)) => {
            bytes.push(126);
            bytes.extend(length.to_be_bytes());
        }
        _ => {
            bytes.push(127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(payload);
    to.write_all(&bytes)
}

/// A short text that tells two secrets apart and gives none away.
pub(super) fn digest(secret: &str) -> String {
    let mut hasher = DefaultHasher::new();
    secret.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
