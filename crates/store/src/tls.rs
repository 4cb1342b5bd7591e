//! How a connection to a PostgreSQL server is encrypted: what `sslmode` and `sslrootcert` of its URL mean, as PostgreSQL's
//! own programs mean them. The store's own connections and those for plugins' databases both come here.
//!
//! `disable` never encrypts; `prefer` encrypts where the server can; `require` always encrypts, and checks the server's
//! certificate only when a root certificate is given; `verify-ca` checks the certificate's issuer, and `verify-full` its
//! name too, against the given root certificate or those of the system. `sslrootcert=system` names the latter, and goes
//! with `verify-full` alone: everybody can have a certificate of theirs for some name.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode;

/// How much of the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Nothing,
    Issuer,
    Everything,
}

/// The word for the certificates of the system, where a file could stand.
const OF_THE_SYSTEM: &str = "system";

/// What a URL says of encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encryption {
    /// Whether a connection may, or must, be encrypted.
    pub(crate) mode: SslMode,
    check: Check,
    roots: Option<PathBuf>,
}

/// The parameters of a URL that are about encryption, as they stand there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    sslmode: Option<String>,
    sslrootcert: Option<String>,
}

/// What is wrong with them. It says nothing else of the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadEncryption(String);

impl Parameters {
    /// Takes them out of a URL: the library knows fewer values than users of PostgreSQL do.
    pub(crate) fn take(url: &str) -> (String, Self) {
        let mut this = Self::default();
        let Some((base, query)) = url.split_once('?') else { return (url.to_owned(), this) };
        let decoded =
            |value: &str| percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned();
        let mut rest = Vec::new();
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some(("sslmode", value)) => this.sslmode = Some(decoded(value)),
                Some(("sslrootcert", value)) => this.sslrootcert = Some(decoded(value)),
                _ => rest.push(pair),
            }
        }
        let plain = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        (plain, this)
    }

    /// What they mean; `default` is the `sslmode` where none is given.
    pub(crate) fn read(&self, default: &str) -> Result<Encryption, BadEncryption> {
        let of_the_system = self.sslrootcert.as_deref() == Some(OF_THE_SYSTEM);
        let default = if of_the_system { "verify-full" } else { default };
        let roots = self.sslrootcert.as_ref().filter(|_| !of_the_system).map(PathBuf::from);
        let (mode, check) = match self.sslmode.as_deref().unwrap_or(default) {
            "disable" => (SslMode::Disable, Check::Nothing),
            "prefer" | "allow" => (SslMode::Prefer, Check::Nothing),
            "require" if roots.is_some() => (SslMode::Require, Check::Issuer),
            "require" => (SslMode::Require, Check::Nothing),
            "verify-ca" => (SslMode::Require, Check::Issuer),
            "verify-full" => (SslMode::Require, Check::Everything),
            _ => {
                let known = "sslmode must be disable, prefer, require, verify-ca or verify-full";
                return Err(BadEncryption(known.to_owned()));
            }
        };
        if of_the_system && check != Check::Everything {
            return Err(BadEncryption("sslrootcert=system goes with sslmode=verify-full only".to_owned()));
        }
        Ok(Encryption { mode, check, roots })
    }
}

impl Encryption {
    /// What encrypts a connection. Files and the system's certificates are read now, once.
    pub(crate) fn client(&self) -> Result<ClientConfig, BadEncryption> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let verifier: Arc<dyn ServerCertVerifier> = match self.check {
            Check::Nothing => Arc::new(Lenient { issuer: None, algorithms }),
            Check::Issuer => Arc::new(Lenient { issuer: Some(self.verifier(&provider)?), algorithms }),
            Check::Everything => self.verifier(&provider)?,
        };
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| BadEncryption(error.to_string()))?;
        Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, BadEncryption> {
        let mut roots = RootCertStore::empty();
        match &self.roots {
            Some(file) => add_file(&mut roots, file)?,
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            let none = "there is no root certificate to check the server's against; install ca-certificates, or name a \
                        file with sslrootcert";
            return Err(BadEncryption(none.to_owned()));
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| BadEncryption(error.to_string()))
    }
}

fn add_file(roots: &mut RootCertStore, file: &Path) -> Result<(), BadEncryption> {
    let unusable = |error: &dyn fmt::Display| {
        BadEncryption(format!("sslrootcert {} cannot be used: {error}", file.display()))
    };
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unusable(&error))? {
        roots.add(certificate.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
    }
    Ok(())
}

/// Believes more than the library's own verifier does. Without an issuer it is `require`: against eavesdroppers, not against a
/// server that pretends, which is what users of PostgreSQL expect of the word. With one it is `verify-ca`: everything but
/// the name.
#[derive(Debug)]
struct Lenient {
    issuer: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(issuer) = &self.issuer else { return Ok(ServerCertVerified::assertion()) };
        match issuer.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // The name is looked at last, so all else was found good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Encryption, BadEncryption> {
        Parameters::take(url).1.read("prefer")
    }

    #[test]
    fn sslmode_means_what_it_means_to_the_programs_of_postgresql() {
        let said = |query: &str| {
            let read = read(&format!("postgres://temps@db/temps{query}")).unwrap();
            (read.mode, read.check, read.roots.is_some())
        };
        assert_eq!(said(""), (SslMode::Prefer, Check::Nothing, false));
        assert_eq!(said("?sslmode=disable"), (SslMode::Disable, Check::Nothing, false));
        assert_eq!(said("?sslmode=require"), (SslMode::Require, Check::Nothing, false));
        assert_eq!(said("?sslmode=require&sslrootcert=%2Fx.pem"), (SslMode::Require, Check::Issuer, true));
        assert_eq!(said("?sslrootcert=/x.pem&sslmode=verify-ca"), (SslMode::Require, Check::Issuer, true));
        assert_eq!(said("?sslmode=verify-full"), (SslMode::Require, Check::Everything, false));
        assert_eq!(said("?sslrootcert=system"), (SslMode::Require, Check::Everything, false));
        for wrong in ["?sslmode=yes", "?sslmode=", "?sslmode=require&sslrootcert=system"] {
            assert!(read(&format!("postgres://temps@db/temps{wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_about_encryption_stays_in_the_url() {
        let (plain, parameters) =
            Parameters::take("postgres://u@h/d?a=1&sslmode=require&b=2&sslrootcert=%2Fa%20b");
        assert_eq!(plain, "postgres://u@h/d?a=1&b=2");
        assert_eq!(parameters.sslrootcert.as_deref(), Some("/a b"));
        assert_eq!(Parameters::take("postgres://u@h/d?sslmode=require").0, "postgres://u@h/d");
    }

    #[test]
    fn a_file_that_holds_no_root_certificate_is_refused_by_its_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let empty = format!("postgres://u@h/d?sslmode=verify-full&sslrootcert={}", file.path().display());
        assert!(read(&empty).unwrap().client().unwrap_err().to_string().contains("no root certificate"));
        let missing = read("postgres://u@h/d?sslmode=verify-ca&sslrootcert=/nowhere.pem").unwrap();
        assert!(missing.client().unwrap_err().to_string().contains("/nowhere.pem"));
    }
}
