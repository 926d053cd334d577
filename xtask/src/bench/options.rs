//! What a bench was asked for.

use std::time::Duration;

use switchboard_testkit::bench::load::Plan;
use switchboard_testkit::bench::scenario::{self, CommandStorm, Load, Scenario};

use super::report;
use super::servers::{self, Kind};

/// The words of the command line, understood.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) scenarios: Vec<&'static Scenario>,
    pub(super) servers: Vec<Kind>,
    pub(super) runs: usize,
    pub(super) plan: Plan,
    /// How many commands a storm has, where that is not the scenario's number.
    pub(super) commands: Option<u64>,
    /// Whether the server is to be taken as it was built last.
    pub(super) is_built: bool,
}

impl Options {
    /// A scenario with as much of it as was asked for.
    pub(super) fn sized(&self, scenario: &Scenario) -> Scenario {
        let load = match (scenario.load, self.commands) {
            (Load::CommandStorm(storm), Some(commands)) => Load::CommandStorm(CommandStorm { commands, ..storm }),
            (load, _) => load,
        };
        Scenario { load, ..*scenario }
    }

    /// Understands the words; `None` if they ask for help.
    pub(super) fn parse(words: &[String]) -> Result<Option<Self>, String> {
        let (mut scenarios, mut chosen, mut peers) = (Vec::new(), None, Vec::new());
        let (mut runs, mut secs, mut commands, mut is_quick, mut is_built) = (None, None, None, false, false);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "-h" | "--help" => return Ok(None),
                "--built" => is_built = true,
                "--commands" => commands = Some(number(word, value()?, MOST_COMMANDS)?),
                "--only" => {
                    let names = value()?.split(',');
                    chosen = Some(names.map(|name| named(name, &servers::OURS)).collect::<Result<Vec<_>, _>>()?);
                }
                "--peer" => peers.push(peer(value()?)?),
                "--peers" => {
                    for name in value()?.split(',') {
                        peers.push(named(name, &servers::KNOWN_PEERS)?);
                    }
                }
                "--quick" => is_quick = true,
                "--runs" => runs = Some(number(word, value()?, 3600)? as usize),
                "--secs" => secs = Some(number(word, value()?, 3600)?),
                option if option.starts_with('-') => return Err(format!("there is no option {option}")),
                name => scenarios.push(scenario::named(name).ok_or_else(|| format!("there is no scenario {name:?}"))?),
            }
        }
        if scenarios.is_empty() {
            scenarios = scenario::ALL.iter().collect();
        }
        let is_mute = |kind: &Kind| scenarios.iter().all(|scenario| kind.protocol(scenario).is_none());
        if let Some(peer) = peers.iter().find(|kind| is_mute(kind)) {
            return Err(format!(
                "{} has no part in these scenarios; it may have one in those that begin with ws-",
                peer.name()
            ));
        }
        let mut servers = chosen.unwrap_or_else(|| servers::OURS.to_vec());
        servers.extend(peers);
        let window = Duration::from_secs(secs.unwrap_or(if is_quick { 1 } else { 3 }));
        let warm_up = Duration::from_millis(if is_quick { 300 } else { 1000 });
        let plan = Plan::Timed { warm_up, window };
        let runs = runs.unwrap_or(if is_quick { 1 } else { 3 });
        let commands = commands.or(is_quick.then_some(QUICK_COMMANDS));
        Ok(Some(Self { scenarios, servers, runs, plan, commands, is_built }))
    }
}

/// How to use the bench.
pub(super) fn help() -> String {
    let mut help = HELP.to_owned();
    for scenario in &scenario::ALL {
        help.push_str(&format!("\n  {:11} {}{}", scenario.name, scenario.what, report::suffix(scenario.transport)));
    }
    help
}

fn named(name: &str, servers: &[Kind]) -> Result<Kind, String> {
    servers.iter().find(|kind| kind.name() == name).cloned().ok_or_else(|| format!("there is no server {name:?}"))
}

fn peer(value: &str) -> Result<Kind, String> {
    match value.split_once('=') {
        Some((name, command)) if !name.is_empty() && !command.trim().is_empty() => {
            Ok(Kind::Peer { name: name.to_owned(), command: command.to_owned() })
        }
        _ => Err(format!("--peer needs NAME=COMMAND, not {value:?}")),
    }
}

fn number(option: &str, value: &str, most: u64) -> Result<u64, String> {
    match value.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("{option} needs a number from 1 to {most}, not {value:?}")),
    }
}

/// Beyond this a storm takes longer than anybody waits.
const MOST_COMMANDS: u64 = 100_000_000;

const QUICK_COMMANDS: u64 = 20_000;

const HELP: &str = "\
Usage: cargo xtask bench [SCENARIO...] [OPTIONS]

Builds the server, runs every scenario on the floors and the server in turn, each run with a fresh process, and prints
medians. Exits with 0 whatever the figures are, with 1 if a run lost something or broke.

Options:
  --built              do not build the server, take target/release/switchboard as it is
  --commands N         commands of cmd-storm (100000; 20000 with --quick)
  --only SERVER,...    only these of floor-each, floor-batch, switchboard
  --peer NAME=COMMAND  one more server: a shell command that prints \"NAME ready socket=ADDRESS:PORT\", or web=...
  --peers PEER,...     servers of others, of bun, socketio (in ws-..., socketio in cmd-1 and
                       cmd-room too; installed by npm, node must be there)
  --quick              one run with a window of one second: to see that it works, not what it costs
  --runs N             runs of each scenario and server (3)
  --secs S             seconds measured in each run, after one of warm-up (3)

Scenarios (all of them if none is named):";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn without_words_everything_is_run_three_times() {
        let options = parse("").unwrap().unwrap();
        assert_eq!((options.scenarios.len(), options.servers.len(), options.runs), (scenario::ALL.len(), 3, 3));
    }

    #[test]
    fn words_choose_scenarios_servers_and_lengths() {
        let options = parse("a1 e16 --only floor-each --runs 5 --secs 7 --peer x=y --built").unwrap().unwrap();
        assert_eq!(options.scenarios.iter().map(|scenario| scenario.name).collect::<Vec<_>>(), ["a1", "e16"]);
        assert_eq!(options.servers.iter().map(Kind::name).collect::<Vec<_>>(), ["floor-each", "x"]);
        assert_eq!(options.runs, 5);
        assert!(matches!(options.plan, Plan::Timed { window, .. } if window.as_secs() == 7));
        assert!(options.is_built);
    }

    #[test]
    fn known_peers_come_behind_our_own_servers() {
        let options = parse("ws-a1 --peers bun,socketio --only switchboard").unwrap().unwrap();
        assert_eq!(options.servers.iter().map(Kind::name).collect::<Vec<_>>(), ["switchboard", "bun", "socketio"]);
    }

    #[test]
    fn a_storm_is_as_large_as_asked_for() {
        let commands = |line| {
            let options = parse(line).unwrap().unwrap();
            match options.sized(options.scenarios[0]).load {
                Load::CommandStorm(storm) => storm.commands,
                other => panic!("{other:?} is no storm"),
            }
        };
        assert_eq!(commands("cmd-storm"), 100_000);
        assert_eq!(commands("cmd-storm --quick"), 20_000);
        assert_eq!(commands("cmd-storm --quick --commands 1000000"), 1_000_000);
    }

    #[test]
    fn explicit_lengths_win_over_quick_ones() {
        let options = parse("--runs 2 --quick").unwrap().unwrap();
        assert_eq!(options.runs, 2);
        assert!(matches!(options.plan, Plan::Timed { window, .. } if window.as_secs() == 1));
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        for line in [
            "z",
            "--fast",
            "--runs",
            "--runs 0",
            "--runs x",
            "--only bun",
            "--peer bun",
            "--peer =x",
            "--peers x",
            "a --peers bun",
            "cmd-1 --peers bun",
            "--commands 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn help_names_every_scenario() {
        assert!(parse("a --help").unwrap().is_none());
        let help = help();
        assert!(scenario::ALL.iter().all(|scenario| help.contains(scenario.what)));
    }
}
