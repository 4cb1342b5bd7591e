//! The program of the scripted plugins that check a host. `temps host test` puts copies of it into a plugins directory.

fn main() -> std::process::ExitCode {
    temps_conformance::hosts::plugin::main()
}
