//! The world that the test of the way out lives in: network and mount namespaces of its own, an authority for certificates, names,
//! and servers at public addresses.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use temps_testkit::skip;

/// Set in the process that runs inside of the namespaces, to the directory of its world.
pub(crate) const INSIDE: &str = "TEMPS_TEST_EGRESS_INSIDE";

/// Whose host it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Root where the test is, and root of a user namespace otherwise.
    AsItIs,
    /// A user with no more rights than any other.
    Ordinary,
}

/// The user that an ordinary host runs as.
pub(crate) const ORDINARY: u32 = 65_534;

/// What names stand for. One leads back into the machine, one to both. All others are asked of a name server.
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n45.90.28.10 hooks.slack.com other.example.com both.example.com\n\
                     127.0.0.1 inside.example.com both.example.com\n";

/// Everything that takes the test into its own world. It runs as the root of new namespaces, and then the test in it.
const ENTER: &str = r#"
set -e
cd "$1"
shift
ip link set lo up
ip addr add 45.90.28.10/32 dev lo
ip -6 addr add 2a0b:9000::10/128 dev lo
mount --bind hosts /etc/hosts
mount --bind resolv.conf /etc/resolv.conf
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj "/CN=An authority for tests" 2>/dev/null
openssl req -newkey rsa:2048 -nodes -keyout host.key -out host.csr -subj "/CN=hooks.slack.com" 2>/dev/null
printf 'subjectAltName=DNS:hooks.slack.com,DNS:other.example.com,DNS:*.turns.example.com\nbasicConstraints=CA:FALSE\n' >extensions
openssl x509 -req -in host.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out host.crt -days 2 -extfile extensions 2>/dev/null
cp -a /etc/ssl/certs certs
cat ca.crt >>certs/ca-certificates.crt
cp ca.crt "certs/$(openssl x509 -hash -noout -in ca.crt).0"
mount --bind certs /etc/ssl/certs
if [ -n "$ORDINARY" ]; then
    # Its servers listen at the ports that they have outside.
    echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start
    chown -R "$ORDINARY:$ORDINARY" .
    exec setpriv --reuid="$ORDINARY" --regid="$ORDINARY" --clear-groups "$@"
fi
exec "$@"
"#;

/// Runs the test `name` of this program again, inside of a world in `directory`. Skips it where that cannot be.
pub(crate) fn enter(name: &str, who: Who, directory: &Path) {
    for program in ["unshare", "ip", "openssl", "curl", "setpriv", "/usr/bin/python3", "/usr/bin/node"] {
        if Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return skip(name, &format!("{program} is not installed"));
        }
    }
    let root = rustix::process::geteuid().is_root();
    let user: &[&str] = if root { &[] } else { &["--user", "--map-root-user"] };
    let flags = ["--net", "--mount", "--propagation", "private"];
    let possible = Command::new("unshare").args(user).args(flags).arg("true").stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        return skip(name, "network and mount namespaces cannot be made here");
    }
    if who == Who::Ordinary && !root {
        return skip(name, "the test is an ordinary user's already");
    }
    if who == Who::Ordinary && !may_unshare() {
        return skip(name, "an ordinary user can make no namespaces here");
    }
    std::fs::write(directory.join("hosts"), HOSTS).unwrap();
    std::fs::write(directory.join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory, mode).unwrap();
    let ordinary = if who == Who::Ordinary { ORDINARY.to_string() } else { String::new() };
    let mut again = Command::new("unshare");
    again.args(user).args(flags).args(["sh", "-c", ENTER, "sh"]).arg(directory);
    again.arg(std::env::current_exe().unwrap()).args([&format!("egress::{name}"), "--exact", "--nocapture"]);
    // What is started inside was built before, and another user may not be able to build.
    let status = again
        .env(INSIDE, directory)
        .env("ORDINARY", ordinary)
        .env("TEMPS_TEST_BUILT", "1")
        .env("TMPDIR", "/tmp")
        .status()
        .unwrap();
    assert!(status.success(), "what happened stands above");
}

/// Whether an ordinary user may make user namespaces and read what is started.
fn may_unshare() -> bool {
    let user = [format!("--reuid={ORDINARY}"), format!("--regid={ORDINARY}")];
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new("setpriv");
    command.args(user).args(["--clear-groups", "unshare", "--user", "--net", "test", "-x"]).arg(exe);
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A server of the world outside. It ends when its input does.
pub(crate) struct Outside {
    process: Child,
}

impl Outside {
    /// TLS hosts, and everything else that a plugin must not reach.
    pub(crate) fn hosts(at: &Path) -> Self {
        Self::start("outside.py", at, &["host.crt", "host.key", "outside.sock", "messages", "holds"])
    }

    /// The server for names.
    pub(crate) fn names(at: &Path) -> Self {
        Self::start("names.py", at, &["questions"])
    }

    fn start(script: &str, at: &Path, files: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/egress").join(script);
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).args(files.iter().map(|name| at.join(name)));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        Self { process }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
