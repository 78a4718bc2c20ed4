//! The faces that container engines speak to: each is this program started by an engine for one question, over the control
//! API's client.
//!
//! | face | who starts it | asks by | answers by |
//! |---|---|---|---|
//! | [`cni`] | containerd, CRI-O, podman 4, nerdctl | environment, configuration on stdin | JSON on stdout |
//! | [`netavark`] | podman 4.5 and later | argument, request on stdin | JSON on stdout |
//! | [`oci`] | runc, crun, podman as a hook | state on stdin | its exit status |
//!
//! A face opens the namespace itself and passes its descriptor: the daemon opens no path for it, and engines keep theirs in
//! private mount namespaces. Nothing but the answer goes to stdout. Limit: [`MAX_REQUEST`]. Threads: one.

mod cni;
mod face;
mod holder;
mod inside;
mod netavark;
mod oci;
mod ports;
mod socket;
mod switch;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

pub use face::Face;

/// Longest request, in bytes: a configuration with its previous result has a few thousand, a list of valid attachments some
/// hundred for each container.
const MAX_REQUEST: u64 = 4 << 20;

/// A face to container engines, which start it; docs/cli.md names the page of each.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// The daemon's api.sock; attach.sock lies beside it [default: in /run/tapswitch or $XDG_RUNTIME_DIR/tapswitch]
    #[arg(long, env = "TAPSWITCH_SOCKET", hide_env_values = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// What the engine says
    words: Vec<String>,
}

/// Answers as `face`; `words` are the arguments behind its name.
pub fn main(face: Face, words: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(std::iter::once(OsString::from(face.link())).chain(words));
    match face {
        Face::Cni => cni::main(arguments.socket),
        Face::Netavark => netavark::main(&arguments.words, arguments.socket),
        Face::Oci => oci::main(arguments.socket),
    }
}

/// All of stdin.
fn request() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(MAX_REQUEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_REQUEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {MAX_REQUEST} bytes")));
    }
    Ok(bytes)
}

/// Writes the answer. An engine that reads no more has given up on it, and there is nobody left to tell.
fn answer(value: &serde_json::Value) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}

/// Writes a line for people to stderr, which engines pass on. Where nobody reads that, there is nobody left to tell.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "tapswitch: {text}");
}
