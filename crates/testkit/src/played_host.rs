//! A host played by hand: it starts one program as the protocol says and lets a test take each step itself.
//!
//! It is for tests of plugins and of examples, where a real host would hide what is on the wire. It checks nothing
//! by itself, and every wait in it ends after [`PATIENCE`].

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// How long one step may take before the test is called a failure. A loaded machine needs seconds.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Longest head of an answer in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// How often a start is tried again while the program's file is busy, with 10 ms between.
const BUSY_RETRIES: usize = 200;

/// The secret that the played host gives.
pub const SECRET: &str = "a-secret-for-tests-only-0123456789";

/// One running program, started as a plugin.
#[derive(Debug)]
pub struct PlayedHost {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    socket_path: PathBuf,
    data_dir: PathBuf,
}

/// What a plugin answered to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// HTTP status code.
    pub status: u16,
    /// Names in lower case, values as they came.
    pub headers: Vec<(String, String)>,
    /// The body, without chunk marks.
    pub body: Vec<u8>,
}

impl Answered {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `null` when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

impl PlayedHost {
    /// Starts `program` with its socket and data directory inside `dir`, and a clean environment.
    ///
    /// # Errors
    /// When the directories cannot be made or the program cannot be started.
    pub fn start(program: &Path, dir: &Path) -> io::Result<Self> {
        let (socket_path, data_dir) = (dir.join("plugin.sock"), dir.join("data"));
        std::fs::create_dir_all(&data_dir)?;
        let mut command = Command::new(program);
        command
            .arg("--socket-path")
            .arg(&socket_path)
            .arg("--auth-secret")
            .arg(SECRET)
            .arg("--data-dir")
            .arg(&data_dir)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("TEMPS_API_VERSION", "1.0.0")
            .env("TEMPS_FEATURES", "ack,reconnect")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        let mut child = spawn(&mut command)?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no stdout"))?;
        Ok(Self { child, lines: BufReader::new(stdout).lines(), socket_path, data_dir })
    }

    /// The directory that was given to the plugin for its data.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The plugin's process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The next line on the plugin's stdout; `None` when it closed it.
    ///
    /// # Errors
    /// When nothing came in time.
    pub async fn line(&mut self) -> io::Result<Option<String>> {
        in_time(self.lines.next_line()).await
    }

    /// Reads the two handshake lines as JSON.
    ///
    /// # Errors
    /// When a line is missing or is not JSON.
    pub async fn handshake(&mut self) -> io::Result<(Value, Value)> {
        let mut lines = [Value::Null, Value::Null];
        for place in &mut lines {
            let line = self.line().await?.ok_or_else(|| io::Error::other("stdout ended"))?;
            *place = serde_json::from_str(&line)?;
        }
        let [manifest, ready] = lines;
        Ok((manifest, ready))
    }

    /// Sends one request as the host does, on a connection of its own, and reads the whole answer.
    ///
    /// # Errors
    /// When the plugin cannot be reached, closes the connection early, or is too slow.
    pub async fn request(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Answered> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SECRET}\r\nX-Temps-Request-Id: test\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        in_time(async {
            let mut stream = UnixStream::connect(&self.socket_path).await?;
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body).await?;
            read_answer(&mut stream).await
        })
        .await
    }

    /// `GET path`.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn get(&self, path: &str) -> io::Result<Answered> {
        self.request("GET", path, b"").await
    }

    /// Connects the channel; `Err` of the inner result is the status with which the plugin refused it.
    ///
    /// # Errors
    /// When the plugin cannot be reached or is too slow.
    pub async fn channel(&self) -> io::Result<Result<Channel, u16>> {
        in_time(async {
            let mut stream = UnixStream::connect(&self.socket_path).await?;
            let head = format!(
                "GET /_temps/channel HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SECRET}\r\nConnection: Upgrade\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\n",
                generate_key()
            );
            stream.write_all(head.as_bytes()).await?;
            let (status, read) = read_head(&mut stream).await?;
            if status != 101 {
                return Ok(Err(status));
            }
            Ok(Ok(Channel(WebSocketStream::from_partially_read(stream, read, Role::Client, None).await)))
        })
        .await
    }

    /// Sends SIGTERM, as the host does to stop a plugin.
    ///
    /// # Errors
    /// When the plugin has ended already.
    pub fn terminate(&self) -> io::Result<()> {
        let pid = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
        let pid = pid.ok_or_else(|| io::Error::other("the plugin has ended"))?;
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::TERM)?)
    }

    /// Waits for the plugin's end.
    ///
    /// # Errors
    /// When it does not come in time.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        in_time(self.child.wait()).await
    }
}

/// The played host's end of the channel.
#[derive(Debug)]
pub struct Channel(WebSocketStream<UnixStream>);

impl Channel {
    /// Sends one frame.
    ///
    /// # Errors
    /// When the channel is closed.
    pub async fn send(&mut self, frame: &Value) -> io::Result<()> {
        in_time(async { self.0.send(Message::text(frame.to_string())).await.map_err(io::Error::other) }).await
    }

    /// The next frame as text; pings are answered on the way. `None` when the plugin closed the channel.
    ///
    /// # Errors
    /// When nothing came in time.
    pub async fn receive_text(&mut self) -> io::Result<Option<String>> {
        in_time(async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(Some(text.as_str().to_owned())),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(None),
                    Some(Ok(_)) => {}
                }
            }
        })
        .await
    }

    /// The next frame as JSON.
    ///
    /// # Errors
    /// When the channel was closed, nothing came in time, or it is not JSON.
    pub async fn receive(&mut self) -> io::Result<Value> {
        let text = self.receive_text().await?.ok_or_else(|| io::Error::other("the channel was closed"))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Sends a ping and waits for its pong; other messages that come meanwhile are dropped.
    ///
    /// # Errors
    /// When no pong came in time.
    pub async fn ping(&mut self) -> io::Result<()> {
        in_time(async {
            self.0.send(Message::Ping("?".into())).await.map_err(io::Error::other)?;
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Pong(_))) => return Ok(()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(io::Error::other("the channel was closed")),
                }
            }
        })
        .await
    }

    /// Closes the channel as the host does.
    ///
    /// # Errors
    /// When it is closed already.
    pub async fn close(&mut self) -> io::Result<()> {
        in_time(async { self.0.close(None).await.map_err(io::Error::other) }).await
    }
}

/// A file that was just written cannot be run while a child that another thread is starting still holds it open.
fn spawn(command: &mut Command) -> io::Result<Child> {
    for _ in 0..BUSY_RETRIES {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(10));
            }
            outcome => return outcome,
        }
    }
    command.spawn()
}

async fn in_time<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, step).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Reads the head of an answer, in any version of HTTP/1; returns the status and what came behind the head.
async fn read_head(stream: &mut UnixStream) -> io::Result<(u16, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
            let status = status.ok_or_else(|| io::Error::other("no status line"))?;
            return Ok((status, bytes.split_off(end + 4)));
        }
        if bytes.len() > MAX_HEAD || stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::other("the answer has no head"));
        }
    }
}

async fn read_answer(stream: &mut UnixStream) -> io::Result<Answered> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    let head_end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or_else(|| io::Error::other("the answer ended inside its head"))?;
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .ok_or_else(|| io::Error::other("no status line"))?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut answered = Answered { status, headers, body: bytes.split_off(head_end + 4) };
    if answered.header("transfer-encoding") == Some("chunked") {
        answered.body = without_chunks(&answered.body)?;
    }
    Ok(answered)
}

fn without_chunks(mut rest: &[u8]) -> io::Result<Vec<u8>> {
    let broken = || io::Error::other("a broken chunk");
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|window| window == b"\r\n").ok_or_else(broken)?;
        let size = std::str::from_utf8(&rest[..line_end]).map_err(|_| broken())?;
        let size = usize::from_str_radix(size, 16).map_err(|_| broken())?;
        if size == 0 {
            return Ok(body);
        }
        let start = line_end + 2;
        body.extend(rest.get(start..start + size).ok_or_else(broken)?);
        rest = rest.get(start + size + 2..).ok_or_else(broken)?;
    }
}
