//! Measures tapswitch side by side with its peers, on this machine, now.
//!
//! `compare`: each backend joins two namespaces, two containers or a container and a far server; each measure runs between them.
//! `scale`: switches with more and more ports. Either is interleaved within a round, in another order each round, since a
//! machine's speed drifts by more than backends differ; ratios are taken within a round for the same reason. Nothing is
//! asserted: the reader judges.

mod backend;
mod compare;
mod folder;
mod measure;
mod namespace;
mod needs;
mod plots;
mod process;
mod progress;
mod report;
mod scale;
mod stats;
mod suite;
mod svg;
mod usage;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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
    /// TCP, UDP and round trips, between containers and out to a far server, over tapswitch and its peers
    Compare(compare::Options),
    /// What more ports cost: throughput, attaching, memory, floods
    Scale(scale::Options),
    /// Forward between TAPs in namespaces, given by process, two by two and with no lookup
    #[command(hide = true)]
    Bare {
        /// A process in each namespace: in the first, in the second, to which that leads, and so on.
        processes: Vec<u32>,
    },
    /// Serve what is measured beside iperf3
    #[command(hide = true)]
    Far {
        /// Where to listen.
        address: IpAddr,
    },
    /// Open flows, and leave them idle
    #[command(hide = true)]
    Idle {
        /// Where the other side listens.
        address: SocketAddr,
        /// How many.
        count: u32,
    },
    /// Connect, wait for the other side to end it, again
    #[command(hide = true)]
    Connect {
        /// Where the other side listens.
        address: SocketAddr,
        /// How often.
        count: u32,
    },
    /// Broadcast as fast as it goes
    #[command(hide = true)]
    Flood,
    /// Send echo requests at a steady pace
    #[command(hide = true)]
    Echo {
        /// To whom.
        address: Ipv4Addr,
        /// For how long.
        seconds: u64,
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
        Command::Scale(options) => scale::run(&options),
        Command::Bare { processes } => backend::bare::forward(&processes),
        Command::Far { address } => measure::far::serve(address),
        Command::Idle { address, count } => measure::idle::hold(address, count),
        Command::Connect { address, count } => measure::connects(address, count),
        Command::Echo { address, seconds } => measure::icmp::echo(address, Duration::from_secs(seconds)),
        Command::Flood => scale::flood::flood(),
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
