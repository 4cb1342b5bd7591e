//! The temps command.

fn main() {}
