# shellcheck shell=bash
# Paths and output functions shared by the scripts in this folder. Sourced, not executed.

set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
target="${CARGO_TARGET_DIR:-$root/target}"
tools="$target/tools"
cd "$root"

# The tools of this checkout precede those of the machine, so that all checks use the same versions.
export PATH="$tools/bin:$tools/wheels-tools/bin:$tools/wheels-bench-tools/bin:$PATH"
# Needed for wheels that were installed without a virtual environment.
for folder in "$tools"/wheels-*; do
  if [ -d "$folder" ] && [ ! -e "$folder/pyvenv.cfg" ]; then
    export PYTHONPATH="$folder${PYTHONPATH:+:$PYTHONPATH}"
  fi
done

say() { printf '%s\n' "$*"; }
complain() { printf '%s\n' "$*" >&2; }
die() {
  complain "error: $*"
  exit 1
}

# seconds since $1 (a value of EPOCHREALTIME), with one decimal
since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }

# Runs `cargo test` with the given arguments, and also fails if the filter matched no test, for example after a test was
# renamed. (Explicit returns, because errexit is off in a condition.)
cargo_test_some() {
  local log="$target/last-filtered-test.log"
  mkdir -p "$target"
  cargo test "$@" 2>&1 | tee "$log" || return 1
  if ! grep -qE '^test result: ok\. [1-9][0-9]* passed' "$log"; then
    complain "error: no test matched: cargo test $*"
    return 1
  fi
}

# From here on every cargo command lints the crates of the workspace while compiling them, and lints are errors: clippy-driver
# is rustc with lints, so one pass both checks and compiles. All commands that share a build must use it.
lint_while_compiling() {
  local sample="$target/lint-sample"
  RUSTC_WORKSPACE_WRAPPER="$(rustc --print sysroot)/bin/clippy-driver"
  [ -x "$RUSTC_WORKSPACE_WRAPPER" ] || die "clippy is missing: rustup component add clippy"
  export RUSTC_WORKSPACE_WRAPPER CLIPPY_ARGS=-Dwarnings
  # The interface between cargo-clippy and clippy-driver is internal, so this verifies that a lint is reported.
  mkdir -p "$target"
  printf 'fn main() { std::process::exit(i32::from([0].len() == 0)) }\n' >"$sample.rs"
  if "$RUSTC_WORKSPACE_WRAPPER" rustc --edition 2024 --emit=metadata -o "$sample.rmeta" "$sample.rs" 2>"$sample.log" ||
    ! grep -q 'clippy::len.zero' "$sample.log"; then
    die "clippy-driver did not report the lint in $sample.rs: use cargo clippy"
  fi
}
