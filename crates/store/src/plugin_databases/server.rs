//! Where the server is, who the administrator is, and how a connection to it is opened.
//!
//! The URL holds a password, so nothing here shows it: not an error, not `Debug`.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::{Host, SslMode};
use tokio_rustls::TlsConnector;

use crate::tls::{BadEncryption, Parameters};

/// How long one connection may take to open, TLS among it. A server that is there answers in far less.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest URL in bytes; more is no URL.
const MAX_URL: usize = 4096;

/// PostgreSQL's port where the URL names none.
const DEFAULT_PORT: u16 = 5432;

/// What a client sends to ask for TLS: the length, and a code that no version of the protocol has.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What bytes can go both ways over.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection to the server, encrypted or not.
pub type Stream = Box<dyn Transport>;

/// A server and its administrator. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    pub(super) admin: tokio_postgres::Config,
    target: Target,
    /// `None` where nothing is encrypted.
    tls: Option<Tls>,
}

#[derive(Clone)]
struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    /// Whether a server that takes no TLS is refused.
    required: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// Why a URL is not usable. It does not repeat the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(String);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The server is not there, or its certificate is not what it should be.
    #[error("the database server at {place} cannot be reached: {source}")]
    Failed {
        /// Where it was looked for.
        place: String,
        /// What the system said.
        source: io::Error,
    },
    /// It takes no TLS.
    #[error(
        "the database server at {0} takes no TLS; turn it on there, or say sslmode=disable if the way to it is safe"
    )]
    NoTls(String),
    /// It did not answer.
    #[error("the database server at {place} did not answer within {} s", DIAL_TIMEOUT.as_secs())]
    Timeout {
        /// Where it was looked for.
        place: String,
    },
}

impl Server {
    /// Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, or `postgres:///DATABASE?user=…&host=/directory` for a Unix socket.
    /// The database (by default `postgres`) is where the administrator connects to.
    ///
    /// `sslmode` and `sslrootcert` mean what they mean to PostgreSQL's own programs. Without `sslmode`, a server on another
    /// machine is `verify-full`, because the administrator's password goes there, and one on this machine is `disable`.
    /// Over a Unix socket nothing is encrypted.
    ///
    /// # Errors
    /// What is wrong with it, without repeating it.
    pub fn parse(url: &str) -> Result<Self, ServerError> {
        let wrong = |what: &str| ServerError(what.to_owned());
        if url.len() > MAX_URL {
            return Err(wrong("it is longer than 4096 bytes"));
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(wrong(
                "it must begin with postgres://, for example postgres://admin:secret@db.example.com/",
            ));
        }
        let (url, parameters) = Parameters::take(url);
        let mut admin: tokio_postgres::Config = url
            .parse()
            .map_err(|_| wrong("it is not a PostgreSQL URL like postgres://admin:secret@db.example.com/"))?;
        if admin.get_user().is_none_or(str::is_empty) {
            return Err(wrong("it names no user; name one that may make databases and roles"));
        }
        if admin.get_dbname().is_none_or(str::is_empty) {
            admin.dbname("postgres");
        }
        let port = admin.get_ports().first().copied().unwrap_or(DEFAULT_PORT);
        let target = match admin.get_hosts() {
            [Host::Tcp(host)] => Target::Tcp { host: host.clone(), port },
            [Host::Unix(directory)] => Target::Unix(directory.join(format!(".s.PGSQL.{port}"))),
            [] => return Err(wrong("it names no server")),
            _ => return Err(wrong("it names more than one server; name the one that takes writes")),
        };
        let encryption = parameters.read(if target.is_local() { "disable" } else { "verify-full" })?;
        let tls = match (&target, encryption.mode) {
            (_, SslMode::Disable) | (Target::Unix(_), SslMode::Prefer) => None,
            (Target::Unix(_), _) => return Err(wrong("a Unix socket is not encrypted; leave sslmode out")),
            (Target::Tcp { host, .. }, mode) => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| wrong("its host is not a name that a certificate could have"))?;
                let connector = TlsConnector::from(Arc::new(encryption.client()?));
                Some(Tls { connector, name, required: mode == SslMode::Require })
            }
        };
        admin.application_name("temps");
        // The stream is encrypted, where it is, before the library sees it.
        admin.ssl_mode(SslMode::Disable);
        Ok(Self { admin, target, tls })
    }

    /// Where the server is, for people. Never a credential.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.target {
            Target::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Target::Tcp { host, port } => format!("{host}:{port}"),
            Target::Unix(path) => path.display().to_string(),
        }
    }

    /// Opens a connection, on which nothing has been said yet.
    ///
    /// # Errors
    /// [`DialError`], after 3 s at the latest.
    pub async fn dial(&self) -> Result<Stream, DialError> {
        let dialled = tokio::time::timeout(DIAL_TIMEOUT, self.open()).await;
        dialled.unwrap_or_else(|_| Err(DialError::Timeout { place: self.place() }))
    }

    async fn open(&self) -> Result<Stream, DialError> {
        let failed = |source: io::Error| DialError::Failed { place: self.place(), source };
        let (host, port) = match &self.target {
            Target::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await.map_err(failed)?)),
            Target::Tcp { host, port } => (host.as_str(), *port),
        };
        let mut tcp = TcpStream::connect((host, port)).await.map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(tcp)) };
        tcp.write_all(&TLS_REQUEST).await.map_err(failed)?;
        match tcp.read_u8().await.map_err(failed)? {
            b'S' => Ok(Box::new(tls.connector.connect(tls.name.clone(), tcp).await.map_err(failed)?)),
            b'N' if !tls.required => Ok(Box::new(tcp)),
            _ => Err(DialError::NoTls(self.place())),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("place", &self.place()).finish_non_exhaustive()
    }
}

impl Target {
    fn is_local(&self) -> bool {
        match self {
            Target::Unix(_) => true,
            Target::Tcp { host, .. } => {
                host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
            }
        }
    }
}

impl From<BadEncryption> for ServerError {
    fn from(error: BadEncryption) -> Self {
        Self(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_the_server_is_and_whether_the_way_is_encrypted() {
        for (url, place, encrypted) in [
            ("postgres://admin:hunter2@127.0.0.1:6000/", "127.0.0.1:6000", false),
            ("postgres://admin:hunter2@localhost/x", "localhost:5432", false),
            (
                "postgresql:///postgres?user=admin&host=/run/postgresql",
                "/run/postgresql/.s.PGSQL.5432",
                false,
            ),
            ("postgres://admin:hunter2@10.0.0.1/?sslmode=disable", "10.0.0.1:5432", false),
            ("postgres://admin:hunter2@10.0.0.1/?sslmode=prefer", "10.0.0.1:5432", true),
            ("postgres://admin:hunter2@127.0.0.1/?sslmode=require", "127.0.0.1:5432", true),
        ] {
            let server = Server::parse(url).unwrap();
            assert_eq!((server.place().as_str(), server.tls.is_some()), (place, encrypted), "{url}");
        }
        let pem = tempfile::NamedTempFile::new().unwrap();
        let url = format!("postgres://admin:hunter2@10.0.0.1/?sslrootcert={}", pem.path().display());
        assert!(Server::parse(&url).unwrap_err().to_string().contains("root certificate"));
    }

    #[test]
    fn a_wrong_url_is_explained_and_its_password_never_shown() {
        for url in [
            "mysql://admin:hunter2@h/",
            "postgres://:hunter2@h/",
            "postgres://admin:hunter2@a,b/",
            "postgres://admin:hunter2@/",
            "postgres://admin:hunter2@h/?sslmode=maybe",
            "postgres:///postgres?user=admin&password=hunter2&host=/run/postgresql&sslmode=require",
            "postgres://admin:hunter2@h/?nonsense=1",
        ] {
            let error = Server::parse(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}: {error}");
        }
        let server = Server::parse("postgres://admin:hunter2@localhost/").unwrap();
        assert!(!format!("{server:?}").contains("hunter2"));
    }
}
