//! The command line as a whole.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(booleans::joined(line.split(' ').map(Into::into)))
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_s_help_has_an_example_that_starts_with_its_name() {
    fn check(command: &mut clap::Command, path: &str) {
        let help = command.render_long_help().to_string();
        let examples = help.split("Examples:\n").nth(1).unwrap_or_else(|| panic!("{path}: no example"));
        assert!(examples.lines().next().unwrap().trim_start().starts_with(path), "{path}: {examples}");
        for sub in command.get_subcommands_mut().filter(|c| c.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name());
            check(sub, &path);
        }
    }
    let mut command = Cli::command();
    command.build();
    check(&mut command, "tapswitch");
}

#[test]
fn examples_of_help_parse() {
    fn examples(command: &mut clap::Command, out: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        out.extend(
            help.lines().filter_map(|l| l.strip_prefix("  ")).filter(|l| l.starts_with("tapswitch ")).map(String::from),
        );
        command.get_subcommands_mut().for_each(|sub| examples(sub, out));
    }
    let mut all = Vec::new();
    examples(&mut Cli::command(), &mut all);
    assert!(all.len() > 30, "{}", all.len());
    for example in all {
        // The command ends where its explanation or a pipe begins.
        let line = example.split("  ").next().unwrap().split(" | ").next().unwrap();
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
}

#[test]
fn bad_usage_ends_with_2() {
    for line in [
        "tapswitch",
        "tapswitch frobnicate",
        "tapswitch run",
        "tapswitch run --bogus -- true",
        "tapswitch run -it -- sh",
        "tapswitch exec web -it sh",
        "tapswitch run --ip nonsense -- sh",
        "tapswitch exec web",
        "tapswitch attach 1 --mac ff:ff:ff:ff:ff:ff",
        "tapswitch attach 1 --network a/b",
        "tapswitch detach a/b/c",
        "tapswitch network set default",
        "tapswitch up --uplink bridge",
        "tapswitch up --icc maybe",
        "tapswitch up --offload perhaps",
        "tapswitch up --subnet 10.0.0.0/33",
        "tapswitch status --wait -1",
        "tapswitch completion",
        "tapswitch completion csh",
        "tapswitch allow web",
        "tapswitch run -p 8080:80:80 -- sh",
        "tapswitch publish web",
        "tapswitch publish web 8080:80/sctp",
        "tapswitch unpublish web 0",
        "tapswitch allow a b tcp/99999",
        "tapswitch deny a b sctp/1",
        "tapswitch attach 1 --ifname a/b",
        "tapswitch attach 1 --mac 00:00:00:00:00:00",
        "tapswitch up --workers 0",
        "tapswitch up --workers 65",
        "tapswitch up --mtu 70000",
        "tapswitch network create n --mtu 67",
        "tapswitch network set n --mtu 67",
        &format!("tapswitch --socket /{}/api.sock ls", "d".repeat(95)),
    ] {
        let error = parse(line).unwrap_err();
        assert!(error.exit_code() == 2, "{line}: {error}");
    }
}

#[test]
fn the_longest_socket_s_path_is_one() {
    assert!(parse(&format!("tapswitch --socket /{}/api.sock ls", "d".repeat(94))).is_ok());
}

#[test]
fn whatever_may_be_changed_is_named_to_who_changes_nothing() {
    let error = parse("tapswitch network set default").unwrap_err().to_string();
    for flag in ["--icc", "--mtu", "--host-access"] {
        assert!(error.contains(flag), "{error}");
    }
    assert!(parse("tapswitch network set default --mtu 9000 --icc false").is_ok());
}

#[test]
fn a_boolean_is_written_in_three_ways_everywhere() {
    for flag in booleans::FLAGS {
        for command in ["up", "network create", "network set", "--socket up network create"] {
            let name = if command == "up" { "" } else { " blue" };
            for (written, value) in [
                (flag.to_owned(), true),
                (format!("{flag}=true"), true),
                (format!("{flag} true"), true),
                (format!("{flag}=false"), false),
                (format!("{flag} false"), false),
            ] {
                for line in
                    [format!("tapswitch {command}{name} {written}"), format!("tapswitch {command} {written}{name}")]
                {
                    let cli = parse(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
                    let said = format!("{:?}", cli.command);
                    let field = flag.trim_start_matches('-').replace('-', "_");
                    assert!(said.contains(&format!("{field}: Some({value})")), "{line}: {said}");
                }
            }
        }
    }
    let Command::Run(_) = parse("tapswitch run sh --icc true").unwrap().command else { panic!("not run") };
    let words = ["tapswitch", "run", "--", "up", "--icc", "true"].map(Into::into);
    assert_eq!(booleans::joined(words.clone()), words, "they are CMD's");
}

#[test]
fn every_boolean_is_among_those_that_may_be_written_in_three_ways() {
    fn check(command: &clap::Command) {
        for arg in command.get_arguments() {
            let values = arg.get_value_names().unwrap_or_default();
            if values.iter().any(|name| name.as_str() == "true|false") {
                let flag = format!("--{}", arg.get_long().unwrap());
                assert!(booleans::FLAGS.contains(&flag.as_str()), "{flag}");
                assert!(arg.is_require_equals_set() && arg.get_num_args().unwrap().min_values() == 0, "{flag}");
            }
        }
        command.get_subcommands().for_each(check);
    }
    let mut command = Cli::command();
    command.build();
    check(&command);
}

#[test]
fn what_only_reads_gives_a_daemon_up_that_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    // The kernel connects, and nobody accepts.
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let (done, ended) = std::sync::mpsc::channel();
    let commands =
        ["ls", "fdb --json", "rules", "stats web", "network ls", "network inspect default", "exec web -- true"];
    for command in commands {
        let cli = parse(&format!("tapswitch --socket {} {command}", path.display())).unwrap();
        let done = done.clone();
        std::thread::spawn(move || done.send((command, dispatch(cli).unwrap_err().to_string())));
    }
    for _ in commands {
        let (command, error) = ended.recv_timeout(2 * READING).expect("they end");
        assert!(error.contains("no answer within 10 s") && error.contains("`tapswitch down`"), "{command}: {error}");
    }
    for command in ["detach web", "network rm blue", "allow a b"] {
        assert!(!parse(&format!("tapswitch {command}")).unwrap().command.only_reads(), "{command}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for line in ["tapswitch --help", "tapswitch ls --help", "tapswitch --version", "tapswitch network create -h"] {
        let error = parse(line).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion), "{line}");
        assert_eq!(error.exit_code(), 0);
    }
}

#[test]
fn what_follows_the_dashes_is_the_command_s() {
    let cli = parse("tapswitch run --name web -- ls --json --socket x").unwrap();
    assert!(cli.socket.is_none());
    let Command::Run(_) = cli.command else { panic!("{cli:?}") };
    for line in
        ["tapswitch exec web -- ls -l --name y", "tapswitch exec web ls -l --name y", "tapswitch run ls -l --name y"]
    {
        assert!(parse(line).is_ok(), "{line}");
    }
}

#[test]
fn the_socket_may_stand_before_or_after_the_command() {
    for line in ["tapswitch --socket /s/api.sock ls", "tapswitch ls --socket /s/api.sock"] {
        assert_eq!(parse(line).unwrap().socket.unwrap(), PathBuf::from("/s/api.sock"));
    }
}
