//! Heads: where the chain of the audit trail stood, written each minute to a file that only grows. Whoever cuts the end of
//! the trail off in the database must find this file as well.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use temps_store::{Head, Heads, Link, Mac, Parts};

/// Size at which the file is put aside as `audit.heads.1` and a new one is begun: about a year, with one line a minute.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Longest line in bytes: a time, a node's name, three numbers, a digest.
const MAX_LINE: u64 = 512;

/// The file of heads of one node.
#[derive(Debug, Clone)]
pub(super) struct HeadFile {
    path: PathBuf,
    node: String,
}

impl HeadFile {
    /// The file at a path, which need not be there.
    #[must_use]
    pub(super) fn new(path: PathBuf, node: &str) -> Self {
        Self { path, node: node.to_owned() }
    }

    /// Where it is.
    #[must_use]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a head and returns once it is on the disk.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn append(&self, link: &Link, now: DateTime<Utc>) -> std::io::Result<()> {
        self.put_aside_when_full();
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path)?;
        let mut line = String::new();
        // A host that was killed may have left half a line.
        if !ends_a_line(&mut file)? {
            line.push('\n');
        }
        let at = now.to_rfc3339_opts(SecondsFormat::Secs, true);
        let (node, number, mac) = (&self.node, link.number, link.mac.to_hex());
        let Parts { records, attempts } = link.last;
        line.push_str(&format!("{at} {node} {number} {records} {attempts} {mac}\n"));
        file.write_all(line.as_bytes())?;
        file.sync_data()
    }

    /// The last head that was written down.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn last(&self) -> std::io::Result<Option<Head>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        // The last two lines at least, whatever their length.
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(2 * MAX_LINE)))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        let end = String::from_utf8_lossy(&end);
        Ok(end.lines().rev().find_map(|line| self.parse(line)))
    }

    /// All heads that are there now, oldest first. Those that are appended later are not among them.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn read(&self) -> std::io::Result<Heads> {
        let mut files = Vec::new();
        for path in [self.aside(), self.path.clone()] {
            match File::open(path) {
                Ok(file) => {
                    let length = file.metadata()?.len();
                    files.push(BufReader::new(file.take(length)));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let this = self.clone();
        Ok(Box::new(files.into_iter().flat_map(move |file| Lines { heads: this.clone(), file, number: 0 })))
    }

    fn parse(&self, line: &str) -> Option<Head> {
        let mut words = line.split(' ');
        let at = DateTime::parse_from_rfc3339(words.next()?).ok()?.to_utc();
        if words.next()? != self.node {
            return None;
        }
        let mut number = || words.next()?.parse().ok();
        let (link, records, attempts) = (number()?, number()?, number()?);
        let mac = Mac::from_hex(words.next()?)?;
        words.next().is_none().then_some(Head { at, number: link, last: Parts { records, attempts }, mac })
    }

    fn aside(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".1");
        name.into()
    }

    fn put_aside_when_full(&self) {
        let full = std::fs::metadata(&self.path).is_ok_and(|meta| meta.len() >= MAX_BYTES);
        if full && let Err(error) = std::fs::rename(&self.path, self.aside()) {
            // Where the file may only be appended to, it goes on growing: that is what its owner asked for.
            tracing::warn!(path = %self.path.display(), %error, "the file of audit heads is large and cannot be put aside");
        }
    }
}

/// Whether nothing stands behind the last newline.
fn ends_a_line(file: &mut File) -> std::io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// The lines of one file.
struct Lines {
    heads: HeadFile,
    file: BufReader<std::io::Take<File>>,
    number: u64,
}

impl Iterator for Lines {
    type Item = Result<Head, String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.number += 1;
            let mut line = Vec::new();
            let read = Read::by_ref(&mut self.file).take(MAX_LINE).read_until(b'\n', &mut line);
            let wrong = |reason: String| Some(Err(format!("line {}: {reason}", self.number)));
            match read {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    self.file.get_mut().set_limit(0);
                    return wrong(error.to_string());
                }
            }
            let text = String::from_utf8_lossy(&line);
            if let Some(head) = self.heads.parse(text.trim_end_matches('\n')) {
                return Some(Ok(head));
            }
            // Half a line is what a host leaves that was killed while it wrote: a beginning of one that is right.
            let is_of_others = text.split(' ').nth(1).is_some_and(|node| node != self.heads.node);
            if is_half(&text) || is_of_others {
                continue;
            }
            return wrong("it is not a head".to_owned());
        }
    }
}

/// Whether a line could be the beginning of a head: shorter than one, and of its letters only.
fn is_half(line: &str) -> bool {
    let line = line.trim_end_matches('\n');
    let words = line.split(' ').count();
    let last = line.rsplit(' ').next().unwrap_or_default();
    words < 6 || (words == 6 && last.len() < 64 && last.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Where the file of heads and the key are.
#[derive(Debug, Clone)]
pub struct TrailFiles {
    /// The key of the chain.
    pub key: PathBuf,
    /// The heads of the chain.
    pub heads: PathBuf,
}

impl TrailFiles {
    /// In a host's state directory.
    #[must_use]
    pub fn of(state_dir: &Path) -> Self {
        Self { key: state_dir.join("audit.key"), heads: state_dir.join("audit.heads") }
    }
}

#[cfg(test)]
mod tests {
    use temps_store::Rows;

    use super::*;

    fn link(number: i64) -> Link {
        let rows = Rows { count: 1, digest: Mac::default() };
        Link {
            number,
            at: Utc::now(),
            key_id: "k".into(),
            last: Parts { records: number * 3, attempts: 0 },
            rows: Parts { records: rows, attempts: rows },
            mac: Mac([number as u8; 32]),
        }
    }

    fn numbers(file: &HeadFile) -> Vec<Result<i64, String>> {
        file.read().unwrap().map(|head| head.map(|head| head.number)).collect()
    }

    #[test]
    fn heads_come_back_in_order_also_after_half_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = HeadFile::new(dir.path().join("audit.heads"), "local");
        assert_eq!(file.last().unwrap(), None);
        assert!(numbers(&file).is_empty());
        file.append(&link(1), Utc::now()).unwrap();
        file.append(&link(2), Utc::now()).unwrap();
        let mut half = OpenOptions::new().append(true).open(&file.path).unwrap();
        half.write_all(b"2026-11-25T12:00:00Z local 3 9 0 0303").unwrap();
        assert_eq!(file.last().unwrap().unwrap().number, 2);
        assert_eq!(numbers(&file), [Ok(1), Ok(2)]);
        file.append(&link(4), Utc::now()).unwrap();
        assert_eq!(numbers(&file), [Ok(1), Ok(2), Ok(4)]);
        let last = file.last().unwrap().unwrap();
        assert_eq!((last.mac, last.last), (link(4).mac, link(4).last));
        let other = HeadFile::new(file.path.clone(), "other");
        assert_eq!(
            (other.last().unwrap(), numbers(&other).len()),
            (None, 0),
            "another node's heads are not ours"
        );
    }

    #[test]
    fn a_line_that_is_no_head_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = HeadFile::new(dir.path().join("audit.heads"), "local");
        file.append(&link(1), Utc::now()).unwrap();
        let text = std::fs::read_to_string(&file.path).unwrap();
        let damaged = text.replacen("local 1", "local x", 1);
        std::fs::write(&file.path, format!("{text}{damaged}{text}")).unwrap();
        let found = numbers(&file);
        assert_eq!(found[0], Ok(1));
        assert!(found[1].as_ref().unwrap_err().contains("line 2"), "{found:?}");
    }

    #[test]
    fn a_full_file_is_put_aside_and_both_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = HeadFile::new(dir.path().join("audit.heads"), "local");
        file.append(&link(1), Utc::now()).unwrap();
        std::fs::rename(&file.path, file.aside()).unwrap();
        file.append(&link(2), Utc::now()).unwrap();
        assert_eq!(numbers(&file), [Ok(1), Ok(2)]);
    }
}
