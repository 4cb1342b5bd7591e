//! Reads the documentation: its code blocks and its links. It judges nothing; the tests do.
//!
//! A block's first line tells what a test does with it. ` ```sh run ` is executed, with the blocks of its page before it in
//! one shell. ` ```rust file=PATH ` stands in the file at PATH exactly so. Every other block is only shown.

use std::path::{Path, PathBuf};

/// One page of the documentation.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its place in the checkout.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// One code block of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Line of the page at which it begins, counted from 1.
    pub line: usize,
    /// Its language, for example `sh`.
    pub language: String,
    /// The further words of its first line.
    pub flags: Vec<String>,
    /// What it holds.
    pub body: String,
}

impl Block {
    /// Whether it is to be executed.
    #[must_use]
    pub fn is_run(&self) -> bool {
        self.language == "sh" && self.flags.iter().any(|flag| flag == "run")
    }

    /// The file that it is taken from, if it names one.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.flags.iter().find_map(|flag| flag.strip_prefix("file="))
    }
}

/// All pages: Markdown files at the top of the checkout, in `docs` and in `spec`.
///
/// # Errors
/// What the file system says.
pub fn pages(checkout: &Path) -> std::io::Result<Vec<Page>> {
    let mut pages = Vec::new();
    let mut folders = vec![checkout.join("docs"), checkout.join("spec")];
    pages.extend(markdown_in(checkout)?);
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        pages.extend(markdown_in(&folder)?);
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    pages.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(pages)
}

fn markdown_in(folder: &Path) -> std::io::Result<Vec<Page>> {
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(Page { text: std::fs::read_to_string(&path)?, path });
        }
    }
    Ok(pages)
}

/// The code blocks of a page, in order.
#[must_use]
pub fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (at, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(first)) => {
                let mut words = first.split_whitespace().map(str::to_owned);
                let language = words.next().unwrap_or_default();
                open = Some(Block { line: at + 1, language, flags: words.collect(), body: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.body.push_str(line);
                block.body.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks.extend(open);
    blocks
}

/// The targets of a page's links, with their lines; those inside code blocks are not links.
#[must_use]
pub fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut in_block = false;
    for (at, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            in_block = !in_block;
        }
        if in_block {
            continue;
        }
        for (begin, _) in line.match_indices("](") {
            let rest = &line[begin + 2..];
            if let Some(end) = rest.find(')') {
                links.push((at + 1, rest[..end].to_owned()));
            }
        }
    }
    links
}

/// The anchors of a page's headings, as they are made from their text.
#[must_use]
pub fn anchors(text: &str) -> Vec<String> {
    let mut in_block = false;
    let mut anchors = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if !in_block && line.starts_with('#') {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            anchors.push(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# A page, of sorts\n\n[a](b.md#c) and [d](https://x)\n\n```sh run\ntemps plugin list # [no](link)\n```\n\n```rust file=a/b.rs\nfn main() {}\n```\n";

    #[test]
    fn blocks_are_found_with_what_is_to_be_done() {
        let blocks = blocks(PAGE);
        assert_eq!(blocks.len(), 2);
        assert!(blocks[0].is_run() && blocks[0].line == 5);
        assert_eq!(blocks[0].body, "temps plugin list # [no](link)\n");
        assert_eq!(blocks[1].file(), Some("a/b.rs"));
    }

    #[test]
    fn links_and_anchors_are_found_outside_of_blocks() {
        assert_eq!(links(PAGE), [(3, "b.md#c".to_owned()), (3, "https://x".to_owned())]);
        assert_eq!(anchors(PAGE), ["a-page-of-sorts"]);
    }
}
