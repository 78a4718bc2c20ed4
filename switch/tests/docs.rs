//! The reference pages say what the code says: every drop reason, every command, every flag.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use tapswitch::forwarding::{DropReason, EgressDrop};

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text of `page` under `heading`, up to the next one of its level or above.
fn section<'a>(page: &'a str, heading: &str) -> Option<&'a str> {
    let start = page.lines().position(|line| line == heading)?;
    let level = heading.split(' ').next()?.len();
    let ends = |line: &str| (1..=level).any(|n| line.starts_with(&format!("{} ", "#".repeat(n))));
    let offset = |line: usize| page.split_inclusive('\n').take(line).map(str::len).sum::<usize>();
    let end = page.lines().skip(start + 1).position(ends).map_or(page.len(), |more| offset(start + 1 + more));
    Some(&page[offset(start)..end])
}

/// The names in the first column of a section's table.
fn rows(section: &str) -> BTreeSet<&str> {
    section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

/// What the program says to `words` and `--help`.
fn help(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tapswitch")).args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "{words:?} --help: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<&str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // What goes on in a second line is indented deeper.
    let names = listed.filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
    names.filter_map(|rest| rest.split(' ').next()).filter(|name| *name != "help").collect()
}

/// The long flags of a help text, without those that every command has.
fn flags(help: &str) -> BTreeSet<&str> {
    let defined = help.lines().filter(|line| line.trim_start().starts_with('-'));
    let words = defined.flat_map(|line| line.split([' ', ',', '[']).filter(|word| word.starts_with("--")).take(1));
    words.filter(|flag| !["--help", "--version", "--socket"].contains(flag)).collect()
}

#[test]
fn every_drop_reason_has_its_line_and_every_line_its_reason() {
    let page = page("drop-reasons.md");
    let ingress: BTreeSet<&str> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    let egress: BTreeSet<&str> = EgressDrop::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(rows(section(&page, "## Ingress").expect("a section Ingress")), ingress);
    assert_eq!(rows(section(&page, "## Egress").expect("a section Egress")), egress);
}

#[test]
fn every_command_has_its_section_with_every_flag_and_an_example() {
    let page = page("cli.md");
    let top = help(&[]);
    let mut paths: Vec<Vec<&str>> = commands(&top).into_iter().map(|name| vec![name]).collect();
    assert!(paths.len() > 10, "{top}");
    let network = help(&["network"]);
    paths.extend(commands(&network).into_iter().map(|verb| vec!["network", verb]));
    for path in &paths {
        let command = format!("tapswitch {}", path.join(" "));
        let heading = format!("{} {command}", "#".repeat(1 + path.len()));
        let section = section(&page, &heading).unwrap_or_else(|| panic!("docs/cli.md has no `{heading}`"));
        assert!(section.contains(&format!("    # {command}")), "no example of `{command}`");
        for flag in flags(&help(path)) {
            assert!(section.contains(&format!("`{flag}")), "docs/cli.md does not speak of {flag} of `{command}`");
        }
    }
}

#[test]
fn every_section_of_a_command_is_one_of_the_program() {
    let page = page("cli.md");
    for line in page.lines() {
        let Some(command) = line.strip_prefix("## tapswitch ").or_else(|| line.strip_prefix("### tapswitch ")) else {
            continue;
        };
        help(&command.split(' ').collect::<Vec<_>>());
    }
}

/// Links of the pages to files of this repository: a file that was renamed must not leave one behind.
#[test]
fn every_link_to_a_file_leads_to_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.chain(["README.md", "CHANGELOG.md"].map(|name| root.join(name)));
    for page in pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let file = page.parent().unwrap().join(target);
            assert!(file.exists(), "{}: {target} leads nowhere", page.display());
        }
    }
}
