//! The one binary: every command of `tapswitch`, and its faces to container engines.

use tapswitch::plugin::Face;
use tapswitch::{cli, plugin};

fn main() -> std::process::ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    match Face::of(&words, std::env::var_os("CNI_COMMAND").is_some()) {
        Some((face, taken)) => plugin::main(face, words.into_iter().skip(taken)),
        None => cli::main(),
    }
}
