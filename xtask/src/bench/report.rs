//! Medians and the table.

use std::fmt::Write;

use switchboard_testkit::bench::load::Measurement;
use switchboard_testkit::bench::scenario::{GatewayLoad, Load, Quantity, Scenario, Target, Transport, Yardstick};

/// What was measured of one scenario: a line per server, medians of its runs.
pub(super) fn table(scenario: &Scenario, names: &[&str], results: &[Vec<Measurement>]) -> String {
    let yardstick_name = match scenario.yardstick {
        Yardstick::Echo => "echo",
        Yardstick::FloorBatch => "floor-batch",
        Yardstick::FloorEach => "floor-each",
    };
    let yardstick = names.iter().position(|&name| name == yardstick_name).map(|index| results[index].as_slice());
    let unit = match scenario.load {
        Load::CommandCollection { .. } => "collection",
        Load::CommandRoundTrip | Load::CommandStorm(_) => "command",
        Load::Connect { .. } => "connect",
        Load::FanOut(_) => "delivery",
        Load::Gateway(GatewayLoad::Events { .. }) => "event",
        Load::Gateway(GatewayLoad::Idle { .. }) => "connection",
        Load::Gateway(GatewayLoad::Pings { .. }) => "ping",
        Load::Gateway(GatewayLoad::Resume { .. }) => "resume",
        Load::Gateway(GatewayLoad::Resumes { .. }) => "run",
        Load::Growth { .. } => "round",
        Load::Idle { .. } => "connection",
        Load::Request { .. } => "request",
    };
    let figure = match scenario.load {
        Load::CommandCollection { .. } => "ms to outcome",
        Load::CommandRoundTrip => "µs to outcome",
        Load::Gateway(GatewayLoad::Pings { .. }) => "ms (99th percentile) to answer",
        Load::Gateway(GatewayLoad::Resume { .. }) => "ms to last event",
        Load::Gateway(GatewayLoad::Resumes { .. }) => "ms to last answer",
        Load::Gateway(GatewayLoad::Idle { .. }) | Load::Growth { .. } | Load::Idle { .. } => "server bytes",
        _ => "server µs",
    };
    let suffix = suffix(scenario.transport);
    let mut out = format!("{}: {}{suffix}; {figure} per {unit}", scenario.name, scenario.what);
    if is_divided(scenario) {
        out.push_str(&format!(", × {yardstick_name}"));
    }
    out.push('\n');
    push_row(&mut out, HEADINGS.map(str::to_owned));
    for (name, runs) in names.iter().zip(results) {
        push_row(&mut out, row(scenario, name, runs, yardstick.unwrap_or_default()));
        if scenario.load == Load::CommandRoundTrip && !runs.is_empty() {
            push_row(&mut out, echo_row(runs));
        }
    }
    for (name, runs) in names.iter().zip(results) {
        if let Some(run) = runs.last().filter(|run| !run.note.is_empty()) {
            out.push_str(&format!("  {name}: {}\n", run.note));
        }
    }
    out.push_str(&targets(scenario));
    out
}

fn row(scenario: &Scenario, name: &str, runs: &[Measurement], yardstick: &[Measurement]) -> [String; COLUMNS] {
    if runs.is_empty() {
        let mut row = [const { String::new() }; COLUMNS];
        row[0] = name.to_owned();
        row[1] = "failed".to_owned();
        return row;
    }
    let of = |value: fn(&Measurement) -> f64| median(runs, value);
    let value = figure(scenario);
    let latency = |value| if matches!(scenario.load, Load::Growth { .. }) { String::new() } else { short(of(value)) };
    let ratio = |value: fn(&Measurement) -> f64, echo: fn(&Measurement) -> f64| match scenario.yardstick {
        _ if !is_divided(scenario) => String::new(),
        // Of the same run, so it is the ratios that have a median.
        Yardstick::Echo => format!("{:.2}", median(runs, |run| value(run) / echo(run))),
        _ if yardstick.is_empty() => String::new(),
        _ => format!("{:.2}", of(value) / median(yardstick, value)),
    };
    [
        name.to_owned(),
        short(of(value)),
        spread(runs, value),
        ratio(value, |run| run.echo_p50_ms * 1e3),
        if scenario.is_paced() || scenario.load == Load::CommandRoundTrip {
            ratio(|run| run.p99_ms, |run| run.echo_p99_ms)
        } else {
            String::new()
        },
        rate(of(Measurement::units_per_second)),
        latency(|run| run.p50_ms),
        latency(|run| run.p99_ms),
        if matches!(
            scenario.load,
            Load::FanOut(_)
                | Load::Gateway(GatewayLoad::Events { .. } | GatewayLoad::Resume { .. })
                | Load::Request { .. }
        ) {
            format!("{:.1}", of(|run| run.units_per_read))
        } else {
            String::new()
        },
        format!("{:.0} %", of(|run| 100.0 * run.cpu_seconds / run.seconds)),
    ]
}

/// The echo that a server's commands are compared with.
fn echo_row(runs: &[Measurement]) -> [String; COLUMNS] {
    let mut row = [const { String::new() }; COLUMNS];
    row[0] = "  its echo".to_owned();
    row[1] = short(median(runs, |run| run.echo_p50_ms * 1e3));
    row[2] = spread(runs, |run| run.echo_p50_ms * 1e3);
    row[6] = short(median(runs, |run| run.echo_p50_ms));
    row[7] = short(median(runs, |run| run.echo_p99_ms));
    row
}

/// What is asked of the server; nothing where there is no target.
fn targets(scenario: &Scenario) -> String {
    let Some(target) = scenario.target else { return String::new() };
    let p99 = scenario.p99_target.map(|target| format!("; p99: {}", target_text(target))).unwrap_or_default();
    format!("  asked of switchboard: {}{p99}\n", target_text(target))
}

fn target_text(Target { quantity, must, aim }: Target) -> String {
    let (sign, unit) = match quantity {
        Quantity::Bytes => ("", " bytes"),
        Quantity::Micros => ("", " µs"),
        Quantity::PerSecond => ("", " a second"),
        Quantity::Millis => ("", " ms"),
        Quantity::Ratio => ("× ", ""),
    };
    let aim = aim.map(|aim| format!(", aim {sign}{aim}{unit}")).unwrap_or_default();
    format!("must {sign}{must}{unit}{aim}")
}

/// What a transport adds to a scenario's words.
pub(super) fn suffix(transport: Transport) -> &'static str {
    match transport {
        Transport::Ddp => ", over DDP",
        Transport::Gateway => ", over the gateway",
        Transport::Line => "",
        Transport::SecureWebSocket => ", over WebSocket and TLS",
        Transport::WebSocket => ", over WebSocket",
    }
}

/// The figure that the table shows first.
fn figure(scenario: &Scenario) -> fn(&Measurement) -> f64 {
    match scenario.load {
        Load::CommandCollection { .. } => |run| run.p50_ms,
        Load::CommandRoundTrip => |run| run.p50_ms * 1e3,
        Load::Gateway(GatewayLoad::Pings { .. }) => |run| run.p99_ms,
        Load::Gateway(GatewayLoad::Resume { .. }) => |run| run.p50_ms,
        Load::Gateway(GatewayLoad::Resumes { .. }) => |run| run.seconds * 1e3,
        Load::Gateway(GatewayLoad::Idle { .. }) | Load::Growth { .. } | Load::Idle { .. } => |run| run.bytes_per_unit,
        _ => Measurement::cpu_us_per_unit,
    }
}

/// Whether there is something to divide the figure by.
fn is_divided(scenario: &Scenario) -> bool {
    !matches!(
        scenario.load,
        Load::CommandCollection { .. }
            | Load::CommandStorm(_)
            | Load::Gateway(_)
            | Load::Growth { .. }
            | Load::Idle { .. }
    )
}

fn median(runs: &[Measurement], value: impl Fn(&Measurement) -> f64) -> f64 {
    let values = sorted(runs, value);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 0 => (values[count / 2 - 1] + values[count / 2]) / 2.0,
        count => values[count / 2],
    }
}

fn spread(runs: &[Measurement], value: impl Fn(&Measurement) -> f64) -> String {
    match sorted(runs, value).as_slice() {
        [first, .., last] => format!("{}..{}", short(*first), short(*last)),
        _ => String::new(),
    }
}

fn sorted(runs: &[Measurement], value: impl Fn(&Measurement) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Three digits that matter.
fn short(value: f64) -> String {
    let decimals = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 1e6 => format!("{} M", short(rate / 1e6)),
        rate if rate >= 1e3 => format!("{} k", short(rate / 1e3)),
        rate => short(rate),
    }
}

fn push_row(out: &mut String, row: [String; COLUMNS]) {
    let mut line = String::new();
    for (index, (cell, width)) in row.iter().zip(WIDTHS).enumerate() {
        // Writing to a string cannot fail.
        let _ = if index == 0 { write!(line, "  {cell:width$}") } else { write!(line, "{cell:>width$}") };
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

const COLUMNS: usize = 10;

const HEADINGS: [&str; COLUMNS] =
    ["server", "median", "min..max", "ratio", "p99 ratio", "per second", "p50 ms", "p99 ms", "per read", "CPU"];

const WIDTHS: [usize; COLUMNS] = [14, 8, 16, 7, 11, 12, 9, 9, 10, 7];

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_testkit::bench::scenario;

    fn run(units: u64, cpu_seconds: f64, p99_ms: f64) -> Measurement {
        Measurement { units, seconds: 2.0, cpu_seconds, p99_ms, ..Measurement::default() }
    }

    #[test]
    fn the_table_shows_medians_and_ratios_of_medians() {
        let floor = vec![run(1_000_000, 3.0, 5.0), run(1_000_000, 2.0, 4.0), run(1_000_000, 9.0, 9.0)];
        let server = vec![run(1_000_000, 3.6, 6.0)];
        let names = ["floor-each", "switchboard"];
        let table = table(scenario::named("d").unwrap(), &names, &[floor, server]);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[2][..6], ["floor-each", "3.00", "2.00..9.00", "1.00", "1.00", "500"]);
        assert_eq!(lines[3][..4], ["switchboard", "3.60", "1.20", "1.20"]);
        assert!(table.ends_with("must × 1.25, aim × 1.05; p99: must × 1.3, aim × 1.1\n"), "{table}");
    }

    #[test]
    fn a_server_that_failed_has_no_figures() {
        let table = table(scenario::named("a").unwrap(), &["floor-batch", "switchboard"], &[vec![], vec![]]);
        assert_eq!(table.matches("failed").count(), 2);
    }

    #[test]
    fn without_the_yardstick_there_is_no_ratio() {
        let table = table(scenario::named("a").unwrap(), &["switchboard"], &[vec![run(1_000_000, 1.0, 0.0)]]);
        assert!(table.contains("switchboard       1.00"), "{table}");
        assert!(!table.contains("NaN"), "{table}");
    }

    #[test]
    fn idle_connections_are_counted_in_bytes() {
        let measured = Measurement { bytes_per_unit: 79.0, ..run(10_000, 0.1, 0.0) };
        let table = table(scenario::named("idle").unwrap(), &["floor-each"], &[vec![measured]]);
        assert!(table.contains("server bytes per connection"), "{table}");
        assert!(table.contains("79.0"), "{table}");
        assert!(table.ends_with("must 900 bytes, aim 400 bytes\n"), "{table}");
    }

    #[test]
    fn commands_are_divided_by_the_echo_of_their_run() {
        let run =
            |command, echo| Measurement { p50_ms: command, echo_p50_ms: echo, echo_p99_ms: 1.0, ..run(100, 0.1, 2.0) };
        let runs = vec![run(0.06, 0.05), run(0.09, 0.06), run(0.04, 0.04)];
        let table = table(scenario::named("cmd-1").unwrap(), &["switchboard"], &[runs]);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[2][..5], ["switchboard", "60.0", "40.0..90.0", "1.20", "2.00"]);
        assert_eq!(lines[3], ["its", "echo", "50.0", "40.0..60.0", "0.050", "1.00"]);
        assert!(table.ends_with("asked of switchboard: must × 1.5\n"), "{table}");
    }

    #[test]
    fn what_a_storm_checked_is_said_below_its_table() {
        let measured = Measurement { note: "none twice".to_owned(), ..run(1000, 0.1, 2.0) };
        let table = table(scenario::named("cmd-storm").unwrap(), &["switchboard"], &[vec![measured]]);
        assert!(table.ends_with("\n  switchboard: none twice\n"), "{table}");
    }

    #[test]
    fn targets_are_printed_in_their_unit() {
        let last_line = |name: &str| {
            let table = table(scenario::named(name).unwrap(), &["bun"], &[vec![run(1_000_000, 1.0, 0.0)]]);
            table.lines().last().unwrap().trim().to_owned()
        };
        assert_eq!(last_line("ws-a1"), "asked of switchboard: must × 1.35, aim × 1.1");
        assert_eq!(last_line("ws-connect"), "asked of switchboard: must 60 µs, aim 19 µs");
        assert_eq!(last_line("ws-tls-idle"), "asked of switchboard: must 14336 bytes");
        assert_eq!(last_line("gw-events"), "asked of switchboard: must 200000 a second");
        assert!(last_line("growth").starts_with("bun "), "nothing is asked there");
    }

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!([0.0731, 2.912, 12.23, 286.4].map(short), ["0.073", "2.91", "12.2", "286"]);
        assert_eq!([12.0, 56_000.0, 12_980_000.0].map(rate), ["12.0", "56.0 k", "13.0 M"]);
    }
}
