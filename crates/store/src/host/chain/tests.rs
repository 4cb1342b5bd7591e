//! The chain function as a whole: what was built verifies however it is cut into pages, and what was changed does not.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac as _};
use proptest::prelude::*;
use sha2::Sha256;

use super::*;

#[derive(Debug)]
struct TestSeal;

struct TestSealing(Hmac<Sha256>);

impl Seal for TestSeal {
    fn key_id(&self) -> &str {
        "test"
    }

    fn begin(&self) -> Box<dyn Sealing> {
        Box::new(TestSealing(Hmac::new_from_slice(b"test").unwrap()))
    }
}

impl Sealing for TestSealing {
    fn feed(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self: Box<Self>) -> Mac {
        Mac(self.0.finalize().into_bytes().into())
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Null,
    Integer(i64),
    Text(String),
}

type Row = Vec<Value>;

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let value = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        // Bytes that the encoding itself uses are the likely ones to be confused.
        "[binrow\\x00-\\x09]{0,6}".prop_map(Value::Text),
    ];
    prop::collection::vec(prop::collection::vec(value, 0..4), 0..4)
}

fn digest(part: Part, rows: &[Row]) -> Rows {
    let mut digest = RowsDigest::begin(&TestSeal, part);
    for row in rows {
        digest.row(row.iter().map(|value| match value {
            Value::Null => Cell::Null,
            Value::Integer(number) => Cell::Integer(*number),
            Value::Text(text) => Cell::Bytes(text.as_bytes()),
        }));
    }
    digest.finish()
}

/// A chain over these commits, as it is found when nobody touched it.
fn chain(commits: &[(Vec<Row>, Vec<Row>)]) -> Vec<FoundLink> {
    let none = Parts { records: digest(Part::Records, &[]), attempts: digest(Part::Attempts, &[]) };
    let mut link = first_link(&TestSeal, "n", Utc::now(), Parts::default(), Parts::default());
    let mut chain = vec![FoundLink { link: link.clone(), found: none }];
    for (records, attempts) in commits {
        let rows =
            Parts { records: digest(Part::Records, records), attempts: digest(Part::Attempts, attempts) };
        let last = Parts {
            records: link.last.records + rows.records.count,
            attempts: link.last.attempts + rows.attempts.count,
        };
        link = next_link(&TestSeal, "n", &link, Utc::now(), last, rows);
        chain.push(FoundLink { link: link.clone(), found: rows });
    }
    chain
}

fn verify(chain: &[FoundLink], page_size: usize) -> AuditVerdict {
    let mut verifier = Verifier::new(Arc::new(TestSeal), "n", Box::new(std::iter::empty()));
    let pages: Vec<_> = chain.chunks(page_size).collect();
    for (at, links) in pages.iter().enumerate() {
        let after = (at + 1 == pages.len()).then(Parts::default);
        let over = verifier.take(&ChainPage { cut: None, links: links.to_vec(), after });
        assert_eq!(over, after.is_some() || verifier.verdict().wrong.is_some());
        if over {
            break;
        }
    }
    verifier.verdict().clone()
}

proptest! {
    #[test]
    fn two_lists_of_rows_have_one_digest_only_when_they_are_the_same(a in rows(), b in rows()) {
        prop_assert_eq!(digest(Part::Records, &a) == digest(Part::Records, &b), a == b);
        prop_assert_ne!(digest(Part::Records, &a).digest, digest(Part::Attempts, &a).digest);
    }

    #[test]
    fn what_was_built_verifies_however_it_is_cut_into_pages(
        commits in prop::collection::vec((rows(), rows()), 0..8),
        page_size in 1_usize..5,
    ) {
        let chain = chain(&commits);
        let verdict = verify(&chain, page_size);
        prop_assert_eq!(&verdict.wrong, &None);
        prop_assert_eq!(verdict.links, chain.len() as u64);
    }

    #[test]
    fn a_chain_in_which_anything_was_changed_does_not_verify(
        commits in prop::collection::vec((rows(), rows()), 2..8),
        at in any::<prop::sample::Index>(),
        how in 0_u8..12,
        page_size in 1_usize..5,
    ) {
        let mut chain = chain(&commits);
        let at = at.index(chain.len() - 1) + 1;
        match how {
            0 => chain[at].link.number += 1,
            1 => chain[at].link.at += chrono::Duration::microseconds(1),
            2 => chain[at].link.key_id.push('x'),
            3 => chain[at].link.last.records += 1,
            4 => chain[at].link.last.attempts -= 1,
            5 => chain[at].link.rows.records.count += 1,
            6 => chain[at].link.rows.attempts.digest.0[31] ^= 1,
            7 => chain[at].link.mac.0[0] ^= 128,
            8 => chain[at].found.records.count += 1,
            9 => chain[at].found.attempts.digest.0[0] ^= 1,
            10 => {
                // The last one may be missing without a trace in here: that is what heads are for.
                prop_assume!(at + 1 < chain.len());
                chain.remove(at);
            }
            _ => {
                let before = at - 1;
                chain.swap(before, at);
            }
        }
        prop_assert!(verify(&chain, page_size).wrong.is_some());
    }
}

#[test]
fn a_digest_in_hexadecimal_comes_back() {
    let mac = digest(Part::Records, &[vec![Value::Integer(7)]]).digest;
    assert_eq!(Mac::from_hex(&mac.to_hex()), Some(mac));
    for wrong in ["", "12", &"x".repeat(64), &"é".repeat(32)] {
        assert_eq!(Mac::from_hex(wrong), None, "{wrong:?}");
    }
}
