//! For tests: a program that attacks. One attack for each call, whose outcome is one line.
//!
//! `attack victim DIRECTORY` is what is attacked: it runs outside, offers everything that an attack aims at, and prints where that
//! is. `attack NAME KEY=VALUE...` tries one attack with those places, and prints `through`, `held` or `untestable`, and why.
//!
//! An attack that changes something runs only where it can do no harm: never in the mount namespace of the machine that the
//! test runs on, which the test names with `host_mnt=`. In the virtual machine everything is allowed.
#![expect(clippy::print_stdout, reason = "the outcome is what it is for")]

mod files;
mod kernel;
mod network;
mod processes;
mod resources;
mod victim;

use std::collections::BTreeMap;
use std::io;
use std::process::ExitCode;

/// What became of an attack.
pub(crate) enum Outcome {
    /// It did what it was to do.
    Through(String),
    /// Something stopped it.
    Held(String),
    /// It cannot succeed here in any case, so that its failure shows nothing.
    Untestable(String),
}

/// Places of the victim and of the attacker, by name.
pub(crate) struct Places(BTreeMap<String, String>);

/// An attack, and whether it changes something.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) mutates: bool,
    pub(crate) run: fn(&Places) -> Outcome,
}

impl Places {
    pub(crate) fn text(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    pub(crate) fn number(&self, key: &str) -> i32 {
        self.text(key).parse().unwrap_or(0)
    }
}

impl Outcome {
    /// An attack that is done when the call succeeds.
    pub(crate) fn of<T>(done: io::Result<T>, what: &str) -> Self {
        match done {
            Ok(_) => Outcome::Through(what.to_owned()),
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                Outcome::Untestable(format!("{what}: the kernel does not have it"))
            }
            Err(error) => Outcome::Held(format!("{what}: {error}")),
        }
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = args.split_first() else {
        println!("usage: attack NAME KEY=VALUE...");
        return ExitCode::from(2);
    };
    if name == "victim" {
        return victim::run(rest.first().map_or("/tmp", String::as_str));
    }
    let all =
        [files::ATTACKS, kernel::ATTACKS, network::ATTACKS, processes::ATTACKS, resources::ATTACKS].concat();
    let Some(attack) = all.iter().find(|attack| attack.name == name) else {
        println!("no attack has the name {name}");
        return ExitCode::from(2);
    };
    let pairs = rest.iter().filter_map(|pair| pair.split_once('='));
    let places = Places(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
    if attack.mutates && !may_change(&places) {
        println!("untestable it changes something, and this is the machine's own mount namespace");
        return ExitCode::from(2);
    }
    match (attack.run)(&places) {
        Outcome::Through(what) => println!("through {what}"),
        Outcome::Held(why) => println!("held {why}"),
        Outcome::Untestable(why) => println!("untestable {why}"),
    }
    ExitCode::SUCCESS
}

/// Whether this is a place in which a change does no harm.
fn may_change(places: &Places) -> bool {
    let virtual_machine =
        std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("User Mode Linux"));
    let own = std::fs::read_link("/proc/self/ns/mnt").map(|link| link.display().to_string());
    let host = places.text("host_mnt");
    virtual_machine || (!host.is_empty() && own.is_ok_and(|own| own != host))
}

impl Clone for Attack {
    fn clone(&self) -> Self {
        Self { name: self.name, mutates: self.mutates, run: self.run }
    }
}

/// The result of a system call.
pub(crate) fn result(returned: i64) -> io::Result<i64> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}
