//! One connection: how it is opened, what the server is told about durability and waiting, and what its errors mean.

use std::collections::HashMap;
use std::future::poll_fn;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::pipeline::Values;
use crate::tls::{BadEncryption, Parameters};
use crate::{PostgresUrl, Seq, StoreError};

/// How long one try to connect may take, the handshake and TLS among it. A server that is there answers in far less.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a caller waits for a server that cannot be reached before it is told so. A restart takes about as long.
pub(super) const REACH_TIMEOUT: Duration = Duration::from_secs(5);

/// First and longest pause between two tries to connect; it doubles in between. A server that comes back is met soon, and
/// one that is down is not bothered.
const BACKOFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// How long one statement may run at the server. The longest, a look through the audit trail, takes seconds; one that
/// takes this long would hold its connection for ever.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a statement waits for a lock. Locks are held for one commit; whoever holds one this long hangs.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the server lets a transaction of ours idle before it ends it: the platform's code runs inside one, and takes
/// microseconds. It bounds how long a host that stands still can hold up the others.
const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Silence after which either side asks whether the other is still there, the time between two such questions, and how
/// many go unanswered before it is not: a peer that vanished is noticed within a minute.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);

/// The oldest server that has everything that is used here.
const OLDEST_SERVER: i32 = 130_000;

/// `sslmode` where the URL has none, as PostgreSQL's own programs have it.
const DEFAULT_SSLMODE: &str = "prefer";

/// Opens connections. Each follows the journal's head when it listens.
#[derive(Clone)]
pub(super) struct Connector {
    config: Config,
    tls: MakeRustlsConnect,
    head: watch::Sender<Seq>,
}

/// A connection with the statements that were prepared on it.
pub(super) struct Conn {
    client: Client,
    statements: Mutex<HashMap<String, Statement>>,
    /// Its sender goes away with the connection.
    alive: watch::Receiver<()>,
}

/// Values of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Connector {
    /// Reads the URL. `head` is told what a listening connection hears.
    pub(super) fn new(url: &PostgresUrl, node: &str, head: watch::Sender<Seq>) -> Result<Self, StoreError> {
        let (plain, parameters) = Parameters::take(url.expose());
        let bad = |error: tokio_postgres::Error| StoreError::BadAddress { reason: whole(&error) };
        let mut config = Config::from_str(&plain).map_err(bad)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(StoreError::BadAddress { reason: "it names no server".into() });
        }
        let encryption = parameters.read(DEFAULT_SSLMODE)?;
        let (idle, interval, retries) = KEEPALIVE;
        config
            .ssl_mode(encryption.mode)
            .application_name(format!("temps {node}"))
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives_idle(idle)
            .keepalives_interval(interval)
            .keepalives_retries(retries)
            .tcp_user_timeout(idle);
        Ok(Self { config, tls: MakeRustlsConnect::new(encryption.client()?), head })
    }

    /// Connects, and tries again until `deadline` while the server cannot be reached. It tries at least once.
    pub(super) async fn connect(&self, deadline: Instant) -> Result<Conn, StoreError> {
        let [mut pause, longest] = BACKOFF;
        loop {
            let tried = tokio::time::timeout(CONNECT_TIMEOUT, self.connect_once()).await;
            match tried.unwrap_or_else(|_| Err(unreachable("it does not answer"))) {
                Err(StoreError::Unreachable { .. }) if Instant::now() + pause < deadline => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
                done => return done,
            }
        }
    }

    async fn connect_once(&self) -> Result<Conn, StoreError> {
        let (client, mut connection) =
            self.config.connect(self.tls.clone()).await.map_err(|error| match StoreError::from(error) {
                StoreError::Lost { reason } => StoreError::Unreachable { reason },
                other => other.during("connect"),
            })?;
        let head = self.head.clone();
        let (ends, alive) = watch::channel(());
        tokio::spawn(async move {
            let _ends = ends;
            while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                match message {
                    Ok(AsyncMessage::Notification(note)) => {
                        if let Ok(seq) = note.payload().parse() {
                            raise(&head, seq);
                        }
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(error = whole(&error), "a connection to the database ended");
                        return;
                    }
                }
            }
        });
        let conn = Conn { client, statements: Mutex::default(), alive };
        conn.prepare_session().await?;
        Ok(conn)
    }
}

impl Conn {
    /// Whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Resolves when the connection has ended.
    pub(super) async fn ended(&self) {
        let _ = self.alive.clone().changed().await;
    }

    /// Tells the server how this session works, and refuses one that cannot keep what is asked of it.
    async fn prepare_session(&self) -> Result<(), StoreError> {
        let (idle, interval, retries) = KEEPALIVE;
        self.batch(&format!(
            "SET search_path = temps; SET timezone = 'UTC'; SET default_transaction_isolation = 'read committed';
             SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {};
             SET tcp_keepalives_idle = {}; SET tcp_keepalives_interval = {}; SET tcp_keepalives_count = {retries};
             SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
            STATEMENT_TIMEOUT.as_millis(),
            LOCK_TIMEOUT.as_millis(),
            IDLE_IN_TRANSACTION_TIMEOUT.as_millis(),
            idle.as_secs(),
            interval.as_secs(),
        ))
        .await?;
        let row = self
            .one(
                "SELECT current_setting('server_version_num')::INTEGER, current_setting('server_version'),
                         current_setting('server_encoding'), pg_is_in_recovery()",
                &[],
            )
            .await?;
        let (number, version, encoding): (i32, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let unfit = |reason: String| Err(StoreError::Database { action: "use this server", reason });
        if number < OLDEST_SERVER {
            return unfit(format!("it is PostgreSQL {version}; 13 or a later one is needed"));
        }
        if encoding != "UTF8" {
            return unfit(format!("its encoding is {encoding}; make the database with encoding UTF8"));
        }
        if row.try_get(3)? {
            // It may be promoted, so it is asked again.
            return Err(unreachable("it is a standby, which takes no writes"));
        }
        Ok(())
    }

    /// Runs statements without values, in one exchange.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), StoreError> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// Runs a statement and returns its rows. A statement is parsed once on a connection.
    pub(super) async fn query(&self, sql: &str, values: Params<'_>) -> Result<Vec<Row>, StoreError> {
        let statement = self.statement(sql).await?;
        Ok(self.client.query(&statement, values).await?)
    }

    /// Runs a statement that returns one row.
    pub(super) async fn one(&self, sql: &str, values: Params<'_>) -> Result<Row, StoreError> {
        let statement = self.statement(sql).await?;
        Ok(self.client.query_one(&statement, values).await?)
    }

    /// Runs a statement that returns at most one row.
    pub(super) async fn maybe(&self, sql: &str, values: Params<'_>) -> Result<Option<Row>, StoreError> {
        let statement = self.statement(sql).await?;
        Ok(self.client.query_opt(&statement, values).await?)
    }

    /// Runs a statement and returns how many rows it concerned.
    pub(super) async fn execute(&self, sql: &str, values: Params<'_>) -> Result<u64, StoreError> {
        let statement = self.statement(sql).await?;
        Ok(self.client.execute(&statement, values).await?)
    }

    /// Runs statements in one transaction and one exchange. They are parsed before, so that none overtakes another.
    pub(super) async fn transaction(&self, statements: &[(&'static str, Values)]) -> Result<(), StoreError> {
        let mut parsed = Vec::with_capacity(statements.len());
        for (sql, values) in statements {
            parsed.push((self.statement(sql).await?, values));
        }
        let begin = self.client.batch_execute("BEGIN");
        let run = join_all(parsed.iter().map(|(statement, values)| {
            self.client.execute_raw(statement, values.iter().map(|value| &**value as &(dyn ToSql + Sync)))
        }));
        // When a statement failed, this undoes the others and says nothing of it; the statement does.
        let commit = self.client.batch_execute("COMMIT");
        let (begun, ran, committed) = tokio::join!(biased; begin, run, commit);
        begun?;
        for outcome in ran {
            outcome?;
        }
        Ok(committed?)
    }

    async fn statement(&self, sql: &str) -> Result<Statement, StoreError> {
        let known = self.statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        let mut statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// Raises the head to `seq`; it never goes back, whoever hears of a commit first.
pub(super) fn raise(head: &watch::Sender<Seq>, seq: Seq) {
    head.send_if_modified(|head| {
        let grew = seq > *head;
        *head = seq.max(*head);
        grew
    });
}

/// Text as PostgreSQL can hold it: it has no zero character, which a hostile plugin may well send.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// The error when the server cannot be reached.
pub(super) fn unreachable(reason: &str) -> StoreError {
    StoreError::Unreachable { reason: reason.to_owned() }
}

/// An error with what is behind it: the library's own words say only where it happened.
fn whole(error: &tokio_postgres::Error) -> String {
    let mut said = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let inner_said = inner.to_string();
        if !said.contains(&inner_said) {
            said = format!("{said}: {inner_said}");
        }
        source = inner.source();
    }
    said
}

impl From<BadEncryption> for StoreError {
    fn from(error: BadEncryption) -> Self {
        StoreError::BadAddress { reason: error.to_string() }
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            let io = std::error::Error::source(&error).is_some_and(|source| source.is::<std::io::Error>());
            let lost = error.is_closed() || io || error.to_string().starts_with("error connecting");
            let reason = whole(&error);
            return if lost {
                StoreError::Lost { reason }
            } else {
                StoreError::Database { action: "run a statement", reason }
            };
        };
        let reason = match said.detail() {
            Some(detail) => format!("{} ({detail})", said.message()),
            None => said.message().to_owned(),
        };
        let code = said.code();
        if *code == SqlState::DISK_FULL {
            return StoreError::Full;
        }
        if [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(code) {
            return StoreError::Damaged { reason };
        }
        // The server ends the session (57P01, 57P02, 57P05, 25P03), takes no sessions yet (57P03) or any more (53300), or
        // something between here and there broke (08...).
        let ended = [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::TOO_MANY_CONNECTIONS,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        ];
        if ended.contains(code) || code.code().starts_with("08") || code.code() == "57P05" {
            return StoreError::Lost { reason };
        }
        // Somebody held a lock for too long, or the statement took too long: a session that the network cut off does that
        // until the server notices. Nothing of it was done, and later it will be.
        let in_the_way = [
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::QUERY_CANCELED,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ];
        if in_the_way.contains(code) {
            return StoreError::Unreachable { reason };
        }
        StoreError::Database {
            action: "run a statement",
            reason: format!("{reason} (SQLSTATE {})", code.code()),
        }
    }
}
