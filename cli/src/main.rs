//! The `nightferry` binary. All code is in the library, where tests can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightferry::main_with(std::env::args_os())
}
