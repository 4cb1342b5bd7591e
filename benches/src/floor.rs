//! The floors: the same bytes over a bare unix socket, in the same runtime, without anything of the host between.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::Outcome;
use crate::stats::Samples;

/// A process of the floor that ends with this value.
pub(crate) struct FloorProcess(Child);

impl Drop for FloorProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the rig's own executable as the other side of a floor.
pub(crate) fn start(arguments: &[&str]) -> Outcome<FloorProcess> {
    Ok(FloorProcess(Command::new(std::env::current_exe()?).args(arguments).stdin(Stdio::null()).spawn()?))
}

/// Waits until a socket accepts.
pub(crate) async fn connect(socket: &Path) -> Outcome<UnixStream> {
    for _ in 0..2000 {
        if let Ok(stream) = UnixStream::connect(socket).await {
            return Ok(stream);
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    Err(format!("nobody listens on {}", socket.display()).into())
}

/// Round trips of `request` bytes out and `response` bytes back with another process, in nanoseconds.
pub(crate) async fn ping_pong(
    directory: &Path,
    request: usize,
    response: usize,
    count: usize,
) -> Outcome<Samples> {
    let mut echo = Echo::start(directory, request, response).await?;
    let mut nanos = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        echo.round_trip().await?;
        nanos.push(begin.elapsed().as_nanos() as u64);
    }
    Ok(Samples::from_nanos(nanos))
}

/// Another process that answers so many bytes with so many others.
pub(crate) struct Echo {
    _process: FloorProcess,
    stream: UnixStream,
    out: Vec<u8>,
    back: Vec<u8>,
}

impl Echo {
    pub(crate) async fn start(directory: &Path, request: usize, response: usize) -> Outcome<Self> {
        let socket = directory.join("floor.sock");
        let _ = std::fs::remove_file(&socket);
        let path = socket.to_string_lossy().into_owned();
        let process = start(&["--floor-echo", &path, &request.to_string(), &response.to_string()])?;
        let stream = connect(&socket).await?;
        Ok(Self { _process: process, stream, out: vec![b'x'; request], back: vec![0; response] })
    }

    /// There and back.
    pub(crate) async fn round_trip(&mut self) -> Outcome<()> {
        self.stream.write_all(&self.out).await?;
        self.stream.read_exact(&mut self.back).await?;
        Ok(())
    }
}

/// The other side of [`Echo`].
pub(crate) fn serve_echo(arguments: &[String]) -> Outcome<()> {
    let [socket, request, response] = arguments else { return Err("three values are needed".into()) };
    let (request, response): (usize, usize) = (request.parse()?, response.parse()?);
    current_thread()?.block_on(async {
        let (mut stream, _) = UnixListener::bind(socket)?.accept().await?;
        let mut heard = vec![0u8; request];
        let answer = vec![b'y'; response];
        while stream.read_exact(&mut heard).await.is_ok() {
            stream.write_all(&answer).await?;
        }
        Ok(())
    })
}

/// Writes `lines` to `readers` processes over one socket each, and waits until all of them have read all. Returns lines per second and reader.
pub(crate) async fn fan_out(directory: &Path, readers: usize, line: &[u8], lines: usize) -> Outcome<f64> {
    let mut processes = Vec::new();
    let mut streams = Vec::new();
    for index in 0..readers {
        let socket = directory.join(format!("sink{index}.sock"));
        let _ = std::fs::remove_file(&socket);
        processes.push(start(&["--floor-sink", &socket.to_string_lossy()])?);
        streams.push(connect(&socket).await?);
    }
    let mut batch = Vec::new();
    for _ in 0..64 {
        batch.extend_from_slice(line);
    }
    let begin = Instant::now();
    let tasks: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            let batch = batch.clone();
            tokio::spawn(async move {
                for _ in 0..lines.div_ceil(64) {
                    stream.write_all(&batch).await?;
                }
                stream.shutdown().await?;
                let mut done = [0u8; 1];
                stream.read_exact(&mut done).await.map(|_| ())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let sent = lines.div_ceil(64) * 64 * readers;
    Ok(sent as f64 / begin.elapsed().as_secs_f64())
}

/// The other side of [`fan_out`]: reads and parses every line as an event, then says that it is done.
pub(crate) fn serve_sink(socket: &str) -> Outcome<()> {
    use tokio::io::AsyncBufReadExt;
    current_thread()?.block_on(async {
        let (stream, _) = UnixListener::bind(socket)?.accept().await?;
        let (read, mut write) = stream.into_split();
        let mut reader = tokio::io::BufReader::with_capacity(64 * 1024, read);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).await? > 0 {
            let _event: temps_protocol::HostFrame = serde_json::from_slice(&line)?;
            line.clear();
        }
        write.write_all(b"!").await?;
        Ok(())
    })
}

fn current_thread() -> Outcome<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
