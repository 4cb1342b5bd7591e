//! Cursors and limits of lists. A cursor is opaque to callers: what stands in it may change.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;

use super::answer::Failure;
use crate::api::page::{DEFAULT_PAGE_LIMIT, MAX_PAGE_LIMIT, Page};

/// Where a page begins, and in which list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Which list it belongs to, one letter; a cursor of another list is refused.
    list: char,
    /// The last entry's place on the page before.
    pub(crate) place: i64,
    /// Which of several entries at one place; 0 in lists whose places are unique.
    pub(crate) tie: i64,
}

impl Cursor {
    /// Reads the cursor of a request. `None` for the first page.
    pub(crate) fn read(list: char, text: Option<&str>) -> Result<Option<Self>, Failure> {
        let Some(text) = text else { return Ok(None) };
        let decoded = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let place = decoded.as_deref().and_then(|text| text.strip_prefix(list)).and_then(|text| {
            let (place, tie) = text.split_once('.').unwrap_or((text, "0"));
            Some((place.parse().ok()?, tie.parse().ok()?))
        });
        match place {
            Some((place, tie)) => Ok(Some(Self { list, place, tie })),
            None => Err(Failure::new(
                StatusCode::BAD_REQUEST,
                "invalid_cursor",
                "the cursor is not one of this list",
            )
            .hint("take next_cursor of the page before, with the same other parameters")),
        }
    }

    /// The cursor as it is given to callers.
    pub(crate) fn write(list: char, place: i64) -> String {
        URL_SAFE_NO_PAD.encode(format!("{list}{place}"))
    }

    /// The same in a list where several entries may have one place.
    pub(crate) fn write_with_tie(list: char, place: i64, tie: i64) -> String {
        URL_SAFE_NO_PAD.encode(format!("{list}{place}.{tie}"))
    }
}

/// The place of a cursor as an id of 32 bits, or `otherwise` on the first page.
pub(crate) fn id_or(cursor: Option<Cursor>, otherwise: i32) -> i32 {
    cursor.map_or(otherwise, |cursor| i32::try_from(cursor.place).unwrap_or(otherwise))
}

/// Checks how many entries are wanted.
pub(crate) fn limit(wanted: Option<u32>) -> Result<u32, Failure> {
    match wanted.unwrap_or(DEFAULT_PAGE_LIMIT) {
        count @ 1..=MAX_PAGE_LIMIT => Ok(count),
        other => Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "invalid_query",
            format!("limit is {other}; it must be 1 to {MAX_PAGE_LIMIT}"),
        )),
    }
}

/// A page of `found`, which was asked for with one entry more than `limit`, so that the end is known.
pub(crate) fn page<R, T>(
    list: char,
    mut found: Vec<R>,
    limit: u32,
    place: impl Fn(&R) -> i64,
    convert: impl Fn(R) -> T,
) -> Page<T> {
    let limit = limit as usize;
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| more).map(|last| Cursor::write(list, place(last)));
    Page { items: found.into_iter().map(convert).collect(), next_cursor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_fits_its_own_list_only() {
        let text = Cursor::write('p', 42);
        assert_eq!(Cursor::read('p', Some(&text)).unwrap().unwrap().place, 42);
        assert!(Cursor::read('d', Some(&text)).is_err());
        let tied = Cursor::read('a', Some(&Cursor::write_with_tie('a', 42, 7))).unwrap().unwrap();
        assert_eq!((tied.place, tied.tie), (42, 7));
        assert!(Cursor::read('p', Some("42")).is_err());
        assert!(Cursor::read('p', Some("💥")).is_err());
    }

    #[test]
    fn the_last_page_has_no_cursor() {
        let full = page('p', vec![1i64, 2, 3], 2, |n| *n, |n| n);
        assert_eq!(full.items, [1, 2]);
        assert_eq!(full.next_cursor, Some(Cursor::write('p', 2)));
        assert_eq!(page('p', vec![1i64, 2], 2, |n| *n, |n| n).next_cursor, None);
    }

    #[test]
    fn limits_outside_the_bounds_are_refused() {
        assert!(limit(Some(0)).is_err() && limit(Some(501)).is_err());
        assert_eq!(limit(None).unwrap(), 50);
    }
}
