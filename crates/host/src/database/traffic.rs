//! What goes over an open session, as far as the relay has to know: where messages begin, and whether the server is at work.
//!
//! Pure. Messages are neither kept nor changed; only their first five bytes are looked at.

use std::time::Duration;

use tokio::time::Instant;

/// Finds where messages begin in a stream that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Messages {
    header: [u8; 5],
    have: usize,
    /// Bytes of the present message that are still to come.
    rest: usize,
}

/// A message that says it is shorter than its own length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream does not follow PostgreSQL's protocol")]
pub(super) struct Broken;

impl Messages {
    /// Takes the next piece, and names the type of each message whose header is complete with it.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut begins: impl FnMut(u8)) -> Result<(), Broken> {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let step = self.rest.min(bytes.len());
                self.rest -= step;
                bytes = &bytes[step..];
                continue;
            }
            let step = (self.header.len() - self.have).min(bytes.len());
            self.header[self.have..self.have + step].copy_from_slice(&bytes[..step]);
            self.have += step;
            bytes = &bytes[step..];
            if self.have == self.header.len() {
                let [kind, a, b, c, d] = self.header;
                let length = u32::from_be_bytes([a, b, c, d]);
                // The length counts its own four bytes.
                self.rest = length.checked_sub(4).ok_or(Broken)? as usize;
                self.have = 0;
                begins(kind);
            }
        }
        Ok(())
    }
}

/// Whether the server owes an answer, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Work {
    /// Requests that the server answers with being ready.
    requests: u64,
    /// How many of them end a group of messages, instead of being a query by themselves.
    syncs: u64,
    /// Since when it works on the present one.
    pub(super) since: Option<Instant>,
    /// When anything last went either way.
    pub(super) heard: Instant,
}

impl Work {
    /// A session that was just opened.
    pub(super) fn new(now: Instant) -> Self {
        Self { requests: 0, syncs: 0, since: None, heard: now }
    }

    /// A message of the client's.
    pub(super) fn asked(&mut self, kind: u8, now: Instant) {
        match kind {
            b'Q' | b'F' => self.requests += 1,
            b'S' => {
                self.requests += 1;
                self.syncs += 1;
            }
            // Leaving asks for nothing.
            b'X' => return,
            _ => {}
        }
        self.since = self.since.or(Some(now));
    }

    /// A message of the server's.
    pub(super) fn answered(&mut self, kind: u8, now: Instant) {
        match kind {
            b'Z' => {
                self.requests = self.requests.saturating_sub(1);
                self.syncs = self.syncs.min(self.requests);
                self.since = (self.requests > 0).then_some(now);
            }
            // Once it takes in data, the server passes over the sync that came with the request for that.
            b'G' if self.syncs == self.requests && self.syncs > 0 => {
                self.requests -= 1;
                self.syncs -= 1;
            }
            _ => {}
        }
    }

    /// When the present work has taken `limit`; `None` while there is none.
    pub(super) fn due(&self, limit: Duration) -> Option<Instant> {
        self.since.map(|since| since + limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds(pieces: &[&[u8]]) -> Result<Vec<u8>, Broken> {
        let (mut messages, mut kinds) = (Messages::default(), Vec::new());
        for piece in pieces {
            messages.feed(piece, |kind| kinds.push(kind))?;
        }
        Ok(kinds)
    }

    #[test]
    fn a_message_shorter_than_its_length_is_noticed() {
        assert_eq!(kinds(&[b"Q\0\0\0\x03"]), Err(Broken));
        assert_eq!(kinds(&[b"Q\0\0\0\x04"]), Ok(vec![b'Q']));
    }

    proptest! {
        #[test]
        fn messages_are_found_however_the_stream_is_cut(
            bodies in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..10),
            cuts in prop::collection::vec(1usize..9, 1..60),
        ) {
            let mut stream = Vec::new();
            for (kind, body) in &bodies {
                stream.push(*kind);
                stream.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
                stream.extend(body);
            }
            let (mut pieces, mut rest) = (Vec::new(), stream.as_slice());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, more) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = more;
            }
            let expected: Vec<u8> = bodies.iter().map(|(kind, _)| *kind).collect();
            prop_assert_eq!(kinds(&pieces).unwrap(), expected);
        }

        #[test]
        fn as_many_answers_as_requests_leave_the_server_at_rest(kinds in prop::collection::vec(0usize..5, 0..30)) {
            let now = Instant::now();
            let mut work = Work::new(now);
            let mut owed = 0;
            for kind in kinds {
                let kind = b"QFSPE"[kind];
                owed += u64::from(b"QFS".contains(&kind));
                work.asked(kind, now);
                prop_assert!(work.since.is_some());
            }
            work.asked(b'S', now);
            for left in (0..=owed).rev() {
                work.answered(b'Z', now);
                prop_assert_eq!(work.since.is_none(), left == 0);
            }
        }
    }

    #[test]
    fn copying_in_by_the_extended_protocol_ends_at_rest() {
        let now = Instant::now();
        let mut work = Work::new(now);
        b"PBES".iter().for_each(|kind| work.asked(*kind, now));
        work.answered(b'G', now);
        b"ddcS".iter().for_each(|kind| work.asked(*kind, now));
        assert!(work.since.is_some());
        work.answered(b'Z', now);
        assert_eq!(work.since, None);
        work.asked(b'Q', now);
        work.answered(b'G', now);
        b"dc".iter().for_each(|kind| work.asked(*kind, now));
        work.answered(b'Z', now);
        assert_eq!(work.since, None);
    }

    #[test]
    fn each_answer_begins_the_time_of_the_next_request() {
        let begin = Instant::now();
        let mut work = Work::new(begin);
        work.asked(b'Q', begin);
        work.asked(b'Q', begin);
        let later = begin + Duration::from_secs(5);
        work.answered(b'Z', later);
        assert_eq!(work.due(Duration::from_secs(1)), Some(later + Duration::from_secs(1)));
    }
}
