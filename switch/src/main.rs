//! The one binary: every command of `tapswitch`.

fn main() -> std::process::ExitCode {
    tapswitch::cli::main()
}
