//! The chain that makes the audit trail tamper-evident: what a link covers, and how its seal is computed.
//!
//! Every commit that adds audit records or delivery attempts ends with one link. A link seals the digests of the rows
//! that the commit added, and the link before it; so a row that is changed, removed, added or moved breaks its own
//! link, and a link that is made anew breaks the next one. Retention cuts the chain at its old end and leaves a sealed
//! [`Cut`], so that a cut by retention can be told from any other.
//!
//! The key is not known here: whoever opens the store gives a [`Seal`]. Everything in this file is a function of its
//! arguments and the same for every engine.

#[cfg(test)]
mod tests;
mod verify;

use std::fmt;

use chrono::{DateTime, Utc};

pub use verify::{AuditVerdict, Head, Heads, Verifier, Wrong, Wrongness};

/// Makes keyed digests (message authentication codes). The key stays with whoever implements it.
pub trait Seal: fmt::Debug + Send + Sync + 'static {
    /// A name for the key that tells nothing about it: two keys have two names.
    fn key_id(&self) -> &str;

    /// Begins one digest.
    fn begin(&self) -> Box<dyn Sealing>;
}

/// One keyed digest in the making.
pub trait Sealing {
    /// Takes more bytes.
    fn feed(&mut self, bytes: &[u8]);

    /// The digest of everything that was fed.
    fn finish(self: Box<Self>) -> Mac;
}

/// A keyed digest of 256 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mac(pub [u8; 32]);

impl Mac {
    /// In hexadecimal.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut mac = [0; 32];
        for (at, byte) in mac.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self(mac))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// What the chain covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The audit records.
    Records,
    /// The delivery attempts, which are the record of each dispatch.
    Attempts,
}

impl Part {
    /// Both, in the order in which a link seals them.
    pub const ALL: [Part; 2] = [Part::Records, Part::Attempts];

    /// The word in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Records => "audit records",
            Part::Attempts => "delivery attempts",
        }
    }
}

/// One value for each part of what the chain covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts<T> {
    /// For the audit records.
    pub records: T,
    /// For the delivery attempts.
    pub attempts: T,
}

impl<T: Copy> Parts<T> {
    /// The value of one part.
    #[must_use]
    pub fn of(&self, part: Part) -> T {
        match part {
            Part::Records => self.records,
            Part::Attempts => self.attempts,
        }
    }
}

/// Rows of one part, as a link seals them or as they were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// How many rows.
    pub count: i64,
    /// Their digest, over every column of every row in order.
    pub digest: Mac,
}

/// One link: what one commit added.
///
/// The first link of a chain is number 0. It covers no rows: it says what was there before the chain, which is outside
/// of it, with `rows.count` as how many those were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Place in the chain, without gaps.
    pub number: i64,
    /// When it was made.
    pub at: DateTime<Utc>,
    /// Name of the key that sealed it.
    pub key_id: String,
    /// The last place (`seq`) that the link covers; it begins after the place of the link before.
    pub last: Parts<i64>,
    /// The rows that it covers.
    pub rows: Parts<Rows>,
    /// The seal over all of this and over the link before.
    pub mac: Mac,
}

/// Where retention cut the chain. There is one for each node; a later cut replaces the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The last link that was removed; -1 when none was yet.
    pub number: i64,
    /// Seal of the link `number`, which the first remaining link goes on from.
    pub link: Mac,
    /// When the last cut was made.
    pub at: DateTime<Utc>,
    /// Name of the key that sealed it.
    pub key_id: String,
    /// Rows up to these places (`seq`) were removed.
    pub last: Parts<i64>,
    /// How many rows were removed since the chain began.
    pub removed: Parts<i64>,
    /// The seal over all of this.
    pub mac: Mac,
}

/// A link, and what lies now where its rows should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLink {
    /// The link as it is kept.
    pub link: Link,
    /// The rows after the place of the link before, up to the place of this one; all rows up to there when the link
    /// before is not kept. For link 0 their number alone.
    pub found: Parts<Rows>,
}

/// A stretch of the chain, read in one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainPage {
    /// Where retention cut, if it did.
    pub cut: Option<Cut>,
    /// The links after the place that was asked for, oldest first. Those that retention has cut are not there.
    pub links: Vec<FoundLink>,
    /// Rows that lie after the last link; `None` when this page is not the end.
    pub after: Option<Parts<i64>>,
}

/// A value as it stands in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// No value.
    Null,
    /// An integer.
    Integer(i64),
    /// A text, or bytes.
    Bytes(&'a [u8]),
}

/// Makes the digest of rows, one after the other, so that any number of them needs little memory.
pub struct RowsDigest {
    sealing: Box<dyn Sealing>,
    count: i64,
}

impl fmt::Debug for RowsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowsDigest").field("count", &self.count).finish_non_exhaustive()
    }
}

impl RowsDigest {
    /// A digest of no rows of a part.
    #[must_use]
    pub fn begin(seal: &dyn Seal, part: Part) -> Self {
        let mut sealing = seal.begin();
        sealing.feed(match part {
            Part::Records => b"temps audit records 1\n",
            Part::Attempts => b"temps audit attempts 1\n",
        });
        Self { sealing, count: 0 }
    }

    /// Takes the next row: all of its columns, in a fixed order.
    pub fn row<'a>(&mut self, cells: impl IntoIterator<Item = Cell<'a>>) {
        self.sealing.feed(b"row");
        for cell in cells {
            feed_cell(&mut *self.sealing, cell);
        }
        self.count += 1;
    }

    /// The rows' number and digest.
    #[must_use]
    pub fn finish(self) -> Rows {
        Rows { count: self.count, digest: self.sealing.finish() }
    }
}

/// The seal of a link that follows the link with the seal `before`.
#[must_use]
pub fn link_mac(seal: &dyn Seal, node: &str, before: Mac, link: &Link) -> Mac {
    let mut sealing = seal.begin();
    sealing.feed(b"temps audit link 1\n");
    sealing.feed(&before.0);
    feed_cell(&mut *sealing, Cell::Bytes(node.as_bytes()));
    feed_cell(&mut *sealing, Cell::Integer(link.number));
    feed_cell(&mut *sealing, Cell::Integer(link.at.timestamp_micros()));
    feed_cell(&mut *sealing, Cell::Bytes(link.key_id.as_bytes()));
    for part in Part::ALL {
        feed_cell(&mut *sealing, Cell::Integer(link.last.of(part)));
        feed_cell(&mut *sealing, Cell::Integer(link.rows.of(part).count));
        sealing.feed(&link.rows.of(part).digest.0);
    }
    sealing.finish()
}

/// The seal of a cut.
#[must_use]
pub fn cut_mac(seal: &dyn Seal, node: &str, cut: &Cut) -> Mac {
    let mut sealing = seal.begin();
    sealing.feed(b"temps audit cut 1\n");
    feed_cell(&mut *sealing, Cell::Bytes(node.as_bytes()));
    feed_cell(&mut *sealing, Cell::Integer(cut.number));
    sealing.feed(&cut.link.0);
    feed_cell(&mut *sealing, Cell::Integer(cut.at.timestamp_micros()));
    feed_cell(&mut *sealing, Cell::Bytes(cut.key_id.as_bytes()));
    for part in Part::ALL {
        feed_cell(&mut *sealing, Cell::Integer(cut.last.of(part)));
        feed_cell(&mut *sealing, Cell::Integer(cut.removed.of(part)));
    }
    sealing.finish()
}

/// The link that begins a chain: what was there before it (`last` and how many) is outside of it.
#[must_use]
pub fn first_link(
    seal: &dyn Seal,
    node: &str,
    at: DateTime<Utc>,
    last: Parts<i64>,
    there: Parts<i64>,
) -> Link {
    let nothing =
        |part| Rows { count: there.of(part), digest: RowsDigest::begin(seal, part).finish().digest };
    let rows = Parts { records: nothing(Part::Records), attempts: nothing(Part::Attempts) };
    sealed(
        seal,
        node,
        Mac::default(),
        Link { number: 0, at, key_id: String::new(), last, rows, mac: Mac::default() },
    )
}

/// The link that follows `before` and covers `rows`.
#[must_use]
pub fn next_link(
    seal: &dyn Seal,
    node: &str,
    before: &Link,
    at: DateTime<Utc>,
    last: Parts<i64>,
    rows: Parts<Rows>,
) -> Link {
    let number = before.number + 1;
    sealed(
        seal,
        node,
        before.mac,
        Link { number, at, key_id: String::new(), last, rows, mac: Mac::default() },
    )
}

fn sealed(seal: &dyn Seal, node: &str, before: Mac, mut link: Link) -> Link {
    seal.key_id().clone_into(&mut link.key_id);
    link.mac = link_mac(seal, node, before, &link);
    link
}

/// Seals a cut.
#[must_use]
pub fn sealed_cut(seal: &dyn Seal, node: &str, mut cut: Cut) -> Cut {
    seal.key_id().clone_into(&mut cut.key_id);
    cut.mac = cut_mac(seal, node, &cut);
    cut
}

/// Every value has its kind and length before it, so that no two rows have the same bytes.
fn feed_cell(sealing: &mut dyn Sealing, cell: Cell<'_>) {
    match cell {
        Cell::Null => sealing.feed(b"n"),
        Cell::Integer(number) => {
            sealing.feed(b"i");
            sealing.feed(&number.to_be_bytes());
        }
        Cell::Bytes(bytes) => {
            sealing.feed(b"b");
            sealing.feed(&(bytes.len() as u64).to_be_bytes());
            sealing.feed(bytes);
        }
    }
}
