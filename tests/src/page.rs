//! The commands that a page of the documentation tells its reader to type.

use std::path::Path;

/// A shell script of the commands in docs/`page`, in its order: indented lines that start with `prompt`, as `# `, what follows one
/// up to END where it ends in `<<END`, and the next line where it ends in a backslash.
///
/// # Panics
/// When there is no such page, or no command on it.
#[track_caller]
pub fn page_commands(page: &str, prompt: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut script = String::new();
    let mut end = End::Here;
    for line in text.lines().filter_map(|line| line.strip_prefix("    ")) {
        let line = match end {
            End::Here => match line.strip_prefix(prompt) {
                Some(command) => command,
                None => continue,
            },
            End::Document | End::NextLine => line,
        };
        script += line;
        script.push('\n');
        end = match end {
            End::Document if line != "END" => End::Document,
            _ if line.ends_with("<<END") => End::Document,
            _ if line.ends_with('\\') => End::NextLine,
            _ => End::Here,
        };
    }
    assert!(!script.is_empty(), "{page} has no command at `{prompt}`");
    script
}

/// Where a command ends.
enum End {
    /// With its line.
    Here,
    /// At the line END.
    Document,
    /// With the next line, or after it.
    NextLine,
}
