//! The `nightferry` binary. Everything is in the library, so that tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightferry::main_with(std::env::args_os())
}
