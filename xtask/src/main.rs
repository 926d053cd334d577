//! Chores of the repository, as one program that needs nothing but a Rust toolchain: `cargo xtask help`.
//!
//! One module per chore. A chore takes the words behind its name and returns its exit code: 0 done, 1 something is
//! wrong with what it looked at, 2 it was asked for something that does not exist.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a chore's results are what it prints")]

use std::process::ExitCode;

mod bench;
mod npm;
mod repository;
mod test;
mod tidy;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let chore = words.next();
    let words: Vec<String> = words.collect();
    match chore.as_deref() {
        Some("bench") => bench::run(&words),
        Some(bench::FLOOR_CHORE) => bench::run_floor(&words),
        Some("test") => test::run(&words),
        Some("tidy") => tidy::run(&words),
        None | Some("help" | "-h" | "--help") => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Some(chore) => {
            eprintln!("there is no chore {chore:?}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

const HELP: &str = "\
Usage: cargo xtask CHORE [WORDS]

Chores:
  bench   measure the server against the floor (cargo xtask bench --help)
  test    run everything that must hold, and install what that needs (cargo xtask test --help)
  tidy    check the structure: layers, sizes, words, links
  help    print this";
