//! `temps plugin logs`: what a plugin has logged, and what it logs from now on.

use clap::Args;
use temps_server::api::page::Page;
use temps_server::api::plugins::{LogLine, LogQuery};

use crate::client::Client;
use crate::exit::Failure;
use crate::output::{Output, plain, time};

/// Which lines are wanted.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    name: super::Name,
    /// Go on with new lines as they come
    #[arg(long, short)]
    follow: bool,
    /// How many of the last lines
    #[arg(long, short = 'n', default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    lines: u32,
}

/// Shows the lines.
pub(crate) async fn run(arguments: Arguments, client: &Client, output: Output) -> Result<(), Failure> {
    let path = ["api", "plugins", &arguments.name.name, "logs"];
    let query = LogQuery { lines: Some(arguments.lines), follow: arguments.follow.then_some(true) };
    if !arguments.follow {
        let page: Page<LogLine> = client.get_with(&path, &query).await?;
        return output.data(&page, |page| page.items.iter().map(line).collect::<Vec<_>>().join("\n"));
    }
    let mut stream = client.stream(&path, &query).await?;
    while let Some(entry) = stream.next::<LogLine>().await? {
        output.entry(&entry, line)?;
    }
    output.say("the daemon ended the stream");
    Ok(())
}

fn line(entry: &LogLine) -> String {
    let fields = match &entry.fields {
        serde_json::Value::Object(map) if !map.is_empty() => format!("  {}", entry.fields),
        _ => String::new(),
    };
    plain(&format!("{}  {:5}  {:6}  {}{fields}", time(entry.at), entry.level, entry.stream, entry.message))
}
