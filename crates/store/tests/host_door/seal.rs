//! A seal for tests: HMAC-SHA256 with a key that everybody knows.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;
use temps_store::{AuditVerdict, Head, Heads, HostStore, Link, Mac, Seal, Sealing, Verifier};

#[derive(Debug)]
pub(crate) struct TestSeal(pub(crate) &'static str);

struct TestSealing(Hmac<Sha256>);

impl Seal for TestSeal {
    fn key_id(&self) -> &str {
        self.0
    }

    fn begin(&self) -> Box<dyn Sealing> {
        Box::new(TestSealing(Hmac::new_from_slice(self.0.as_bytes()).unwrap()))
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

pub(crate) fn seal() -> Arc<dyn Seal> {
    Arc::new(TestSeal("test"))
}

/// What was written down of a link.
pub(crate) fn head(link: &Link) -> Head {
    Head { at: link.at, number: link.number, last: link.last, mac: link.mac }
}

/// Verifies the whole trail, a few links at a time.
pub(crate) async fn verify(store: &dyn HostStore, heads: Vec<Head>) -> AuditVerdict {
    verify_with(seal(), store, heads).await
}

pub(crate) async fn verify_with(
    seal: Arc<dyn Seal>,
    store: &dyn HostStore,
    heads: Vec<Head>,
) -> AuditVerdict {
    let heads: Heads = Box::new(heads.into_iter().map(Ok));
    let mut verifier = Verifier::new(seal.clone(), store.audit_node(), heads);
    loop {
        let page = store.audit_chain(seal.clone(), verifier.place(), 3).await.unwrap();
        if verifier.take(&page) {
            return verifier.verdict().clone();
        }
    }
}
