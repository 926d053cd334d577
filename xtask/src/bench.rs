//! `xtask bench`: the server and the floors under the same loads, in turn, and a table of what they cost.
//!
//! It measures and does not judge: targets are printed beside the figures, and only a run that lost something or broke
//! makes the exit code other than zero.
//!
//! - `options`: what was asked for.
//! - `servers`: how each server is started and spoken to.
//! - `report`: medians and the table.

use std::collections::BTreeSet;
use std::process::{Command, ExitCode};

use switchboard_testkit::bench::floor::{Floor, Mode};
use switchboard_testkit::bench::load::{self, Endpoint, Measurement};
use switchboard_testkit::bench::probe;
use switchboard_testkit::bench::process::Server;
use switchboard_testkit::bench::scenario::Scenario;
use switchboard_testkit::bench::sys;
use switchboard_testkit::cluster::RedisServer;

use crate::npm;
use crate::repository::repository;

use self::options::Options;
use self::servers::{Kind, Tls};

mod options;
mod report;
mod servers;

/// The chore as which this program runs itself to be a floor; not for people, so not in the help.
pub(crate) const FLOOR_CHORE: &str = "bench-floor";

/// Runs the bench that the words ask for.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let options = match Options::parse(words) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::help());
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("{problem}; see cargo xtask bench --help");
            return ExitCode::from(2);
        }
    };
    if cfg!(debug_assertions) {
        return run_optimised(words);
    }
    let prepared = provide_servers(&options).and_then(|tls| Ok((tls, Cores::divide()?)));
    let (tls, cores) = match prepared {
        Ok(prepared) => prepared,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
    };
    let mut failures = 0;
    for scenario in &options.scenarios {
        failures += measure(&options.sized(scenario), &options, &tls, cores);
    }
    if failures > 0 {
        eprintln!("{failures} runs failed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Serves as a floor until it is killed.
pub(crate) fn run_floor(words: &[String]) -> ExitCode {
    let mode = match words {
        [word] if word == "each" => Mode::Each,
        [word] if word == "batch" => Mode::Batch,
        _ => {
            eprintln!("{FLOOR_CHORE} needs one word: each or batch");
            return ExitCode::from(2);
        }
    };
    let served = Floor::bind(mode).and_then(|mut floor| {
        println!("floor ready socket={}", floor.address()?);
        floor.run()
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the floor failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one scenario on every server in turn, so that what else the machine does hits all of them alike, prints its
/// table and returns how many runs failed.
fn measure(scenario: &Scenario, options: &Options, tls: &Tls, cores: Cores) -> usize {
    let servers: Vec<&Kind> = options.servers.iter().filter(|kind| kind.protocol(scenario).is_some()).collect();
    let mut results: Vec<Vec<Measurement>> = servers.iter().map(|_| Vec::new()).collect();
    let mut failures = 0;
    let ticks_before = probe::stolen_and_all_ticks();
    for _ in 0..options.runs {
        for (kind, results) in servers.iter().zip(&mut results) {
            match measure_once(scenario, kind, options, tls, cores) {
                Ok(measurement) => results.push(measurement),
                Err(problem) => {
                    failures += 1;
                    eprintln!("{} with {}: {problem}{}", scenario.name, kind.name(), kind.last_words());
                }
            }
        }
    }
    let names: Vec<&str> = servers.iter().map(|kind| kind.name()).collect();
    println!("{}", report::table(scenario, &names, &results));
    if let (Ok((stolen_before, all_before)), Ok((stolen, all))) = (ticks_before, probe::stolen_and_all_ticks()) {
        let percent = 100 * (stolen - stolen_before) / (all - all_before).max(1);
        if percent >= STOLEN_PERCENT_WORTH_SAYING {
            println!("  note: {percent} % of the machine's time was taken by others (steal)\n");
        }
    }
    failures
}

fn measure_once(
    scenario: &Scenario,
    kind: &Kind,
    options: &Options,
    tls: &Tls,
    cores: Cores,
) -> Result<Measurement, Box<dyn std::error::Error>> {
    let protocol = kind.protocol(scenario).ok_or("this server is not asked in this scenario")?;
    let relay = (scenario.is_relayed && *kind == Kind::Switchboard).then(RedisServer::start);
    let through = |command| servers::through(command, relay.as_ref().map(RedisServer::url));
    let server = Server::start(through(kind.command(scenario, tls)?), cores.server, servers::listener(protocol))?;
    // What is not measured stays beside the generator.
    let other = match &relay {
        Some(_) => Some(Server::start(through(kind.command(scenario, tls)?), None, servers::listener(protocol))?),
        None => None,
    };
    let trust = kind.is_secure(scenario).then(|| tls.trust.clone());
    let speakers_at = other.as_ref().map(Server::address);
    let endpoint = Endpoint { address: server.address(), protocol, trust, speakers_at };
    Ok(load::run(&scenario.load, &endpoint, &server.probe(), options.plan)?)
}

/// Chores are built without optimisation, but the floor is part of this program and must be as fast as it can be.
fn run_optimised(words: &[String]) -> ExitCode {
    let mut command = cargo();
    command.args(["run", "--release", "--quiet", "--package", "xtask", "--", "bench"]).args(words);
    match command.status() {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("cargo could not be run: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Builds, installs and certifies what the options name.
fn provide_servers(options: &Options) -> Result<Tls, String> {
    build_server(options)?;
    if options.servers.iter().any(Kind::is_from_npm) {
        npm::install(servers::PEERS)?;
    }
    Tls::write().map_err(|error| format!("no certificate could be made: {error}"))
}

fn build_server(options: &Options) -> Result<(), String> {
    if options.is_built || !options.servers.contains(&Kind::Switchboard) {
        return Ok(());
    }
    let mut command = cargo();
    command.args(["build", "--release", "--package", "switchboard", "--bins"]);
    for example in options.scenarios.iter().copied().filter_map(servers::example).collect::<BTreeSet<_>>() {
        command.args(["--example", example]);
    }
    let status = command.status().map_err(|error| format!("cargo could not be run: {error}"))?;
    if status.success() { Ok(()) } else { Err("the server could not be built".to_owned()) }
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository());
    command
}

/// Which core the server runs on; the generator has taken another one. Without two of them nobody is bound to any.
#[derive(Clone, Copy)]
struct Cores {
    server: Option<usize>,
}

impl Cores {
    fn divide() -> Result<Self, String> {
        let limit = sys::raise_file_limit().map_err(|error| format!("the file limit could not be raised: {error}"))?;
        if limit < FILES_NEEDED {
            return Err(format!(
                "only {limit} files may be open, {FILES_NEEDED} are needed: raise the limit (ulimit -n)"
            ));
        }
        match sys::allowed_cores().as_deref() {
            Ok(&[server, generator, ..]) => {
                sys::pin_to_core(generator).map_err(|error| format!("core {generator} is not for us: {error}"))?;
                println!("server on core {server}, generator on core {generator}\n");
                Ok(Self { server: Some(server) })
            }
            _ => {
                println!("note: there is one core only, so server and generator disturb each other\n");
                Ok(Self { server: None })
            }
        }
    }
}

/// The largest scenario opens ten thousand connections.
const FILES_NEEDED: u64 = 10_200;

/// Beyond this, rates and latencies say more about the machine's neighbours than about a server.
const STOLEN_PERCENT_WORTH_SAYING: u64 = 5;
