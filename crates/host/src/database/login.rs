//! Opening a session with the real server: the relay says who it is, proves it, and takes down the server's greeting.
//!
//! The password stays here. What the client gets to see begins where the server has let the role in.

use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use temps_store::plugin_databases::{DialError, Server, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::startup::CancelKey;
use crate::secrets::Secret;

/// How long the server may take to let the role in, after it was reached.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest message of the server before a session is open, in bytes. Its greeting has some hundred.
const MAX_MESSAGE: usize = 64 * 1024;

/// Most messages before a session is open.
const MAX_MESSAGES: usize = 200;

/// An open session.
pub(crate) struct Session {
    pub(super) stream: Stream,
    /// What the server said from letting the role in until it was ready, as it said it.
    pub(super) greeting: Vec<u8>,
    /// What cancels a statement of this session.
    pub(super) key: Option<CancelKey>,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("{0}")]
    Dial(DialError),
    /// The server said no.
    #[error("the database server refused the plugin's role: {message}")]
    Refused { code: String, message: String },
    /// The server wants a proof that is not given.
    #[error(
        "the database server wants the plugin's role to prove itself in a way other than scram-sha-256; see its pg_hba.conf"
    )]
    Method,
    #[error("the database server does not follow the protocol: {0}")]
    Protocol(String),
    #[error("the database server did not let the plugin's role in within {} s", LOGIN_TIMEOUT.as_secs())]
    Timeout,
}

impl LoginError {
    /// Whether making the role and the database anew may help: they are gone, or the password is another.
    pub(super) fn is_about_the_role(&self) -> bool {
        // No such password, no such role, no such database, not allowed to connect.
        matches!(self, LoginError::Refused { code, .. }
            if ["28P01", "28000", "3D000", "42501"].contains(&code.as_str()))
    }

    /// Whether the server is there and well, and has only no room for more sessions of the role.
    pub(super) fn is_about_room(&self) -> bool {
        matches!(self, LoginError::Refused { code, .. } if code == "53300")
    }
}

/// Opens a session of the role `name` in the database `name`.
pub(super) async fn login(
    server: &Server,
    name: &str,
    password: &Secret,
    settings: &[(String, String)],
) -> Result<Session, LoginError> {
    let stream = server.dial().await.map_err(LoginError::Dial)?;
    let mut login = Login { stream, scram: None };
    let opened = tokio::time::timeout(LOGIN_TIMEOUT, login.run(name, password, settings)).await;
    let (greeting, key) = opened.map_err(|_| LoginError::Timeout)??;
    Ok(Session { stream: login.stream, greeting, key })
}

/// Asks the server to cancel what a session is doing. It answers nothing, whatever it does.
pub(super) async fn cancel(server: &Server, key: CancelKey) -> Result<(), LoginError> {
    let mut stream = server.dial().await.map_err(LoginError::Dial)?;
    let mut request = BytesMut::new();
    frontend::cancel_request(key.process, key.secret, &mut request);
    let sent = async {
        stream.write_all(&request).await?;
        // The server closes once it has passed the request on.
        stream.read_u8().await.map(drop)
    };
    let _ = tokio::time::timeout(LOGIN_TIMEOUT, sent).await.map_err(|_| LoginError::Timeout)?;
    Ok(())
}

struct Login {
    stream: Stream,
    scram: Option<ScramSha256>,
}

type Greeting = (Vec<u8>, Option<CancelKey>);

impl Login {
    async fn run(
        &mut self,
        name: &str,
        password: &Secret,
        settings: &[(String, String)],
    ) -> Result<Greeting, LoginError> {
        let own = [("user", name), ("database", name)];
        let settings = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut first = BytesMut::new();
        frontend::startup_message(own.into_iter().chain(settings), &mut first).map_err(broken)?;
        self.send(&first).await?;
        let (mut greeting, mut key, mut is_in) = (Vec::new(), None, false);
        for _ in 0..MAX_MESSAGES {
            let (kind, body) = self.receive().await?;
            match kind {
                b'R' if !is_in => is_in = self.prove(&body, password).await?,
                b'E' => return Err(refused(&body)),
                b'K' => key = cancel_key(&body),
                _ => {}
            }
            if is_in {
                greeting.push(kind);
                // Bounded by MAX_MESSAGE, so it fits.
                greeting.extend(u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes());
                greeting.extend(body);
            }
            if kind == b'Z' {
                return Ok((greeting, key));
            }
        }
        Err(LoginError::Protocol("it says too much before it is ready".into()))
    }

    /// One step of proving who we are; `true` once we are in.
    async fn prove(&mut self, body: &[u8], password: &Secret) -> Result<bool, LoginError> {
        let (kind, rest) = body.split_first_chunk::<4>().ok_or(LoginError::Method)?;
        let mut answer = BytesMut::new();
        match (u32::from_be_bytes(*kind), self.scram.as_mut()) {
            (0, _) => return Ok(true),
            (10, None) => {
                let offered = rest.split(|byte| *byte == 0).any(|word| word == SCRAM_SHA_256.as_bytes());
                if !offered {
                    return Err(LoginError::Method);
                }
                let scram = ScramSha256::new(password.expose().as_bytes(), ChannelBinding::unsupported());
                frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut answer)
                    .map_err(broken)?;
                self.scram = Some(scram);
            }
            (11, Some(scram)) => {
                scram.update(rest).map_err(broken)?;
                frontend::sasl_response(scram.message(), &mut answer).map_err(broken)?;
            }
            // The server proves that it knows the password too: nobody stands between.
            (12, Some(scram)) => {
                scram.finish(rest).map_err(broken)?;
                return Ok(false);
            }
            _ => return Err(LoginError::Method),
        }
        self.send(&answer).await?;
        Ok(false)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), LoginError> {
        self.stream.write_all(bytes).await.map_err(broken)?;
        self.stream.flush().await.map_err(broken)
    }

    async fn receive(&mut self) -> Result<(u8, Vec<u8>), LoginError> {
        let kind = self.stream.read_u8().await.map_err(broken)?;
        let length = self.stream.read_u32().await.map_err(broken)? as usize;
        if !(4..=MAX_MESSAGE).contains(&length) {
            return Err(LoginError::Protocol("a message has an impossible length".into()));
        }
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).await.map_err(broken)?;
        Ok((kind, body))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is used with map_err")]
fn broken(error: std::io::Error) -> LoginError {
    LoginError::Protocol(error.to_string())
}

fn refused(body: &[u8]) -> LoginError {
    let fields = body.split(|byte| *byte == 0).filter_map(|field| field.split_first());
    let find = |wanted: u8| {
        let field = fields.clone().find(|(kind, _)| **kind == wanted);
        field
            .map(|(_, text)| String::from_utf8_lossy(text).chars().take(500).collect::<String>())
            .unwrap_or_default()
    };
    LoginError::Refused { code: find(b'C'), message: find(b'M') }
}

fn cancel_key(body: &[u8]) -> Option<CancelKey> {
    let (process, rest) = body.split_first_chunk::<4>()?;
    let secret = rest.split_first_chunk::<4>()?.0;
    Some(CancelKey { process: i32::from_be_bytes(*process), secret: i32::from_be_bytes(*secret) })
}
