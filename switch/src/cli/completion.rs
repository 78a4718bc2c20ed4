//! `tapswitch completion`: what a shell reads to complete our commands and flags, made from their definition.
//!
//! Names of endpoints and networks are not completed: the shell would have to ask the daemon.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::aot::{Shell, generate};

use super::{Cli, Outcome, output};

/// Print what a shell needs to complete commands and flags
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tapswitch completion bash     goes to ~/.local/share/bash-completion/completions/tapswitch
  tapswitch completion zsh      goes to _tapswitch in a folder of $fpath
  tapswitch completion fish     goes to ~/.config/fish/completions/tapswitch.fish

It is of this version: print it anew with another.")]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Outcome {
    output::print(&script(args.shell))?;
    Ok(ExitCode::SUCCESS)
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "tapswitch", &mut script);
    String::from_utf8(script).expect("our commands and flags are ASCII")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use clap::ValueEnum;

    use super::*;

    /// What bash makes of the last of `words`.
    fn completed(words: &str) -> Vec<String> {
        let script = format!(
            "{}\nCOMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            _tapswitch tapswitch \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script(Shell::Bash)
        );
        let output = Command::new("bash").args(["--norc", "-c", &script]).output().expect("install bash");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn bash_completes_commands_flags_and_values() {
        assert_eq!(completed("tapswitch netw"), ["network"]);
        assert_eq!(completed("tapswitch network i"), ["inspect"]);
        assert_eq!(completed("tapswitch network create --host"), ["--host-access"]);
        assert_eq!(completed("tapswitch up --uplink u"), ["user"]);
    }

    #[test]
    fn every_shell_is_told_of_every_command() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
