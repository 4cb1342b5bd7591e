//! `temps plugin config`: a plugin's settings. Values of secrets come in, from stdin if wanted, and never go out.

use std::io::{IsTerminal, Read};

use clap::{Args, Subcommand};
use serde_json::{Map, Value};
use temps_server::api::config::{ConfigQuery, PluginConfig, Setting};

use super::Name;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{Output, plain, table};

/// Most bytes that are read from stdin or a file; the daemon takes 64 KiB of settings.
const MAX_INPUT: u64 = 1024 * 1024;

/// What can be done with a plugin's settings.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show a plugin's settings, or the value of one
    Get {
        #[command(flatten)]
        name: Name,
        /// The setting; all when left out
        key: Option<String>,
    },
    /// Set settings; they count at once, and a plugin that waits for them starts
    Set(Set),
    /// Unset settings, so that their defaults count
    Unset {
        #[command(flatten)]
        name: Name,
        /// The settings
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
        /// Also what the plugin cannot run without; it is held then
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    name: Name,
    /// Settings as KEY=VALUE; a VALUE that is no text is JSON. A KEY alone takes its value from stdin, so that a secret need
    /// not stand on a command line
    #[arg(value_name = "KEY[=VALUE]")]
    settings: Vec<String>,
    /// A file with settings, a JSON object; `-` reads it from stdin
    #[arg(long, value_name = "FILE")]
    file: Option<String>,
    /// Unset all settings that are not named, but for secrets
    #[arg(long)]
    replace: bool,
    /// Change them only if they have this revision
    #[arg(long)]
    revision: Option<i64>,
    /// Also when something goes that the plugin cannot run without; it is held then
    #[arg(long)]
    force: bool,
}

/// Does what was asked.
pub(crate) async fn run(command: Command, client: &Client, output: Output) -> Result<(), Failure> {
    match command {
        Command::Get { name: Name { name }, key: None } => {
            let config: PluginConfig = client.get(&["api", "plugins", &name, "config"]).await?;
            output.data(&config, text)
        }
        Command::Get { name: Name { name }, key: Some(key) } => {
            let config: PluginConfig = client.get(&["api", "plugins", &name, "config"]).await?;
            let setting = config.settings.into_iter().find(|setting| setting.name == key);
            let setting = setting.ok_or_else(|| {
                Failure::new(
                    crate::exit::Exit::NotFound,
                    "not_found",
                    format!("{name} has no setting {key:?}"),
                )
                .hint(format!("`temps plugin config get {name}` shows all"))
            })?;
            output.data(&setting, value)
        }
        Command::Set(set) => run_set(set, client, output).await,
        Command::Unset { name: Name { name }, keys, force } => {
            let unset: Map<String, Value> = keys.into_iter().map(|key| (key, Value::Null)).collect();
            let query = ConfigQuery { force: force.then_some(true), revision: None };
            let config: PluginConfig =
                client.patch_with(&["api", "plugins", &name, "config"], &query, &unset).await?;
            output.data(&config, text)
        }
    }
}

async fn run_set(set: Set, client: &Client, output: Output) -> Result<(), Failure> {
    let name = &set.name.name;
    let path = ["api", "plugins", name, "config"];
    let mut values = match &set.file {
        Some(file) => from_file(file)?,
        None => Map::new(),
    };
    if set.settings.is_empty() && set.file.is_none() {
        return Err(Failure::usage("no setting was named")
            .hint(format!("name them as KEY=VALUE; `temps plugin config get {name}` shows what there is")));
    }
    let mut stdin_taken = set.file.as_deref() == Some("-");
    // The schema says which values are texts.
    let config: PluginConfig = client.get(&path).await?;
    for setting in &set.settings {
        let (key, text) = match setting.split_once('=') {
            Some((key, text)) => {
                if config.settings.iter().any(|setting| setting.name == key && setting.secret) {
                    output.say(&format!(
                        "{key} is a secret and stood on the command line, where others may see it; \
                         `temps plugin config set {name} {key}` reads it from stdin"
                    ));
                }
                (key, text.to_owned())
            }
            None if stdin_taken => {
                return Err(Failure::usage("only one value can be read from stdin")
                    .hint("set one after the other, or give all in a file with --file"));
            }
            None => {
                stdin_taken = true;
                (setting.as_str(), from_stdin(setting, output)?)
            }
        };
        values.insert(key.to_owned(), meant(&config, key, text));
    }
    let query = ConfigQuery { revision: set.revision, force: set.force.then_some(true) };
    let config: PluginConfig = if set.replace {
        client.put_with(&path, &query, &values).await?
    } else {
        client.patch_with(&path, &query, &values).await?
    };
    output.data(&config, text)
}

/// What a text on the command line stands for: itself where the schema wants a text, otherwise the JSON that it is, or itself.
fn meant(config: &PluginConfig, key: &str, text: String) -> Value {
    let wanted = config.schema.as_ref().map(|schema| &schema["properties"][key]["type"]);
    if wanted.is_some_and(|wanted| wanted == "string") {
        return Value::String(text);
    }
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

fn from_file(file: &str) -> Result<Map<String, Value>, Failure> {
    let wrong = |what: &str| Failure::usage(format!("{file} {what}"));
    let bytes =
        if file == "-" { read(std::io::stdin().lock()) } else { std::fs::File::open(file).and_then(read) };
    let text = bytes.map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    // No word of the content: it may hold secrets.
    match serde_json::from_str(&text) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(_) => Err(wrong("must hold one JSON object with the settings")),
        Err(error) => Err(wrong(&format!("is no JSON: line {}, column {}", error.line(), error.column()))),
    }
}

fn from_stdin(key: &str, output: Output) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    let text = if stdin.is_terminal() {
        output.say(&format!("value of {key} (it is not shown), then Enter:"));
        let _silent = Silent::begin();
        let mut line = String::new();
        stdin.read_line(&mut line).map(|_| line)
    } else {
        read(stdin.lock())
    };
    let text =
        text.map_err(|error| Failure::usage(format!("cannot read the value of {key} from stdin: {error}")))?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        return Err(Failure::usage(format!("no value for {key} came on stdin"))
            .hint(format!("for example: printf %s \"$VALUE\" | temps plugin config set PLUGIN {key}")));
    }
    Ok(text.to_owned())
}

fn read(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(MAX_INPUT).read_to_string(&mut text)?;
    Ok(text)
}

/// Keeps a terminal from showing what is typed, until it is dropped.
struct Silent(Option<rustix::termios::Termios>);

impl Silent {
    fn begin() -> Self {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let stdin = std::io::stdin();
        let Ok(before) = tcgetattr(&stdin) else { return Self(None) };
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        let done = tcsetattr(&stdin, OptionalActions::Flush, &silent);
        Self(done.is_ok().then_some(before))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // The terminal may be gone, and then nothing is to be put back.
            let _ =
                rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Flush, before);
        }
    }
}

fn text(config: &PluginConfig) -> String {
    if config.settings.is_empty() {
        return plain(&format!("{} has no settings", config.plugin));
    }
    let rows = config.settings.iter().map(|setting| {
        let is = match (setting.set, setting.required) {
            _ if !setting.declared => "left over",
            (true, _) => "set",
            (false, true) => "missing",
            (false, false) if setting.value.is_some() => "default",
            (false, false) => "not set",
        };
        [setting.name.clone(), value(setting), is.to_owned(), setting.description.clone().unwrap_or_default()]
    });
    let mut text = table(["SETTING", "VALUE", "STATE", "DESCRIPTION"], rows);
    for problem in &config.problems {
        let path = if problem.path.is_empty() { "all".to_owned() } else { problem.path.clone() };
        text.push_str(&format!("\n{}", plain(&format!("{path}: {}", problem.message))));
    }
    text
}

fn value(setting: &Setting) -> String {
    match &setting.value {
        _ if setting.secret && setting.set => "(secret)".to_owned(),
        Some(Value::String(text)) => plain(text),
        Some(value) => plain(&value.to_string()),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_is_what_the_schema_wants_it_to_be() {
        let config = PluginConfig {
            plugin: "p".into(),
            revision: 0,
            updated_at: None,
            updated_by: None,
            settings: Vec::new(),
            problems: Vec::new(),
            schema: Some(json!({"properties": {"text": {"type": "string"}, "count": {"type": "integer"}}})),
        };
        assert_eq!(meant(&config, "text", "12".into()), json!("12"));
        assert_eq!(meant(&config, "count", "12".into()), json!(12));
        assert_eq!(meant(&config, "unknown", "[1]".into()), json!([1]));
        assert_eq!(meant(&config, "unknown", "#ops".into()), json!("#ops"));
    }
}
