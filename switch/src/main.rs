//! The one binary: every command of `tapswitch`, and its faces to container engines.

use nix::sys::signal::{SigHandler, Signal, signal};
use tapswitch::plugin::Face;
use tapswitch::{cli, plugin};

fn main() -> std::process::ExitCode {
    hear_of_children();
    let words: Vec<_> = std::env::args_os().collect();
    match Face::of(&words, std::env::var_os("CNI_COMMAND").is_some()) {
        Some((face, taken)) => plugin::main(face, words.into_iter().skip(taken)),
        None => cli::main(),
    }
}

/// Whoever starts us may ignore SIGCHLD, and that survives `execve`: nobody would tell us of a child's end, nor its status.
fn hear_of_children() {
    // SAFETY: the default action runs no code of ours.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.expect("SIGCHLD may be set");
}
