//! The `nightferry` program, built together with the tests so that they never use an outdated one. It ends when its
//! standard input closes: no test leaves one behind, however the test ends.

use std::io::Read as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    std::thread::spawn(|| {
        // End of input and an error both mean that the test has ended.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(86);
    });
    nightferry::main_with(std::env::args_os())
}
