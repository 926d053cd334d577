//! The command line: which commands there are, and those that only read the configuration.
//!
//! Nothing here touches the process, [`hash_password`] and [`Ctl::run`] excepted: arguments, environment and working directory come in, a
//! [`Command`] goes out. The binary runs the server or writes the [`Output`].

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

mod ctl;
mod hash_password;

pub use ctl::Ctl;
pub use hash_password::hash_password;

use crate::config::{self, Config, LoadOptions, Loaded, Origin};

/// Exit code of a command that did what it was asked for.
pub const EXIT_OK: u8 = 0;
/// Exit code of a server that had to give up, and of `ctl` when it was not done.
pub const EXIT_FAILURE: u8 = 1;
/// Exit code for a command line or a configuration that is wrong, or with which the server cannot start here.
pub const EXIT_USAGE: u8 = 2;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Ask the admin API of a server, write what it answers and end: [`Ctl::run`].
    Ctl(Box<Ctl>),
    /// Write this and end.
    Exit(Output),
    /// Hash the password that comes on standard input: [`hash_password`].
    HashPassword,
    /// Run the server.
    Serve(Box<Serve>),
}

/// A server to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Serve {
    /// The checked configuration.
    pub loaded: Loaded,
    /// What it was read from, to read it again.
    pub options: LoadOptions,
}

/// What a command says and how it ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Text for standard output.
    pub stdout: String,
    /// Text for standard error.
    pub stderr: String,
    /// Exit code of the process.
    pub code: u8,
}

impl Output {
    /// Writes both texts and gives the exit code; that of a failure if standard output does not take its text.
    pub fn emit(&self) -> ExitCode {
        // A closed standard error leaves nobody to tell.
        let _ = std::io::stderr().lock().write_all(self.stderr.as_bytes());
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(self.stdout.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => ExitCode::from(self.code),
            Err(_) => ExitCode::from(EXIT_FAILURE),
        }
    }

    fn success(stdout: String) -> Self {
        Self { stdout, ..Self::default() }
    }

    fn refusal(error: &config::ConfigError) -> Self {
        Self { stderr: format!("{error}\n"), code: EXIT_USAGE, ..Self::default() }
    }

    fn complaint(code: u8, reason: &str) -> Self {
        Self { stderr: format!("switchboard: {reason}\n"), code, ..Self::default() }
    }
}

/// Reads the command line (with the program's name first) and does all of it but running the server.
///
/// A wrong command line or configuration becomes an [`Output`] with [`EXIT_USAGE`]; so `Serve` can start at once.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    cwd: PathBuf,
) -> Command {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return Command::Exit(usage(&error)),
    };
    let env = env.into_iter().collect();
    match cli.verb.unwrap_or(Verb::Serve(cli.settings)) {
        Verb::CheckConfig(settings) => Command::Exit(check_config(&settings.into_options(env, cwd))),
        Verb::Config { verb: ConfigVerb::Reference } => Command::Exit(Output::success(config::reference())),
        Verb::Config { verb: ConfigVerb::Show(settings) } => {
            Command::Exit(config_show(&settings.into_options(env, cwd)))
        }
        Verb::Ctl(asked) => asked.into_command(env, cwd),
        Verb::HashPassword => Command::HashPassword,
        Verb::Serve(settings) => {
            let options = settings.into_options(env, cwd);
            match Config::load(&options) {
                Ok(loaded) => Command::Serve(Box::new(Serve { loaded, options })),
                Err(error) => Command::Exit(Output::refusal(&error)),
            }
        }
    }
}

/// `check-config`: one line about where the configuration comes from, or everything that is wrong with it.
pub fn check_config(options: &LoadOptions) -> Output {
    match Config::load(options) {
        Ok(loaded) => {
            let ignored = loaded.ignored_variables.iter().map(|name| ignored(name));
            let warnings = ignored.chain(loaded.config.warnings());
            Output {
                stderr: warnings.map(|warning| format!("warning: {warning}\n")).collect(),
                ..Output::success(format!("configuration OK: {}\n", sources(&loaded)))
            }
        }
        Err(error) => Output::refusal(&error),
    }
}

/// Says that a variable of the environment has no effect.
pub fn ignored(variable: &str) -> String {
    format!(
        "environment {variable}: ignored, because it is like no setting; a setting is written \
         SWITCHBOARD__SERVERS__WEB__PORT=8080, and `switchboard config reference` lists all"
    )
}

/// `config show`: the effective values with the origin of each, or everything that is wrong.
pub fn config_show(options: &LoadOptions) -> Output {
    match Config::load(options) {
        Ok(loaded) => Output::success(config::show(&loaded)),
        Err(error) => Output::refusal(&error),
    }
}

#[derive(Debug, Parser)]
#[command(
    name = "switchboard",
    version,
    about = "A realtime connection server: line protocol, chat rooms, actions",
    after_help = AFTER_HELP,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the server; this is also what happens without a command
    Serve(Settings),
    /// Read and check the configuration, say what is wrong with it
    CheckConfig(Settings),
    /// Show the configuration
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Ask a running server through its admin API
    Ctl(Box<ctl::CtlArgs>),
    /// Read a password from standard input, print what `password_hash` of a user can be
    HashPassword,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Print the effective values with the origin of each
    Show(Settings),
    /// Print every key with type, unit, default and meaning
    Reference,
}

#[derive(Debug, Args)]
struct Settings {
    /// Configuration file [default: ./switchboard.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key, over file and environment; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Settings {
    fn into_options(self, env: Vec<(OsString, OsString)>, cwd: PathBuf) -> LoadOptions {
        LoadOptions { file: self.config, env, set: self.set, cwd }
    }
}

/// Help and version are answers to a question, anything else is a mistake.
fn usage(error: &clap::Error) -> Output {
    let text = error.render().to_string();
    if error.use_stderr() {
        Output { stderr: text, code: EXIT_USAGE, ..Output::default() }
    } else {
        Output::success(text)
    }
}

/// Where the values come from, in one line.
fn sources(loaded: &Loaded) -> String {
    let from = |wanted: fn(&Origin) -> bool| loaded.origins.iter().filter(|(_, origin)| wanted(origin)).count();
    let mut sources =
        vec![loaded.file.as_ref().map_or_else(|| "built-in defaults".into(), |file| file.display().to_string())];
    for (count, place) in [
        (from(|origin| matches!(origin, Origin::Environment { .. })), "from the environment"),
        (from(|origin| matches!(origin, Origin::CommandLine)), "from --set"),
    ] {
        if count > 0 {
            sources.push(format!("{count} {place}"));
        }
    }
    sources.join(", ")
}

const AFTER_HELP: &str = "\
Examples:
  switchboard                                       run with ./switchboard.toml or the defaults
  switchboard serve --config /etc/switchboard/switchboard.toml
  switchboard serve --set servers.socket.port=5001 --set log.format=json
  SWITCHBOARD__SERVERS__SOCKET__PORT=5001 switchboard serve
  switchboard check-config --config switchboard.toml
  switchboard config show
  switchboard hash-password < password.txt          asks for the password without the file
  switchboard ctl command --user bot heartbeat      asks a client to do something, prints what it replies

Settings: --set wins over the environment, that over the file, that over the default.

Exit codes:
  0  done; for the server: stopped as planned; for ctl command: there was a reply
  1  the server had to give up; for ctl: it was not done, or nobody replied
  2  the command line or the configuration is wrong, or the server cannot start with it";

#[cfg(test)]
mod tests {
    use super::hash_password::hash_password_of;
    use super::{Command, EXIT_OK, EXIT_USAGE, Output, Serve, run};
    use crate::config::Origin;
    use crate::password::{PasswordDigest, PasswordHash};

    fn command(line: &str, env: &[(&str, &str)]) -> Command {
        let args = std::iter::once("switchboard").chain(line.split_whitespace()).map(Into::into);
        run(args, env.iter().map(|(name, value)| (name.into(), value.into())), "/nowhere".into())
    }

    fn output(line: &str, env: &[(&str, &str)]) -> Output {
        match command(line, env) {
            Command::Exit(output) => output,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn serve(line: &str) -> Serve {
        match command(line, &[]) {
            Command::Serve(serve) => *serve,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn no_command_means_serve() {
        for line in ["", "serve"] {
            assert_eq!(serve(line).loaded.config.servers.socket.port, 5000);
        }
        for line in ["--set servers.socket.port=1", "serve --set servers.socket.port=2 --set servers.socket.port=1"] {
            let serve = serve(line);
            assert_eq!(serve.loaded.config.servers.socket.port, 1);
            assert_eq!(serve.loaded.origins.of("servers.socket.port"), &Origin::CommandLine);
        }
    }

    #[test]
    fn a_wrong_configuration_never_reaches_the_server() {
        for line in ["serve", "check-config", "config show"] {
            let refused = output(&format!("{line} --set servers.socket.prot=1"), &[]);
            assert_eq!(refused.stderr, "--set: servers.socket.prot: unknown key; did you mean servers.socket.port?\n");
            assert_eq!((refused.stdout.as_str(), refused.code), ("", EXIT_USAGE));
        }
    }

    #[test]
    fn check_config_names_its_sources() {
        let env = [("SWITCHBOARD__LOG__LEVEL", "debug"), ("SWITCHBOARD__LOG__FORMAT", "json")];
        for (line, env, expected) in [
            ("check-config", &env[..0], "configuration OK: built-in defaults\n"),
            (
                "check-config --set node.name=a",
                &env[..],
                "configuration OK: built-in defaults, 2 from the environment, 1 from --set\n",
            ),
        ] {
            assert_eq!(output(line, env), Output { stdout: expected.into(), ..Output::default() });
        }
    }

    #[test]
    fn a_variable_that_is_like_no_setting_is_a_warning() {
        let env = [
            ("SWITCHBOARD_CONFIG", "a.toml"),
            ("SWITCHBOARD_PORT", "5001"),
            // A container platform sets these for a service that is called `switchboard`.
            ("SWITCHBOARD_SERVICE_HOST", "10.0.0.1"),
            ("SWITCHBOARD_SERVICE_PORT_WEB", "8080"),
            ("SWITCHBOARD_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ];
        let checked = output("check-config", &env);
        let warned: Vec<&str> = checked.stderr.lines().filter_map(|line| line.split(": ").nth(1)).collect();
        assert_eq!(warned, ["environment SWITCHBOARD_CONFIG", "environment SWITCHBOARD_PORT"]);
        assert_eq!(checked.code, EXIT_OK, "{}", checked.stderr);
    }

    #[test]
    fn fault_row_16_a_secret_that_can_be_guessed_is_a_warning() {
        let application = "[{ id = \"1\", public_key = \"k\", secret = \"short\" }]";
        for (name, value, key) in [
            ("SWITCHBOARD__ADMIN__TOKEN", "fifteen-letters", "admin.token"),
            ("SWITCHBOARD__GATEWAY__APPLICATIONS", application, "gateway.applications[0].secret"),
        ] {
            let checked = output("check-config", &[(name, value)]);
            assert!(
                checked.stderr.starts_with(&format!("warning: {key} is short enough to be guessed")),
                "{}",
                checked.stderr
            );
            assert!(!checked.stderr.contains("fifteen") && !checked.stderr.contains("short\""), "{}", checked.stderr);
        }
        assert_eq!(output("check-config", &[("SWITCHBOARD__ADMIN__TOKEN", "sixteen-letters!")]).stderr, "");
    }

    #[test]
    fn help_and_version_succeed_on_standard_output() {
        let help = output("--help", &[]);
        for expected in ["check-config", "Exit codes:", "--set <KEY=VALUE>", "SWITCHBOARD__"] {
            assert!(help.stdout.contains(expected), "{expected} is missing in {}", help.stdout);
        }
        let version = output("--version", &[]);
        assert_eq!(version.stdout, format!("switchboard {}\n", env!("CARGO_PKG_VERSION")));
        assert_eq!((help.code, version.code), (EXIT_OK, EXIT_OK));
        let reference = output("config reference", &[]);
        assert!(reference.stdout.contains("### `servers.socket.port`") && reference.code == EXIT_OK);
    }

    #[test]
    fn hash_password_takes_one_line_and_prints_a_hash_of_it() {
        assert_eq!(command("hash-password", &[]), Command::HashPassword);
        for input in ["secret\n", "secret\r\n", "secret", "secret\nmore\n"] {
            let Output { stdout, stderr, code } = hash_password_of(input.as_bytes());
            assert_eq!((stderr.as_str(), code), ("", EXIT_OK), "{input:?}");
            let hash = PasswordHash::parse(stdout.strip_suffix('\n').unwrap()).ok().unwrap();
            assert_eq!(hash.is_of(&PasswordDigest::of("secret")), Ok(true), "{input:?}");
        }
        let longest = [&[b'x'; 1024][..], b"\r\n"].concat();
        assert_eq!(hash_password_of(&*longest).code, EXIT_OK);
    }

    #[test]
    fn hash_password_refuses_what_is_no_password() {
        let too_long = [b'x'; 5000];
        for (input, expected) in [
            (&b""[..], "no password: write it to standard input, as one line"),
            (b"\n", "no password: write it to standard input, as one line"),
            (b"\r\nsecret\n", "no password: write it to standard input, as one line"),
            (b"\xff\n", "the password is not UTF-8"),
            (&too_long[..1025], "a password has at most 1024 bytes"),
            (&too_long, "a password has at most 1024 bytes"),
        ] {
            let refused =
                Output { stderr: format!("switchboard: {expected}\n"), code: EXIT_USAGE, ..Output::default() };
            assert_eq!(hash_password_of(input), refused);
        }
    }

    #[test]
    fn mistakes_and_reserved_commands_are_usage_errors() {
        for line in ["--prot 1", "start", "hash-password secret", "doctor", "bench", "config", "--set", "serve extra"] {
            let refused = output(line, &[]);
            assert_eq!((refused.stdout.as_str(), refused.code), ("", EXIT_USAGE), "{line}");
            assert!(
                refused.stderr.contains("switchboard") || refused.stderr.contains("--help"),
                "{line}: {}",
                refused.stderr
            );
        }
    }
}
