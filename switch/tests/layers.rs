//! The arrows between the layers point down. Reads every `crate::` path of the sources, so that no import goes
//! unnoticed, and fails with the list of those that point up.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lowest first. Those on one line know nothing of each other.
const LAYERS: &[&[&str]] = &[
    &["frame", "persistent"],
    &["forwarding"],
    &["port"],
    &["engine"],
    &["gateway"],
    &["uplink"],
    &["daemon"],
    &["cli", "plugin"],
];

#[test]
fn a_lower_layer_never_imports_a_higher_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in sources(&root) {
        let inside = file.strip_prefix(&root).expect("found below the root");
        let layer = inside.iter().next().and_then(|part| Path::new(part).file_stem()).expect("a file has a name");
        let layer = layer.to_str().expect("our files have plain names");
        if inside.components().count() == 1 && ["lib", "main"].contains(&layer) {
            continue;
        }
        let text = fs::read_to_string(&file).expect("read a source file");
        for target in targets(&text) {
            if !may_import(layer, &target) {
                wrong.push(format!("{}: crate::{target}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that point up, or to no layer:\n{}", wrong.join("\n"));
}

#[test]
fn ipam_and_netns_know_neither_each_other_nor_the_switch() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in a workspace");
    for (package, forbidden) in [("ipam", "tapswitch_netns"), ("netns", "tapswitch_ipam")] {
        let mut files = sources(&workspace.join(package).join("src"));
        files.push(workspace.join(package).join("Cargo.toml"));
        for file in files {
            let text = code(&fs::read_to_string(&file).expect("read a source file")).replace('-', "_");
            for name in [forbidden, "tapswitch::", "tapswitch.workspace", "tapswitch ="] {
                assert!(!text.contains(name), "{} names {name}", file.display());
            }
        }
    }
}

#[test]
fn the_reader_of_paths_sees_groups_nesting_and_inline_paths_but_no_comments() {
    let text = "use crate::{frame::{Mac, Frame}, port};\n//! [`crate::cli`]\nlet x = crate::engine::start(); // crate::daemon\n";
    assert_eq!(targets(text), ["engine", "frame", "port"].map(String::from).into());
}

#[test]
fn siblings_and_unknown_modules_may_not_be_imported() {
    assert!(may_import("daemon", "frame"));
    assert!(may_import("cli", "cli"));
    assert!(!may_import("frame", "forwarding"));
    assert!(!may_import("cli", "plugin"));
    assert!(!may_import("cli", "utils"));
    assert!(!may_import("utils", "frame"));
}

fn may_import(from: &str, to: &str) -> bool {
    let height = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    match (height(from), height(to)) {
        (Some(from_height), Some(to_height)) => from == to || to_height < from_height,
        _ => false,
    }
}

/// The first names of all `crate::` paths. A macro's path to this crate's root may name a function; none does here.
fn targets(text: &str) -> BTreeSet<String> {
    let text = code(text);
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(top_names(group)),
            None => found.extend(name(rest)),
        }
    }
    found
}

/// The first name of each member of a `{..}` group.
fn top_names(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut expect) = (0, Vec::new(), true);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expect = true,
            _ if expect && !letter.is_whitespace() => {
                names.extend(name(&group[at..]));
                expect = false;
            }
            _ => {}
        }
    }
    names
}

fn name(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// Without what follows `//` or, in a manifest, `#`: documentation may name whom it likes.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines
        .map(|line| {
            if line.contains("#[") { line } else { line.split(" #").next().unwrap_or_default() }.to_owned() + "\n"
        })
        .collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("list a source folder") {
        let path = entry.expect("list a source folder").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}
