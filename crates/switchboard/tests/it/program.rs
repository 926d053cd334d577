//! The program: what it prints, how it ends, and what it does with signals, files and the environment.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use switchboard_testkit::certs::Authority;

use super::peer::{DEADLINE, Folder, Peer, eventually, within};

const PROGRAM: &str = env!("CARGO_BIN_EXE_switchboard");
/// Free ports of the loopback.
const LOOPBACK: [&str; 10] = [
    "--set",
    "servers.socket.bind=127.0.0.1",
    "--set",
    "servers.socket.port=0",
    "--set",
    "servers.web.bind=127.0.0.1",
    "--set",
    "servers.web.port=0",
    "--set",
    "admin.enabled=false",
];

/// The program, serving in a process of its own; killed when it is dropped.
pub(crate) struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// What is behind `socket=` and `web=` in the ready line.
    socket: String,
    web: String,
    /// What is behind `admin=`.
    admin: Option<String>,
    /// Standard error, and the folder that it runs in.
    folder: Folder,
}

impl Program {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// With these variables of the environment.
    pub(crate) fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(LOOPBACK).args(arguments).envs(environment.iter().copied());
        Self::run(command)
    }

    /// With this limit of open files.
    pub(crate) fn start_limited(files: u32, arguments: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit -n {files}; exec \"$0\" \"$@\"")).arg(PROGRAM);
        command.args(LOOPBACK).args(arguments);
        Self::run(command)
    }

    fn run(mut command: Command) -> Self {
        let folder = Folder::new();
        let log = File::create(folder.join("log")).unwrap();
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        Self::spawn(command, folder)
    }

    fn spawn(mut command: Command, folder: Folder) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let addresses = line.trim_end().strip_prefix("switchboard ready socket=");
        let Some((socket, web)) = addresses.and_then(|addresses| addresses.split_once(" web=")) else {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            panic!("instead of the ready line: {line:?}; the log: {log}");
        };
        let (web, admin) = match web.split_once(" admin=") {
            Some((web, admin)) => (web, Some(admin.to_owned())),
            None => (web, None),
        };
        let (socket, web) = (socket.to_owned(), web.to_owned());
        Self { child, stdout, socket, web, admin, folder }
    }

    /// Where the admin API listens.
    #[track_caller]
    pub(crate) fn admin(&self) -> &str {
        self.admin.as_deref().expect("admin.enabled is set")
    }

    /// The folder that it runs in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it speaks HTTP.
    pub(crate) fn web(&self) -> &str {
        &self.web
    }

    pub(crate) fn connect_raw(&self) -> Peer<TcpStream> {
        Peer::over(TcpStream::connect(&self.socket).unwrap())
    }

    pub(crate) fn connect(&self) -> Peer<TcpStream> {
        let mut peer = self.connect_raw();
        peer.welcome();
        peer
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the program to its end in `folder`.
#[track_caller]
pub(crate) fn output(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).envs(environment.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Runs `hash-password` with this on standard input.
#[track_caller]
pub(crate) fn hash_password(folder: &Path, input: &[u8]) -> (i32, String, String) {
    std::fs::write(folder.join("input"), input).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("hash-password").current_dir(folder).stdin(File::open(folder.join("input")).unwrap());
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn the_ready_line_names_the_real_port_and_is_all_of_standard_output() {
    let mut program = Program::start(&[]);
    for address in [&program.socket, &program.web] {
        assert!(address.starts_with("127.0.0.1:") && !address.ends_with(":0"), "{address}");
    }
    program.connect().ok("paramsView");
    program.signal(Signal::TERM);
    assert_eq!(program.ended().code(), Some(0));
    let mut rest = String::new();
    program.stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

#[test]
fn fault_row_37_terminate_and_interrupt_end_as_planned() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut program = Program::start(&[]);
        let mut idle = program.connect();
        let mut busy = program.connect();
        busy.ok("paramAdd sleepDuration=400");
        busy.say("sleepTest");
        // An answer behind it says that the sleep has begun.
        busy.ok("paramsView");
        program.signal(signal);
        idle.goodbye();
        assert_eq!(busy.json()["messageCount"], 2);
        busy.goodbye();
        drop((idle, busy));
        assert_eq!(program.ended().code(), Some(0));
        assert!(program.log().contains("stopped"), "{}", program.log());
    }
}

#[test]
fn fault_row_37_a_second_signal_stops_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let mut program =
            Program::start(&["--set", "servers.socket.shutdown_wait=60s", "--set", "node.drain_timeout=60s"]);
        let mut idle = program.connect();
        let mut busy = program.connect();
        busy.ok("paramAdd sleepDuration=60000");
        busy.say("sleepTest");
        busy.ok("paramsView");
        program.signal(Signal::TERM);
        idle.goodbye();
        assert!(program.child.try_wait().unwrap().is_none(), "it waits for the pending action");
        let told = Instant::now();
        program.signal(second);
        assert_eq!(program.ended().code(), Some(0));
        assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
        busy.end();
    }
}

#[test]
fn hang_up_ends_nothing() {
    let program = Program::start(&[]);
    let mut peer = program.connect();
    for _ in 0..3 {
        program.signal(Signal::HUP);
    }
    eventually("the signal is logged", || program.log().contains("certificates read again"));
    peer.ok("paramsView");
    program.connect().ok("paramsView");
}

#[test]
fn check_config_tells_good_from_bad_by_its_exit_code() {
    let folder = Folder::new();
    let check = |text: &str| {
        folder.write("switchboard.toml", text);
        output(folder.path(), &["check-config"], &[])
    };
    assert_eq!(
        check("[servers.socket]\nport = 5001\n"),
        (0, "configuration OK: ./switchboard.toml\n".replace("./", ""), String::new()),
    );
    let (code, stdout, stderr) =
        check("[servers.socket]\nprot = 5001\n\n[limits]\nmax_rooms = -1\nslow_consumer = \"kill\"\n");
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert_eq!(stderr.lines().count(), 3, "{stderr}");
    for expected in [
        "switchboard.toml:2: servers.socket.prot: unknown key; did you mean servers.socket.port?",
        "switchboard.toml:5: limits.max_rooms: ",
        "switchboard.toml:6: limits.slow_consumer: ",
    ] {
        assert!(stderr.contains(expected), "{expected} is missing in {stderr}");
    }
    let (code, _, stderr) = check("[servers.socket\n");
    assert!(code == 2 && stderr.contains("switchboard.toml:1"), "{code} {stderr}");
    let (code, _, stderr) = output(folder.path(), &["check-config", "--config", "nowhere.toml"], &[]);
    assert!(code == 2 && stderr.contains("nowhere.toml"), "{code} {stderr}");
}

#[test]
fn hash_password_makes_what_a_user_of_the_configuration_needs() {
    let folder = Folder::new();
    let (code, hash, stderr) = hash_password(folder.path(), b"canary\n");
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && hash.lines().count() == 1, "{hash}");
    let user = format!("[[users]]\nid = \"u1\"\nusername = \"bot\"\npassword_hash = \"{}\"\n", hash.trim_end());
    folder.write("switchboard.toml", &user);
    let (code, stdout, stderr) = output(folder.path(), &["check-config"], &[]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "configuration OK: switchboard.toml\n", ""));
    for input in ["", "\n"] {
        let (code, stdout, stderr) = hash_password(folder.path(), input.as_bytes());
        assert_eq!((code, stdout.as_str()), (2, ""));
        assert_eq!(stderr, "switchboard: no password: write it to standard input, as one line\n");
    }
    // Never on the command line, where everybody on the machine reads it.
    let (code, stdout, _) = output(folder.path(), &["hash-password", "canary"], &[]);
    assert_eq!((code, stdout.as_str()), (2, ""));
}

#[test]
fn config_show_tells_the_origin_of_each_value_and_the_last_source_wins() {
    let folder = Folder::new();
    folder
        .write("switchboard.toml", "[servers.socket]\nport = 1\n[log]\nlevel = \"warn\"\n[actions]\npending_max = 1\n");
    let environment = [("SWITCHBOARD__SERVERS__SOCKET__PORT", "2"), ("SWITCHBOARD__LOG__LEVEL", "error")];
    let (code, stdout, stderr) =
        output(folder.path(), &["config", "show", "--set", "servers.socket.port=3"], &environment);
    assert_eq!((code, stderr.as_str()), (0, ""));
    for expected in [
        "port = 3 # --set\n",
        "level = \"error\" # environment SWITCHBOARD__LOG__LEVEL\n",
        "pending_max = 1 # file switchboard.toml:6\n",
        "max_line_bytes = \"64KiB\" # default\n",
    ] {
        assert!(stdout.contains(expected), "{expected} is missing in {stdout}");
    }
    // What it shows is a configuration again.
    folder.write("shown.toml", &stdout);
    assert_eq!(output(folder.path(), &["check-config", "--config", "shown.toml"], &[]).0, 0);
}

#[test]
fn the_environment_is_checked_like_the_file_and_reaches_the_server() {
    let folder = Folder::new();
    let (code, _, stderr) = output(folder.path(), &["serve"], &[("SWITCHBOARD__SERVERS__SOCKET__PROT", "1")]);
    assert!(code == 2 && stderr.contains("did you mean"), "{code} {stderr}");

    let mut command = Command::new(PROGRAM);
    command.args(LOOPBACK).env("SWITCHBOARD__SERVERS__SOCKET__WELCOME_MESSAGE", "Ahoy");
    let program = Program::run(command);
    assert_eq!(program.connect_raw().json()["welcome"], "Ahoy");
}

#[test]
fn reference_help_and_version_are_answers() {
    let folder = Folder::new();
    let (code, stdout, stderr) = output(folder.path(), &["config", "reference"], &[]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    for key in ["servers.socket.port", "limits.slow_consumer", "rooms.starting", "node.drain_timeout"] {
        assert!(stdout.contains(&format!("### `{key}`")), "{key}");
    }
    assert_eq!(output(folder.path(), &["--version"], &[]).1, format!("switchboard {}\n", env!("CARGO_PKG_VERSION")));
    let (code, stdout, _) = output(folder.path(), &["--help"], &[]);
    assert!(code == 0 && stdout.contains("check-config") && stdout.contains("Exit codes:"), "{stdout}");
    let (code, stdout, stderr) = output(folder.path(), &["srve"], &[]);
    assert!(code == 2 && stdout.is_empty() && stderr.contains("srve"), "{code} {stderr}");
}

#[test]
fn an_unknown_key_keeps_the_server_from_starting() {
    let folder = Folder::new();
    let (code, stdout, stderr) = output(folder.path(), &["serve", "--set", "limits.max_conections=5"], &[]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert_eq!(stderr, "--set: limits.max_conections: unknown key; did you mean limits.max_connections?\n");
}

#[test]
fn a_port_in_use_is_told_with_its_remedy() {
    let program = Program::start(&[]);
    let port = program.socket.rsplit(':').next().unwrap();
    let set = format!("servers.socket.port={port}");
    let (code, stdout, stderr) = output(program.folder.path(), &[&LOOPBACK[..], &["--set", &set]].concat(), &[]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(
        stderr.starts_with(&format!("switchboard: servers.socket cannot listen on 127.0.0.1 port {port}: ")),
        "{stderr}"
    );
    assert!(stderr.contains("another process listens there"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    program.connect().ok("paramsView");
}

#[test]
fn a_unix_socket_is_named_in_the_ready_line_and_removed_at_the_end() {
    let folder = Folder::new();
    let path = folder.join("s.sock");
    let mut command = Command::new(PROGRAM);
    command.arg("serve").args(&LOOPBACK[4..]).arg("--set").arg(format!("servers.socket.path={}", path.display()));
    let mut program = Program::run(command);
    assert_eq!(program.socket, format!("unix:{}", path.display()));
    let mut peer = Peer::over_unix(UnixStream::connect(&path).unwrap());
    peer.welcome();
    assert_eq!(peer.ok("detailsView")["remoteIP"], "unix");
    program.signal(Signal::TERM);
    peer.goodbye();
    drop(peer);
    assert_eq!(program.ended().code(), Some(0));
    assert!(!path.exists());
}

/// Names that would tear a log apart if they were written as they are.
const HOSTILE: [&str; 6] =
    ["\x1b[31mred", "a\tb", "a\u{7}b\u{8}", "{\"level\":\"ERROR\"}", "\u{202e}evil\u{9b}31m", "\0nul"];

fn say_hostile_names(program: &Program) {
    let mut peer = program.connect();
    for name in HOSTILE {
        for verb in ["file", "file ../", "roomAdd", "roomView", "say", "paramAdd"] {
            let separator = if verb.ends_with('/') { "" } else { " " };
            peer.ask(&format!("{verb}{separator}{name}"));
        }
        peer.ask(name);
        peer.ask(&json!({"action": name, "params": {name: name}}).to_string());
    }
    peer.say("quit");
    peer.goodbye();
    eventually("the end is logged", || program.log().contains("connection closed"));
}

#[test]
fn fault_row_8_json_logs_are_one_object_a_line_whatever_clients_are_called() {
    let program = Program::start(&["--set", "log.format=json", "--set", "log.level=trace"]);
    say_hostile_names(&program);
    let log = program.log();
    assert!(log.lines().count() > 3, "{log}");
    for line in log.lines() {
        assert!(!line.bytes().any(|byte| byte < 0x20 || byte == 0x7f), "{line:?}");
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        assert!(line.is_object() && line["level"].is_string());
    }
}

#[test]
fn fault_row_8_text_logs_hold_no_raw_control_bytes() {
    let program = Program::start(&["--set", "log.level=trace"]);
    say_hostile_names(&program);
    let log = program.log();
    assert!(log.lines().count() > 3, "{log}");
    assert!(!log.chars().any(|c| c.is_control() && c != '\n'), "{log:?}");
}

#[test]
fn fault_row_57_a_private_key_is_in_no_log_and_no_answer() {
    let folder = Folder::new();
    let authority = Authority::new("test authority").unwrap();
    let (cert, key) = authority.issue_server().unwrap().write(folder.path()).unwrap();
    let set = |name: &str, path: &Path| format!("servers.socket.tls.{name}={}", path.display());
    let (cert, key_setting) = (set("cert", &cert), set("key", &key));
    let arguments =
        [&LOOPBACK[..], &["--set", "servers.socket.secure=true", "--set", &cert, "--set", &key_setting]].concat();
    let secret: Vec<String> = std::fs::read_to_string(&key).unwrap().lines().map(str::to_owned).collect();
    assert!(secret.len() > 3);

    let program = Program::start(&[&arguments[..], &["--set", "log.level=trace"]].concat());
    // A client that fails its handshake, certificates that are read again, and some that cannot be.
    drop(program.connect_raw());
    program.signal(Signal::HUP);
    eventually("the good ones are read", || program.log().contains("certificates read again"));
    folder.write("cert.pem", secret.join("\n"));
    program.signal(Signal::HUP);
    eventually("the bad one is refused", || program.log().contains("certificates stay as they are"));
    let show = output(folder.path(), &[&["config", "show"][..], &arguments].concat(), &[]);
    let refused = output(folder.path(), &arguments, &[]);
    assert_eq!((show.0, refused.0), (0, 2), "{refused:?}");
    for said in [&program.log(), &show.1, &show.2, &refused.1, &refused.2] {
        assert!(!secret[1..secret.len() - 1].iter().any(|line| said.contains(line)), "{said}");
    }
}

/// Limits that are off need a reason; here are the reasons.
#[test]
fn fault_row_58_every_limit_is_on_by_default_save_those_with_a_reason() {
    let folder = Folder::new();
    let (_, stdout, _) = output(folder.path(), &["config", "show"], &[]);
    let off: Vec<&str> = stdout
        .lines()
        .filter_map(|line| line.split_once(" = 0 #").or(line.split_once(" = \"0s\" #")))
        .map(|(key, _)| key)
        .collect();
    assert_eq!(
        off,
        [
            "workers",             // one for each core
            "welcome_delay",       // a wait, not a limit
            "publish_rate",        // the own applications of the operator publish
            "max_connections",     // what the file descriptors allow
            "max_rooms",           // only the server makes rooms
            "accepts_per_address", // behind a balancer all share one address
            "ts_offset",           // a correction, not a limit
            "heartbeat_interval",  // clients are asked when the operator wants it
        ]
    );
    for expected in
        ["slow_consumer = \"close\"", "max_outbox_bytes = \"1MiB\"", "param_scrubbing = false", "secure = false"]
    {
        assert!(stdout.contains(expected), "{expected}");
    }
}

fn log_a_lot(program: &Program) {
    for _ in 0..50 {
        let mut peer = program.connect();
        peer.ok("paramsView");
    }
}

#[test]
fn fault_row_39_a_full_disk_under_the_log_stops_nothing() {
    let mut command = Command::new(PROGRAM);
    command.args(LOOPBACK).args(["--set", "log.level=trace"]).stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(File::options().write(true).open("/dev/full").unwrap());
    let mut program = Program::spawn(command, Folder::new());
    log_a_lot(&program);
    program.signal(Signal::TERM);
    assert_eq!(program.ended().code(), Some(0));
}

#[test]
fn fault_row_39_a_log_that_nobody_reads_stalls_nothing() {
    let mut command = Command::new(PROGRAM);
    command.args(LOOPBACK).args(["--set", "log.level=trace"]).stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(Stdio::piped());
    let mut program = Program::spawn(command, Folder::new());
    let mut slowest = Duration::ZERO;
    let mut peer = program.connect();
    // More than any pipe holds.
    for _ in 0..600 {
        let begun = Instant::now();
        program.connect().ok("paramsView");
        peer.ok("paramsView");
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    program.signal(Signal::TERM);
    peer.goodbye();
    drop(peer);
    assert_eq!(program.ended().code(), Some(0));
}

#[test]
fn a_closed_standard_output_is_no_reason_to_end() {
    let folder = Folder::new();
    let path = folder.join("s.sock");
    let mut command = Command::new("sh");
    command.arg("-c").arg("exec \"$0\" \"$@\" >&-").arg(PROGRAM);
    command.args(&LOOPBACK[4..]).arg("--set").arg(format!("servers.socket.path={}", path.display()));
    let mut child = command.current_dir(folder.path()).stderr(Stdio::null()).spawn().unwrap();
    let served = within(DEADLINE, || UnixStream::connect(&path).is_ok());
    let _ = child.kill();
    let _ = child.wait();
    assert!(served);
}

#[test]
fn after_many_connections_have_ended_the_program_gives_free_memory_back() {
    let program = Program::start(&["--set", "log.level=debug"]);
    let peers: Vec<_> = (0..300).map(|_| program.connect()).collect();
    assert!(!program.log().contains("gave free memory back"));
    drop(peers);
    // The program looks every 5 s.
    assert!(within(3 * DEADLINE, || program.log().contains("gave free memory back")));
}

#[test]
fn a_variable_that_is_like_no_setting_is_a_warning_in_the_log() {
    let program = Program::start_with(&[], &[("SWITCHBOARD_PORT", "5001")]);
    eventually("it warns", || program.log().contains("environment SWITCHBOARD_PORT: ignored"));
}
