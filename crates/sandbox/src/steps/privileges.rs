//! No new privileges: a set-user-ID program that the program executes runs as the program itself.

use std::io;

/// Gives them up, for good and for everything that is executed later.
pub(crate) fn give_up() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}
