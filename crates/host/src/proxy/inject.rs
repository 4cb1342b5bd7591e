//! Puts the bridge script into a plugin's page, in front of every other script, while the page streams through.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::path::PREFIX;

/// How much of a page is held back to find the place, in bytes. `<head>` stands in the first hundred of nearly all.
const MAX_LOOKING: usize = 64 * 1024;

/// Whether the bridge goes into this response.
pub(super) fn applies<B: Body>(response: &Response<B>) -> bool {
    let text =
        |name| response.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or_default();
    let kind = text(header::CONTENT_TYPE).to_ascii_lowercase();
    let encoding = text(header::CONTENT_ENCODING);
    kind.split(';').next().is_some_and(|kind| kind.trim() == "text/html")
        && !kind.contains("utf-16")
        && (encoding.is_empty() || encoding.eq_ignore_ascii_case("identity"))
        && response.status() != StatusCode::PARTIAL_CONTENT
        && !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        && response.headers().get(header::CONTENT_LENGTH).is_none_or(|length| length != "0")
}

/// The tag that loads the bridge.
pub(super) fn tag(plugin: &str) -> Bytes {
    Bytes::from(format!("<script src=\"{PREFIX}{plugin}/_temps/bridge.js\"></script>"))
}

/// Makes the headers of a response true for the page with the tag in it.
pub(super) fn adjust(headers: &mut HeaderMap, tag: &Bytes) {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length + tag.len() as u64));
    }
    for name in ["accept-ranges", "content-md5", "digest", "content-digest", "repr-digest"] {
        headers.remove(name);
    }
}

/// A page with the tag in it.
#[derive(Debug)]
pub(super) struct WithTag<B> {
    inner: B,
    tag: Bytes,
    looking: Option<BytesMut>,
}

impl<B> WithTag<B> {
    pub(super) fn new(inner: B, tag: Bytes) -> Self {
        Self { inner, tag, looking: Some(BytesMut::new()) }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for WithTag<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        loop {
            let Some(held) = &mut this.looking else { return Pin::new(&mut this.inner).poll_frame(cx) };
            let complete = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        held.extend_from_slice(&data);
                    }
                    held.len() >= MAX_LOOKING
                }
                None if held.is_empty() => return Poll::Ready(None),
                None => true,
            };
            if let Some(at) = place_for_tag(held, complete) {
                let mut page = BytesMut::with_capacity(held.len() + this.tag.len());
                page.extend_from_slice(&held[..at]);
                page.extend_from_slice(&this.tag);
                page.extend_from_slice(&held[at..]);
                this.looking = None;
                return Poll::Ready(Some(Ok(Frame::data(page.freeze()))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.looking.as_ref().is_none_or(BytesMut::is_empty) && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.looking, self.inner.size_hint().exact()) {
            (None, _) => self.inner.size_hint(),
            (Some(held), Some(left)) if left + held.len() as u64 > 0 => {
                SizeHint::with_exact(left + (held.len() + self.tag.len()) as u64)
            }
            _ => SizeHint::default(),
        }
    }
}

/// Where a script runs before every other and disturbs nothing: right behind `<head>`, or, when the page leaves that tag
/// out, where a parser would put it. `None` when more of the page is needed to tell, which a complete one never is.
fn place_for_tag(page: &[u8], complete: bool) -> Option<usize> {
    let mut at = if page.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
    let mut safe = at;
    loop {
        while page.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        let rest = &page[at..];
        // Six bytes tell `<head>` from `<header>`.
        if rest.len() < 6 && !complete {
            return None;
        }
        let end = if rest.starts_with(b"<!--") {
            comment_end(rest)
        } else if rest.starts_with(b"<!") || rest.starts_with(b"<?") {
            rest.iter().position(|byte| *byte == b'>').map(|end| end + 1)
        } else if is_tag(rest, b"html") || is_tag(rest, b"head") {
            tag_end(rest)
        } else {
            return Some(safe);
        };
        let Some(end) = end else { return complete.then_some(safe) };
        at += end;
        safe = at;
        if is_tag(rest, b"head") {
            return Some(safe);
        }
    }
}

fn is_tag(rest: &[u8], name: &[u8; 4]) -> bool {
    rest.first() == Some(&b'<')
        && rest.get(1..5).is_some_and(|found| found.eq_ignore_ascii_case(name))
        && rest.get(5).is_some_and(|next| next.is_ascii_whitespace() || matches!(next, b'>' | b'/'))
}

/// The end of a tag; a `>` inside a quoted value is not one.
fn tag_end(rest: &[u8]) -> Option<usize> {
    let mut quote = None;
    for (index, byte) in rest.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(index + 1),
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    None
}

fn comment_end(rest: &[u8]) -> Option<usize> {
    if rest.starts_with(b"<!-->") {
        return Some(5);
    }
    let find =
        |end: &[u8]| rest.get(4..)?.windows(end.len()).position(|w| w == end).map(|at| 4 + at + end.len());
    match (find(b"-->"), find(b"--!>")) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};
    use proptest::prelude::*;

    fn with_tag(page: &str) -> String {
        let at = place_for_tag(page.as_bytes(), true).unwrap();
        format!("{}#{}", &page[..at], &page[at..])
    }

    #[test]
    fn the_script_comes_first_and_the_doctype_stays_in_front() {
        for expected in [
            "<!doctype html><html><head>#<title>",
            "<!DOCTYPE html>\n<!-- <head> -->\n<html lang=\"a>b\" data-x='\">'>\n<HEAD class=x>#<script>",
            "<!doctype html>#<script src=a></script>",
            "<!doctype html><html>#<body>",
            "<!doctype html>#<header>x",
            "<html>#",
            "#hello",
            "",
            "\u{feff}<!doctype html><head>#",
            "<!doctype html>#<!-- a comment without end <head>",
            "<!--><head>#",
            "<!---><head>-->#",
            "<!doctype html>#<h",
        ] {
            let page = expected.replace('#', "");
            let expected = if expected.is_empty() { "#" } else { expected };
            assert_eq!(with_tag(&page), expected);
        }
    }

    proptest! {
        #[test]
        fn the_page_is_the_same_however_it_is_cut_into_frames(
            page in "(<!doctype html>)?( |\n|<!-- x -->)?(<html a='>'>)?(<head>|<header>)?[a-z<> ]{0,20}",
            cuts in proptest::collection::vec(1usize..8, 0..40),
        ) {
            let mut frames = Vec::new();
            let mut rest = page.as_bytes();
            for cut in cuts {
                let (frame, left) = rest.split_at(cut.min(rest.len()));
                if !frame.is_empty() {
                    frames.push(Ok::<_, std::convert::Infallible>(Frame::data(Bytes::copy_from_slice(frame))));
                }
                rest = left;
            }
            if !rest.is_empty() {
                frames.push(Ok(Frame::data(Bytes::copy_from_slice(rest))));
            }
            let body = WithTag::new(StreamBody::new(futures_util::stream::iter(frames)), Bytes::from_static(b"#"));
            let collected = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(body.collect()).unwrap();
            let expected = if page.is_empty() { String::new() } else { with_tag(&page) };
            prop_assert_eq!(String::from_utf8(collected.to_bytes().to_vec()).unwrap(), expected);
        }
    }
}
