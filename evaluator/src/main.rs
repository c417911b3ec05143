//! The program `evaluator`.

use std::process::ExitCode;

fn main() -> ExitCode {
    evaluator::main(revision::revision!())
}
