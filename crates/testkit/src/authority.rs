//! A certificate authority of a test's own: it issues certificates for servers, and its root certificate is a file that a
//! client can be told to trust. Nobody else trusts it, and it is gone with the test.

use std::io::Write;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority with its root certificate in a file.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: tempfile::NamedTempFile,
}

/// A server's certificate and its key, both as PEM.
#[derive(Clone)]
pub struct Certificate {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Authority {
    /// An authority with a new key.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "two authorities are never the same one")]
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::new(Vec::new()).expect("no name is no wrong name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of a test");
        let certificate = params.self_signed(&key).expect("the root can be signed");
        let mut root = tempfile::NamedTempFile::new().expect("a file can be made");
        root.write_all(certificate.pem().as_bytes()).expect("the root can be written");
        Self { issuer: Issuer::new(params, key), root }
    }

    /// The file with the root certificate.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A certificate for a server of this name, which may be an address.
    #[must_use]
    pub fn issue(&self, name: &str) -> Certificate {
        let key = KeyPair::generate().expect("a key can be made");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("it is a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("the certificate can be signed");
        Certificate { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}
