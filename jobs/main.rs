//! The `convoke` program: see `convoke --help`.

fn main() -> std::process::ExitCode {
    convoke::cli::main()
}
