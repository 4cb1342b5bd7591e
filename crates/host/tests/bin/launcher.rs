//! For tests: a program with the launcher line, and a small host that is there to be killed.
//!
//! `launcher PROGRAM DIRECTORY` starts a plugin, prints the process id that it has for the host, and waits to be killed.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks with the test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use temps_host::plugin::process::{Launcher, SpawnSpec};
use temps_host::sandbox::SandboxSpec;
use temps_host::secrets::Secret;

#[tokio::main(flavor = "current_thread")]
async fn host(program: &str, directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let spec = SpawnSpec {
        program: program.into(),
        name: None,
        socket: directory.join("s"),
        secret: Secret::generate()?,
        data_dir: directory.to_owned(),
        tmp_dir: directory.to_owned(),
        sandbox: SandboxSpec::processes_only(),
        egress: None,
        env: BTreeMap::new(),
    };
    let process = Launcher::prepare(None).await?.spawn(&spec).await?;
    println!("{}", process.pid().ok_or("the plugin ended")?);
    process.gone().await;
    Ok(())
}

fn main() -> ExitCode {
    temps_host::launcher();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [program, directory] = args.as_slice() else {
        eprintln!("usage: launcher PROGRAM DIRECTORY");
        return ExitCode::from(2);
    };
    match host(program, Path::new(directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
