//! The commands: one file each, over the control API's client.
//!
//! A command returns the status it ends with, or an error, which becomes one line on stderr and status 1. Bad usage ends
//! with 2, from clap. Nothing is written to stdout but through `output`, so that `tapswitch ls | head` ends quietly.
//! Threads: one; only `demo` makes others, and joins them before it forks again.

mod args;
mod attach;
mod booleans;
mod completion;
mod container;
mod demo;
mod detach;
mod doctor;
mod down;
mod exec;
mod fdb;
mod install;
mod ls;
mod network;
mod output;
mod publish;
mod resolv_conf;
mod rules;
mod run;
mod signals;
mod stats;
mod status;
mod table;
mod up;
mod userns;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Parser, Subcommand};

use crate::daemon::api::client::Client;
use crate::daemon::settings;

/// How long the daemon has to answer a command that only reads: twice what `status` gives it, for the longest lists. What
/// changes something may take longer.
const READING: Duration = Duration::from_secs(10);

/// A userspace virtual switch for containers: what docker0 does, without a bridge, veth or netfilter.
#[derive(Debug, Parser)]
#[command(
    name = "tapswitch",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Examples:
  tapswitch demo                       see it work, as root or not
  tapswitch up -d                      start the switch in the background
  tapswitch run --name web -- sh       a shell on the default network
  tapswitch attach 4711                give process 4711's namespace an eth0
  tapswitch ls                         what is attached

X, FROM and TO are [NETWORK/]NAME. Exit status: 0 done, 1 failed, 2 bad usage."
)]
struct Cli {
    /// The daemon's api.sock; attach.sock lies beside it [default: in /run/tapswitch or $XDG_RUNTIME_DIR/tapswitch]
    #[arg(long, global = true, env = "TAPSWITCH_SOCKET", hide_env_values = true, value_name = "PATH", value_parser = socket_path())]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(Box<up::Args>),
    Down(down::Args),
    Run(run::Args),
    Exec(exec::Args),
    Attach(attach::Args),
    Detach(detach::Args),
    Network(network::Args),
    Ls(ls::Args),
    Fdb(fdb::Args),
    Allow(rules::AllowArgs),
    Deny(rules::DenyArgs),
    Rules(rules::ListArgs),
    Publish(publish::PublishArgs),
    Unpublish(publish::UnpublishArgs),
    Stats(stats::Args),
    Status(status::Args),
    Doctor(doctor::Args),
    Install(install::Args),
    Demo(demo::Args),
    Completion(completion::Args),
}

impl Command {
    /// Whether all it asks of the daemon is what is there.
    fn only_reads(&self) -> bool {
        match self {
            Command::Ls(_) | Command::Fdb(_) | Command::Rules(_) | Command::Stats(_) | Command::Exec(_) => true,
            Command::Network(args) => args.only_reads(),
            _ => false,
        }
    }
}

/// Paths need not be UTF-8.
fn socket_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| settings::check_socket(&path).map(|()| path))
}

/// What a command ends with.
type Outcome = anyhow::Result<ExitCode>;

/// Runs the command that the process's arguments name, and returns its exit status.
pub fn main() -> ExitCode {
    let cli = Cli::parse_from(booleans::joined(std::env::args_os()));
    // `run` and `exec` keep 1 for CMD, as docker does.
    let failure = if matches!(cli.command, Command::Run(_) | Command::Exec(_)) { run::OURS } else { 1 };
    dispatch(cli).unwrap_or_else(|error| {
        if !output::is_reader_gone(&error) {
            output::complain(&output::one_line(&error));
            return ExitCode::from(failure);
        }
        ExitCode::SUCCESS
    })
}

fn dispatch(cli: Cli) -> Outcome {
    let only_reads = cli.command.only_reads();
    let client = || -> anyhow::Result<Client> {
        let client = Client::new(match &cli.socket {
            Some(path) => path.clone(),
            None => settings::default_run_dir()?.join("api.sock"),
        });
        Ok(if only_reads { client.within(READING) } else { client })
    };
    match cli.command {
        Command::Up(args) => up::run(*args, cli.socket.as_deref()),
        Command::Demo(args) => demo::run(&args),
        Command::Completion(args) => completion::run(&args),
        Command::Doctor(args) => doctor::run(&args, &client()?),
        Command::Install(args) => install::run(&args, cli.socket.as_deref()),
        Command::Down(args) => down::run(&args, &client()?),
        Command::Run(args) => run::run(args, &client()?),
        Command::Exec(args) => exec::run(&args, &client()?),
        Command::Attach(args) => attach::run(args, &client()?),
        Command::Detach(args) => detach::run(&args, &client()?),
        Command::Network(args) => network::run(args, &client()?),
        Command::Ls(args) => ls::run(&args, &client()?),
        Command::Fdb(args) => fdb::run(&args, &client()?),
        Command::Allow(args) => rules::allow(args, &client()?),
        Command::Deny(args) => rules::deny(args, &client()?),
        Command::Rules(args) => rules::list(&args, &client()?),
        Command::Publish(args) => publish::publish(&args, &client()?),
        Command::Unpublish(args) => publish::unpublish(args, &client()?),
        Command::Stats(args) => stats::run(&args, &client()?),
        Command::Status(args) => status::run(&args, &client()?),
    }
}

#[cfg(test)]
mod tests;
