//! The verification of a chain: page after page, with what is needed of the page before and nothing else, so that it
//! needs the same memory for any length. It reads nothing itself.

use std::fmt;
use std::iter::Peekable;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{ChainPage, Cut, FoundLink, Link, Mac, Part, Parts, Seal, cut_mac, link_mac};

/// The end of a chain as it was once seen and written down outside of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// When it was written down.
    pub at: DateTime<Utc>,
    /// The last link.
    pub number: i64,
    /// The last places (`seq`) that it covered.
    pub last: Parts<i64>,
    /// The link's seal.
    pub mac: Mac,
}

/// What was found out about a trail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditVerdict {
    /// The first wrong place; `None` when nothing is wrong.
    pub wrong: Option<Wrong>,
    /// Links that were checked and are good.
    pub links: u64,
    /// Rows that they cover, found as they were written.
    pub rows: Parts<u64>,
    /// Rows from before the chain, which nothing is known of.
    pub outside: Parts<u64>,
    /// Rows that retention removed, and sealed that it did.
    pub removed: Parts<u64>,
    /// When retention last cut, if it did.
    pub cut_at: Option<DateTime<Utc>>,
    /// When the first link that is kept was made.
    pub since: Option<DateTime<Utc>>,
    /// When the last good link was made.
    pub until: Option<DateTime<Utc>>,
    /// Number of the last good link.
    pub last_link: Option<i64>,
    /// Heads outside of the database that the chain was compared with.
    pub heads: u64,
    /// The last head that the chain agrees with.
    pub last_head: Option<Head>,
}

/// A wrong place, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The link.
    pub link: Option<i64>,
    /// When the link was made, as far as that can be believed.
    pub at: Option<DateTime<Utc>>,
    /// The places (`seq`) of the rows in question, first and last, and of which part, where it is about rows.
    pub rows: Option<(Part, i64, i64)>,
    /// What is wrong.
    pub what: Wrongness,
}

/// What can be wrong with a trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrongness {
    /// Rows were changed, or put into another order.
    Changed,
    /// Rows are missing.
    Missing {
        /// How many.
        count: i64,
    },
    /// There are rows that were not written by the host.
    Added {
        /// How many.
        count: i64,
    },
    /// Links are missing.
    LinksMissing {
        /// How many.
        count: i64,
    },
    /// The link itself was changed, or was not made with the key.
    LinkChanged,
    /// The record of what retention removed was changed, or was not made with the key.
    CutChanged,
    /// It was sealed with another key than the one that is there now.
    OtherKey {
        /// Name of the key that sealed it.
        sealed_with: String,
    },
    /// The end is missing: a head outside of the database knows of a later link.
    TailMissing {
        /// The last link that the head knows of.
        head: i64,
        /// When the head was written down.
        seen_at: DateTime<Utc>,
    },
    /// The link is not the one that a head outside of the database knows.
    NotTheHead {
        /// When the head was written down.
        seen_at: DateTime<Utc>,
    },
    /// The heads outside of the database go back: an earlier chain ended and another one began.
    HeadsGoBack {
        /// The last link of the earlier one that was seen.
        before: i64,
    },
    /// The file of heads cannot be read at this place.
    HeadsUnreadable {
        /// Which line, and why.
        reason: String,
    },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.rows.map_or("rows", |(part, ..)| part.as_str());
        match &self.what {
            Wrongness::Changed => write!(f, "{part} were changed or put into another order")?,
            Wrongness::Missing { count } => write!(f, "{count} of the {part} are missing")?,
            Wrongness::Added { count } => write!(f, "there are {count} {part} that the host did not write")?,
            Wrongness::LinksMissing { count } => write!(f, "{count} links of the chain are missing")?,
            Wrongness::LinkChanged => f.write_str("the link was changed, or made without the key")?,
            Wrongness::CutChanged => {
                f.write_str("the record of what retention removed was changed, or made without the key")?;
            }
            Wrongness::OtherKey { sealed_with } => {
                write!(f, "it was sealed with another key ({sealed_with}) than the one that is there now")?;
            }
            Wrongness::TailMissing { head, seen_at } => {
                write!(f, "the end is missing: link {head} was there at {}", seconds(*seen_at))?;
            }
            Wrongness::NotTheHead { seen_at } => {
                write!(f, "the link is not the one that was there at {}", seconds(*seen_at))?;
            }
            Wrongness::HeadsGoBack { before } => {
                write!(f, "the chain began anew: link {before} had been reached before")?;
            }
            Wrongness::HeadsUnreadable { reason } => write!(f, "the file of heads is damaged: {reason}")?,
        }
        if let Some((_, first, last)) = self.rows {
            write!(f, ", seq {first} to {last}")?;
        }
        if let Some(link) = self.link {
            write!(f, ", link {link}")?;
        }
        if let Some(at) = self.at {
            write!(f, " of {}", seconds(at))?;
        }
        Ok(())
    }
}

fn seconds(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// Heads in the order in which they were written down, or why one cannot be read.
pub type Heads = Box<dyn Iterator<Item = Result<Head, String>> + Send>;

/// Checks a chain page by page.
pub struct Verifier {
    seal: Arc<dyn Seal>,
    node: String,
    heads: Peekable<Heads>,
    head_before: Option<Head>,
    /// The last link that was checked: its number, seal and places.
    before: Option<(i64, Mac, Parts<i64>)>,
    verdict: AuditVerdict,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("node", &self.node)
            .field("verdict", &self.verdict)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    /// Begins at the old end of the chain of `node`.
    #[must_use]
    pub fn new(seal: Arc<dyn Seal>, node: &str, heads: Heads) -> Self {
        Self {
            seal,
            node: node.to_owned(),
            heads: heads.peekable(),
            head_before: None,
            before: None,
            verdict: AuditVerdict::default(),
        }
    }

    /// The link after which the next page begins; -1 for the beginning.
    #[must_use]
    pub fn place(&self) -> i64 {
        self.before.map_or(-1, |(number, ..)| number)
    }

    /// What was found out so far.
    #[must_use]
    pub fn verdict(&self) -> &AuditVerdict {
        &self.verdict
    }

    /// Checks the next page. Returns whether it is over: something is wrong, or the end was reached.
    pub fn take(&mut self, page: &ChainPage) -> bool {
        match self.check(page) {
            Ok(at_the_end) => at_the_end,
            Err(wrong) => {
                self.verdict.wrong = Some(*wrong);
                true
            }
        }
    }

    fn check(&mut self, page: &ChainPage) -> Result<bool, Box<Wrong>> {
        if let Some(cut) = &page.cut {
            self.check_cut(cut)?;
        }
        for found in &page.links {
            self.check_link(found, page.cut.as_ref())?;
            self.check_heads(&found.link)?;
            self.count(found, page.cut.as_ref());
        }
        let Some(after) = page.after else { return Ok(false) };
        let last = self.before.map_or_else(Parts::default, |(_, _, last)| last);
        for part in Part::ALL {
            if after.of(part) > 0 && self.before.is_some() {
                let rows = Some((part, last.of(part) + 1, last.of(part) + after.of(part)));
                let what = Wrongness::Added { count: after.of(part) };
                return Err(Wrong { link: None, at: None, rows, what }.into());
            }
        }
        if self.before.is_none() {
            self.verdict.outside = unsigned(after);
        }
        self.check_the_last_heads()?;
        Ok(true)
    }

    fn check_cut(&mut self, cut: &Cut) -> Result<(), Box<Wrong>> {
        let wrong = |what| Wrong { link: Some(cut.number), at: Some(cut.at), rows: None, what };
        if cut.key_id != self.seal.key_id() {
            return Err(wrong(Wrongness::OtherKey { sealed_with: cut.key_id.clone() }).into());
        }
        if cut.mac != cut_mac(&*self.seal, &self.node, cut) {
            return Err(wrong(Wrongness::CutChanged).into());
        }
        // Retention goes on while the chain is being checked: what it has cut meanwhile need not be there any more.
        if self.place() < cut.number {
            self.before = Some((cut.number, cut.link, cut.last));
        }
        self.verdict.cut_at = Some(cut.at);
        self.verdict.removed = unsigned(cut.removed);
        Ok(())
    }

    fn check_link(&self, found: &FoundLink, cut: Option<&Cut>) -> Result<(), Box<Wrong>> {
        let link = &found.link;
        let wrong =
            |rows, what| Err(Box::new(Wrong { link: Some(link.number), at: Some(link.at), rows, what }));
        let expected = self.place() + 1;
        if link.number != expected {
            return wrong(None, Wrongness::LinksMissing { count: link.number - expected });
        }
        if link.key_id != self.seal.key_id() {
            return wrong(None, Wrongness::OtherKey { sealed_with: link.key_id.clone() });
        }
        let (_, mac, places) = self.before.unwrap_or_default();
        if link.mac != link_mac(&*self.seal, &self.node, mac, link) {
            return wrong(None, Wrongness::LinkChanged);
        }
        for part in Part::ALL {
            let (kept, there) = (link.rows.of(part), found.found.of(part));
            let is_cut = cut.is_some_and(|cut| link.last.of(part) <= cut.last.of(part));
            let expected = if is_cut { 0 } else { kept.count };
            let rows = Some((part, places.of(part) + 1, link.last.of(part)));
            if there.count > expected {
                return wrong(rows, Wrongness::Added { count: there.count - expected });
            }
            // What was there before the chain began may go without a trace, and may have been anything.
            if link.number == 0 || is_cut {
                continue;
            }
            if there.count < expected {
                return wrong(rows, Wrongness::Missing { count: expected - there.count });
            }
            if there.digest != kept.digest {
                return wrong(rows, Wrongness::Changed);
            }
        }
        Ok(())
    }

    fn count(&mut self, FoundLink { link, found }: &FoundLink, cut: Option<&Cut>) {
        let verdict = &mut self.verdict;
        let there = Parts { records: found.records.count, attempts: found.attempts.count };
        if link.number == 0 {
            verdict.outside = unsigned(there);
        } else {
            let is_kept = |part| cut.is_none_or(|cut| link.last.of(part) > cut.last.of(part));
            let counted = |part| if is_kept(part) { there.of(part).unsigned_abs() } else { 0 };
            verdict.rows.records += counted(Part::Records);
            verdict.rows.attempts += counted(Part::Attempts);
        }
        verdict.links += 1;
        verdict.since.get_or_insert(link.at);
        verdict.until = Some(link.at);
        verdict.last_link = Some(link.number);
        self.before = Some((link.number, link.mac, link.last));
    }

    /// Compares a link with the heads that know it. Heads of links that retention has cut are passed over.
    fn check_heads(&mut self, link: &Link) -> Result<(), Box<Wrong>> {
        let is_due =
            |head: &Result<Head, String>| head.as_ref().map_or(true, |head| head.number <= link.number);
        while let Some(head) = self.heads.next_if(is_due) {
            let head = self.next_head(head)?;
            if head.number == link.number {
                if head.mac != link.mac {
                    let what = Wrongness::NotTheHead { seen_at: head.at };
                    return Err(Wrong { link: Some(link.number), at: Some(link.at), rows: None, what }.into());
                }
                self.verdict.heads += 1;
                self.verdict.last_head = Some(head);
            }
        }
        Ok(())
    }

    fn check_the_last_heads(&mut self) -> Result<(), Box<Wrong>> {
        while let Some(head) = self.heads.next() {
            let head = self.next_head(head)?;
            if head.number > self.place() {
                let what = Wrongness::TailMissing { head: head.number, seen_at: head.at };
                return Err(Wrong { link: Some(self.place() + 1), at: None, rows: None, what }.into());
            }
        }
        Ok(())
    }

    fn next_head(&mut self, head: Result<Head, String>) -> Result<Head, Box<Wrong>> {
        let head = head.map_err(|reason| Wrong {
            link: None,
            at: None,
            rows: None,
            what: Wrongness::HeadsUnreadable { reason },
        })?;
        if let Some(before) = &self.head_before
            && (head.number < before.number || (head.number == before.number && head.mac != before.mac))
        {
            let what = Wrongness::HeadsGoBack { before: before.number };
            return Err(Wrong { link: Some(head.number), at: Some(head.at), rows: None, what }.into());
        }
        self.head_before = Some(head.clone());
        Ok(head)
    }
}

fn unsigned(parts: Parts<i64>) -> Parts<u64> {
    Parts { records: parts.records.unsigned_abs(), attempts: parts.attempts.unsigned_abs() }
}
