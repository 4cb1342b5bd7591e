//! Questions for names as they come over DNS, and the addresses that stand for names in here. Pure.
//!
//! A name that may be reached gets a loopback address of its own, so that the address says later which name was meant. There is
//! no other address in this network, and none in IPv6.

use std::net::Ipv4Addr;

/// Longest question over UDP in bytes. Ours has one name.
pub(super) const MAX_QUESTION: usize = 512;

/// How long a client may keep an answer, in seconds. Short, because an address stands for another name once too many were asked for.
const TTL: u32 = 10;

/// Names that have addresses at a time. Beyond them, the one that was asked for longest ago makes room.
pub(super) const POOL: usize = 128;

/// The first address of the pool. Programs use the beginning of 127.0.0.0/8 for themselves.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 77, 1, 1);

const TYPE_A: u16 = 1;
const CLASS_INTERNET: u16 = 1;

/// Flags of an answer: it is one, recursion was to be had, and as asked.
const FLAG_ANSWER: u16 = 0x8000;
const FLAG_RECURSION_WANTED: u16 = 0x0100;
const FLAG_RECURSION: u16 = 0x0080;
const OPCODE: u16 = 0x7800;

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    /// Number by which the client knows its answer.
    id: u16,
    flags: u16,
    /// The question as it came, to be repeated in the answer.
    raw: Vec<u8>,
    /// The name in lower case, without a dot at its end.
    pub(super) name: String,
    kind: u16,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// The name is there, at this address.
    At(Ipv4Addr),
    /// There is no such name.
    NoSuchName,
    /// It cannot be told now.
    Failed,
}

/// Reads a question. `None` for what is no question of one name.
pub(super) fn read(message: &[u8]) -> Option<Query> {
    let word = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let (id, flags) = (word(0)?, word(2)?);
    // A question, of the ordinary kind, exactly one; what stands behind it is about the question and not needed.
    if flags & (FLAG_ANSWER | OPCODE) != 0 || word(4)? != 1 || message.len() > MAX_QUESTION {
        return None;
    }
    let (mut at, mut name) = (12, String::new());
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => break,
            // The two highest bits would lead elsewhere in the message; nothing stands before the first name.
            1..=63 => {}
            _ => return None,
        }
        let label = message.get(at..at + length)?;
        // A dot or a space inside of a label would be another name elsewhere.
        if !label.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_') {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
        at += length;
    }
    let (kind, class) = (word(at)?, word(at + 2)?);
    let good = class == CLASS_INTERNET && super::line::is_word(&name);
    good.then(|| Query { id, flags, raw: message[12..at + 4].to_vec(), name, kind })
}

impl Query {
    /// The answer as it goes to the client. A name that is there has an IPv4 address and nothing else.
    pub(super) fn answer(&self, reply: Reply) -> Vec<u8> {
        let (code, address) = match reply {
            Reply::At(address) => (0, (self.kind == TYPE_A).then_some(address)),
            Reply::Failed => (2, None),
            Reply::NoSuchName => (3, None),
        };
        let flags = FLAG_ANSWER | (self.flags & FLAG_RECURSION_WANTED) | FLAG_RECURSION | code;
        let counts = [1, u16::from(address.is_some()), 0, 0];
        let mut message: Vec<u8> =
            [self.id, flags].into_iter().chain(counts).flat_map(u16::to_be_bytes).collect();
        message.extend_from_slice(&self.raw);
        if let Some(address) = address {
            // The name again, by its place in this message.
            message.extend_from_slice(&[0xc0, 12]);
            message.extend([TYPE_A, CLASS_INTERNET].into_iter().flat_map(u16::to_be_bytes));
            message.extend_from_slice(&TTL.to_be_bytes());
            message.extend_from_slice(&4_u16.to_be_bytes());
            message.extend_from_slice(&address.octets());
        }
        message
    }
}

/// Which name stands at which address, with whatever belongs to each.
#[derive(Debug)]
pub(super) struct Pool<T> {
    /// The place of an entry gives its address.
    entries: Vec<Entry<T>>,
    asked: u64,
}

#[derive(Debug)]
struct Entry<T> {
    name: String,
    last_asked: u64,
    of_name: T,
}

impl<T: Default> Pool<T> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), asked: 0 }
    }

    /// The address of a name, and what belongs to it. A name that has none gets one, empty.
    pub(super) fn of(&mut self, name: &str) -> (Ipv4Addr, &mut T) {
        self.asked += 1;
        let at =
            self.entries.iter().position(|entry| entry.name == name).unwrap_or_else(|| self.make_room(name));
        let entry = &mut self.entries[at];
        entry.last_asked = self.asked;
        (address(at), &mut entry.of_name)
    }

    /// The place of a new entry: behind the others, or that of the one that was asked for longest ago.
    fn make_room(&mut self, name: &str) -> usize {
        let new = Entry { name: name.to_owned(), last_asked: self.asked, of_name: T::default() };
        if self.entries.len() < POOL {
            self.entries.push(new);
            return self.entries.len() - 1;
        }
        let oldest = (0..POOL).min_by_key(|at| self.entries[*at].last_asked).unwrap_or_default();
        self.entries[oldest] = new;
        oldest
    }

    /// All names with what belongs to them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), &entry.of_name))
    }
}

fn address(at: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(FIRST) + u32::try_from(at).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A question as libraries write it.
    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    #[test]
    fn a_name_is_answered_with_its_address_and_has_none_in_ipv6() {
        let query = read(&question("Hooks.Slack.com", TYPE_A)).unwrap();
        assert_eq!(query.name, "hooks.slack.com");
        let answer = query.answer(Reply::At(Ipv4Addr::new(127, 77, 1, 1)));
        assert_eq!(answer[..12], [0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        // The question is repeated letter by letter, as clients check that.
        assert_eq!(&answer[13..18], b"Hooks");
        assert_eq!(answer[answer.len() - 4..], [127, 77, 1, 1]);

        let six = read(&question("hooks.slack.com", 28)).unwrap().answer(Reply::At(Ipv4Addr::LOCALHOST));
        assert_eq!((six[3] & 0xf, six[7]), (0, 0), "it is there, without an address");
        let none = query.answer(Reply::NoSuchName);
        assert_eq!((none[3] & 0xf, none[7]), (3, 0));
    }

    #[test]
    fn what_is_no_question_of_one_name_is_passed_over() {
        let good = question("a.example", TYPE_A);
        assert!(read(&good).is_some());
        for until in 0..good.len() {
            assert_eq!(read(&good[..until]), None, "{until}");
        }
        let changed = |at: usize, to: u8| {
            let mut message = good.clone();
            message[at] = to;
            read(&message)
        };
        assert_eq!(changed(2, 0x81), None, "an answer");
        assert_eq!(changed(2, 0x29), None, "another kind of question");
        assert_eq!(changed(5, 2), None, "two questions");
        assert_eq!(changed(12, 0xc0), None, "a name that stands elsewhere");
        assert_eq!(changed(13, b'.'), None, "a dot inside of a label");
        assert_eq!(changed(13, 0xe4), None, "eight bits");
        assert_eq!(changed(good.len() - 1, 3), None, "another class");
        assert_eq!(read(&question("", TYPE_A)), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_ask_for_what_is_no_word(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let whole = [&[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &bytes].concat();
            for message in [&bytes, &whole] {
                if let Some(query) = read(message) {
                    prop_assert!(crate::egress::line::is_word(&query.name) && message.len() <= MAX_QUESTION);
                    prop_assert!(query.answer(Reply::At(Ipv4Addr::LOCALHOST)).len() <= MAX_QUESTION + 16);
                }
            }
        }
    }

    #[test]
    fn each_name_keeps_its_address_until_too_many_were_asked_for() {
        let mut pool: Pool<u32> = Pool::new();
        let (first, of_first) = pool.of("first.example");
        *of_first = 7;
        assert_eq!(pool.of("second.example").0, Ipv4Addr::new(127, 77, 1, 2));
        for n in 0..POOL - 2 {
            pool.of(&format!("n{n}.example"));
        }
        assert_eq!(pool.of("first.example"), (first, &mut 7));
        // The next one takes the place of the second, and nothing of it.
        assert_eq!(pool.of("new.example"), (Ipv4Addr::new(127, 77, 1, 2), &mut 0));
        assert_eq!(pool.iter().count(), POOL);
        assert_eq!(pool.of("first.example"), (first, &mut 7));
    }
}
