//! The settings' file: what may stand in `temps.toml`, and what is said about a mistake in it.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use temps_host::secrets::Secret;

use super::{Config, ConfigError, parse_grants_default, parse_listen};

/// Longest settings' file in bytes; more is not settings.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Everything that may stand in the file. Unknown keys are refused at every level.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    database: Option<Database>,
    database_file: Option<PathBuf>,
    node: Option<Node>,
    listen: Option<Listen>,
    public_url: Option<String>,
    allowed_hosts: Option<Vec<String>>,
    plugins_dirs: Option<Vec<PathBuf>>,
    grants: Grants,
    metrics: Metrics,
    restart: Restart,
    health: Health,
    stop: Stop,
    probe: Probe,
    usage: Usage,
    plugin_databases: PluginDatabases,
    sandbox: super::sandbox::Sandbox,
    limits: super::sandbox::Limits,
    egress: super::egress::Egress,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Grants {
    default: Option<GrantsDefault>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Metrics {
    public: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Restart {
    backoff_min: Option<Span>,
    backoff_max: Option<Span>,
    reset_after: Option<Span>,
    quarantine_after: Option<u32>,
    window: Option<Span>,
    half_open_every: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Health {
    interval: Option<Span>,
    timeout: Option<Span>,
    failures: Option<AtLeastOne>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Stop {
    grace: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Usage {
    every: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Probe {
    interval: Option<Span>,
    timeout: Option<Span>,
    give_up_after: Option<Span>,
    healthy_for: Option<Span>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PluginDatabases {
    postgres_url: Option<String>,
    prefix: Option<String>,
    connections: Option<u32>,
    statement_timeout: Option<Span>,
    isolate: Option<bool>,
}

impl fmt::Debug for PluginDatabases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL holds a password.
        f.debug_struct("PluginDatabases").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Reads the file of `config.places` into `config`. A file that does not exist says nothing, unless it must exist.
pub(super) fn read(config: &mut Config, must_exist: bool) -> Result<(), ConfigError> {
    let path = config.places.config_file.clone();
    let unreadable = |reason: String| ConfigError::Unreadable { file: path.clone(), reason };
    let text = match std::fs::metadata(&path) {
        Ok(found) if found.len() > MAX_FILE_BYTES => {
            return Err(unreadable("it is larger than 1 MiB".into()));
        }
        Ok(_) => std::fs::read_to_string(&path).map_err(|error| unreadable(error.to_string()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => return Ok(()),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let file: File = toml::from_str(&text).map_err(|error| ConfigError::InFile {
        file: path.clone(),
        line: line_of(&text, error.span()),
        message: explain(error.message()),
    })?;
    if let Some(address_file) = &file.database_file {
        if file.database.is_some() {
            return Err(wrong("database_file", "stands beside `database`; set one of them".into()));
        }
        let address = super::database::read_address(address_file);
        config.database = Some(address.map_err(|message| wrong("database_file", message))?);
    }
    file.take(config);
    Ok(())
}

fn wrong(setting: &str, message: String) -> ConfigError {
    ConfigError::InValue { source_name: setting.to_owned(), message }
}

impl File {
    fn take(self, config: &mut Config) {
        config.secret_in_file = self.plugin_databases.postgres_url.is_some()
            || self.database.as_ref().is_some_and(Database::has_password);
        config.database = self.database.map(|database| database.0).or(config.database.take());
        set(&mut config.node, self.node.map(|node| node.0));
        set(&mut config.listen, self.listen.map(|listen| listen.0));
        config.public_url = self.public_url.or(config.public_url.take());
        set(&mut config.allowed_hosts, self.allowed_hosts);
        set(&mut config.places.plugins_dirs, self.plugins_dirs);
        set(&mut config.grants_default, self.grants.default.map(|policy| policy.0));
        set(&mut config.metrics_public, self.metrics.public);
        set_span(&mut config.restart.backoff_min, self.restart.backoff_min);
        set_span(&mut config.restart.backoff_max, self.restart.backoff_max);
        set_span(&mut config.restart.reset_after, self.restart.reset_after);
        set(&mut config.restart.quarantine_after, self.restart.quarantine_after);
        set_span(&mut config.restart.window, self.restart.window);
        set_span(&mut config.restart.half_open_every, self.restart.half_open_every);
        set_span(&mut config.health.interval, self.health.interval);
        set_span(&mut config.health.timeout, self.health.timeout);
        set(&mut config.health.failures, self.health.failures.map(|count| count.0));
        set_span(&mut config.stop_grace, self.stop.grace);
        set_span(&mut config.usage_every, self.usage.every);
        set_span(&mut config.probe.interval, self.probe.interval);
        set_span(&mut config.probe.timeout, self.probe.timeout);
        set_span(&mut config.probe.give_up_after, self.probe.give_up_after);
        set_span(&mut config.probe.healthy_for, self.probe.healthy_for);
        let databases = self.plugin_databases;
        set(&mut config.databases.postgres_url, databases.postgres_url.map(|url| Some(Secret::new(url))));
        set(&mut config.databases.prefix, databases.prefix);
        set(&mut config.databases.connections, databases.connections);
        set_span(&mut config.databases.statement_timeout, databases.statement_timeout);
        set(&mut config.databases.isolate, databases.isolate);
        self.sandbox.take(&mut config.sandbox);
        self.limits.take(&mut config.limits);
        self.egress.take(&mut config.egress);
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn set_span(place: &mut Duration, value: Option<Span>) {
    set(place, value.map(|span| span.0));
}

fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let until = span.map_or(0, |span| span.start.min(text.len()));
    text.as_bytes().get(..until).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Adds what was probably meant to a complaint about an unknown key.
fn explain(message: &str) -> String {
    let message = message.trim_end();
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown field").then(|| quoted.next()).flatten();
    let Some(unknown) = unknown else {
        return message.to_owned();
    };
    let known: Vec<&str> = quoted.collect();
    let nearest = known.iter().map(|word| (distance(unknown, word), *word)).min();
    match nearest {
        Some((far, word)) if far <= 3 && far < word.len() => {
            format!("there is no setting `{unknown}`; did you mean `{word}`?")
        }
        _ => format!("there is no setting `{unknown}`; here may stand {}", known.join(", ")),
    }
}

/// How many letters must be added, taken away or changed to get from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, a) in from.chars().enumerate() {
        let mut corner = row[0];
        row[0] = above + 1;
        for (index, b) in to.iter().enumerate() {
            let changed = corner + usize::from(a != *b);
            corner = row[index + 1];
            row[index + 1] = changed.min(row[index] + 1).min(corner + 1);
        }
    }
    row[to.len()]
}

#[derive(Debug)]
struct Listen(std::net::SocketAddr);

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_listen(&text).map(Self).map_err(de::Error::custom)
    }
}

#[derive(Debug)]
struct Database(temps_store::DatabaseAddress);

impl Database {
    fn has_password(&self) -> bool {
        matches!(&self.0, temps_store::DatabaseAddress::Postgres(url) if url.has_password())
    }
}

impl<'de> Deserialize<'de> for Database {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::database::parse_address(&text).map(Self).map_err(de::Error::custom)
    }
}

#[derive(Debug)]
struct Node(String);

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::database::parse_node(&text).map(Self).map_err(de::Error::custom)
    }
}

#[derive(Debug)]
struct GrantsDefault(temps_host::config::GrantsDefault);

impl<'de> Deserialize<'de> for GrantsDefault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_grants_default(&text).map(Self).map_err(de::Error::custom)
    }
}

#[derive(Debug)]
struct AtLeastOne(u32);

impl<'de> Deserialize<'de> for AtLeastOne {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            0 => Err(de::Error::custom("must be at least 1")),
            count => Ok(Self(count)),
        }
    }
}

/// A time with its unit, more than zero and at most a day: `500ms`, `10s`, `5m`, `1h`.
#[derive(Debug)]
struct Span(Duration);

/// Longest time that a setting may have; more is a slip of the unit.
const MAX_SPAN: Duration = Duration::from_secs(24 * 60 * 60);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time with its unit like \"500ms\", \"10s\", \"5m\" or \"1h\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
                let (number, unit) = text.split_at(split);
                let millis = match unit {
                    "ms" => 1,
                    "s" => 1_000,
                    "m" => 60_000,
                    "h" => 3_600_000,
                    _ => return Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                };
                let span = number.parse::<u64>().ok().and_then(|count| count.checked_mul(millis));
                match span.map(Duration::from_millis) {
                    Some(span) if !span.is_zero() && span <= MAX_SPAN => Ok(Span(span)),
                    Some(_) => Err(E::custom(format!("{text:?} must be more than zero and at most 24h"))),
                    None => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use temps_host::sandbox::{Layer, Policy};

    use super::*;

    #[test]
    fn the_distance_between_words_counts_letters() {
        assert_eq!(distance("listen", "listen"), 0);
        assert_eq!(distance("lisen", "listen"), 1);
        assert_eq!(distance("intervall", "interval"), 1);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn every_setting_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("temps.toml");
        std::fs::write(
            &path,
            r#"
            database = "postgres://temps:secret@db.example.com/temps?sslmode=verify-full"
            node = "eu-1"
            listen = "localhost:7000"
            public_url = "https://temps.example.com/"
            allowed_hosts = ["temps.internal:8443"]
            plugins_dirs = ["/srv/plugins"]
            [grants]
            default = "hold"
            [metrics]
            public = true
            [restart]
            backoff_min = "250ms"
            backoff_max = "1s"
            reset_after = "2m"
            quarantine_after = 0
            window = "1m"
            half_open_every = "1h"
            [health]
            interval = "3s"
            timeout = "1s"
            failures = 2
            [stop]
            grace = "4s"
            [probe]
            interval = "2s"
            timeout = "3s"
            give_up_after = "1m"
            healthy_for = "5s"
            [plugin_databases]
            postgres_url = "postgres://admin:hunter2@localhost/"
            prefix = "here_"
            connections = 4
            statement_timeout = "9s"
            isolate = false
            [limits]
            memory_max = "512M"
            cpu_quota = "50%"
            tasks_max = 128
            nofile = 2048
            disk_max = "2G"
            tmp_max = "32M"
            [limits.plugins.hello]
            memory_max = "64M"
            [sandbox]
            read_only_paths = ["/opt/python"]
            first_user = 70000
            [sandbox.layers]
            landlock = "require"
            network = "off"
            [sandbox.plugins.hello]
            layers = { system_calls = "off" }
            read_only_paths = ["/opt/hello"]
            "#,
        )
        .unwrap();
        let mut config = Config::defaults(super::super::Places::below(dir.path()));
        let before = format!("{config:?}");
        read(&mut config, true).unwrap();
        assert_eq!(config.listen, "127.0.0.1:7000".parse().unwrap());
        assert_eq!(config.restart.quarantine_after, 0);
        assert_eq!(config.restart.backoff_min, Duration::from_millis(250));
        assert_eq!(config.health.failures, 2);
        assert_eq!(config.stop_grace, Duration::from_secs(4));
        assert_eq!(config.probe.give_up_after, Duration::from_secs(60));
        assert!(config.metrics_public);
        assert_eq!((config.node.as_str(), config.secret_in_file), ("eu-1", true));
        assert!(!format!("{config:?}").contains(":secret@"), "{config:?}");
        assert_eq!(
            config.database().to_string(),
            "postgres://temps:***@db.example.com/temps?sslmode=verify-full"
        );
        assert_eq!((config.databases.prefix.as_str(), config.databases.connections), ("here_", 4));
        assert_eq!(config.databases.statement_timeout, Duration::from_secs(9));
        assert!(!config.databases.isolate);
        assert!(config.databases.postgres_url.is_some() && !format!("{config:?}").contains("hunter2"));
        let (all, own) = (config.limits.all, config.limits.plugins["hello"]);
        assert_eq!((all.memory_max, all.cpu_quota, all.tasks_max), (Some(512 << 20), Some(50), Some(128)));
        assert_eq!((all.nofile, all.disk_max, all.tmp_max), (Some(2048), Some(2 << 30), Some(32 << 20)));
        assert_eq!((own.memory_max, own.cpu_quota), (Some(64 << 20), None));
        let hello = &config.sandbox.plugins["hello"];
        assert_eq!(config.sandbox.all.policies.of(Layer::Landlock), Policy::Require);
        assert_eq!((config.sandbox.first_user, hello.policies.of(Layer::SystemCalls)), (70_000, Policy::Off));
        assert_eq!(hello.read_only_paths, [PathBuf::from("/opt/hello")]);
        assert_ne!(before, format!("{config:?}"));
    }
}
