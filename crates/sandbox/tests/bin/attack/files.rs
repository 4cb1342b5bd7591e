//! Attacks on files: those of others, its own program, and places from which something could be executed.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use crate::{Attack, Outcome, Places};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "read_file", mutates: false, run: read_file },
    Attack { name: "list_directory", mutates: false, run: list_directory },
    Attack { name: "write_file", mutates: true, run: write_file },
    Attack { name: "unix_socket", mutates: false, run: unix_socket },
    Attack { name: "write_program", mutates: true, run: write_program },
    Attack { name: "execute_from_data", mutates: true, run: execute_from_data },
    Attack { name: "execute_from_tmp", mutates: true, run: execute_from_tmp },
    Attack { name: "set_user_id", mutates: true, run: set_user_id },
];

fn read_file(places: &Places) -> Outcome {
    Outcome::of(fs::read(places.text("file")), "read a file of another")
}

fn list_directory(places: &Places) -> Outcome {
    Outcome::of(fs::read_dir(places.text("directory")), "listed a directory of another")
}

fn write_file(places: &Places) -> Outcome {
    let opened = OpenOptions::new().append(true).open(places.text("file"));
    Outcome::of(opened.and_then(|mut file| file.write_all(b"!")), "wrote to a file of another")
}

fn unix_socket(places: &Places) -> Outcome {
    Outcome::of(UnixStream::connect(places.text("socket")), "connected to a socket of another")
}

fn write_program(places: &Places) -> Outcome {
    // Nothing is written: that it can be opened for writing is enough.
    Outcome::of(OpenOptions::new().append(true).open(places.text("program")), "opened a program to change it")
}

fn execute_from_data(places: &Places) -> Outcome {
    execute_copy(places.text("data"))
}

fn execute_from_tmp(_: &Places) -> Outcome {
    execute_copy("/tmp")
}

fn execute_copy(directory: &str) -> Outcome {
    let copy = Path::new(directory).join("dropped");
    let ran = fs::copy("/bin/true", &copy)
        .and_then(|_| fs::set_permissions(&copy, Permissions::from_mode(0o755)))
        .and_then(|()| Command::new(&copy).status());
    let _ = fs::remove_file(&copy);
    Outcome::of(ran, &format!("executed a program that it put into {directory}"))
}

fn set_user_id(places: &Places) -> Outcome {
    let file = Path::new(places.text("data")).join("set-user-id");
    let done =
        fs::write(&file, "x").and_then(|()| fs::set_permissions(&file, Permissions::from_mode(0o4755)));
    let bits = fs::metadata(&file).map(|found| found.permissions().mode() & 0o4000);
    let _ = fs::remove_file(&file);
    match (done, bits) {
        (Ok(()), Ok(0)) => Outcome::Held("the bit was taken away".into()),
        (done, _) => Outcome::of(done, "made a set-user-ID program"),
    }
}
