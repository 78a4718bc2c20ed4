//! Settings that are true or false: `--icc`, `--icc=false` and `--icc false` are what they seem, in every command that has them.
//!
//! clap would take the word after a bare `--icc` for its value always or never, and NAME may stand there. So a value is what
//! follows `=`, and a `true` or `false` behind the flag is joined to it before clap sees the arguments. Commands without such
//! flags keep theirs as they are: CMD of `run` may have some of its own.

use std::ffi::{OsStr, OsString};

/// The flags.
pub(super) const FLAGS: [&str; 2] = ["--icc", "--host-access"];
/// The commands that have them, and no CMD.
const COMMANDS: [&str; 2] = ["up", "network"];

/// The process's arguments as clap is to see them.
pub(super) fn joined(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if !command(&arguments).is_some_and(|word| COMMANDS.iter().any(|command| word == *command)) {
        return arguments;
    }
    let mut joined: Vec<OsString> = Vec::new();
    for word in arguments {
        match joined.last_mut() {
            Some(flag) if FLAGS.iter().any(|name| flag == name) && (word == "true" || word == "false") => {
                flag.push("=");
                flag.push(word);
            }
            _ => joined.push(word),
        }
    }
    joined
}

/// The first word that is neither a flag nor the value of the one flag that may stand before a command.
fn command(arguments: &[OsString]) -> Option<&OsStr> {
    let mut words = arguments.iter().skip(1);
    while let Some(word) = words.next() {
        if word == "--socket" {
            words.next();
        } else if !word.as_encoded_bytes().starts_with(b"-") {
            return Some(word);
        }
    }
    None
}
