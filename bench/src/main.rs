//! Measures tapswitch side by side with its peers, on this machine, now.
//!
//! Each backend joins two namespaces; each measure runs between them. The backends are interleaved within a round, in
//! another order each round, since a machine's speed drifts by more than the backends differ; ratios are taken within a
//! round for the same reason. Nothing is asserted: the reader judges.

mod backend;
mod compare;
mod measure;
mod namespace;
mod process;
mod report;
mod stats;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Measures tapswitch side by side with its peers.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// TCP, small UDP and round trips over tapswitch, the kernel bridge, and a bare loop
    Compare(compare::Options),
    /// Forward between TAPs in two namespaces, given by process, with no lookup
    #[command(hide = true)]
    Bare {
        /// A process in the first namespace.
        a: u32,
        /// A process in the second.
        b: u32,
    },
    /// Answer each byte
    #[command(hide = true)]
    Pong {
        /// Where to listen.
        address: SocketAddr,
    },
    /// Send a byte, wait for it, again
    #[command(hide = true)]
    Ping {
        /// Where the other side listens.
        address: SocketAddr,
        /// For how long.
        seconds: u64,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Compare(options) => compare::run(&options),
        Command::Bare { a, b } => backend::bare::forward(a, b),
        Command::Pong { address } => measure::pingpong::pong(address),
        Command::Ping { address, seconds } => measure::pingpong::ping(address, Duration::from_secs(seconds)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tapswitch-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
