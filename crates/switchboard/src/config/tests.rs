//! Rules of loading, checked through the public interface with tables of files, variables and settings.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    AuthValue, BackendKind, Compat, Config, DuplicateShard, LoadOptions, Loaded, LogFormat, Origin, SlowConsumer,
    StartingRoom,
};

mod applications;
mod hooks;
mod properties;
mod table;
mod users;

/// A directory with files that is gone when the test is over.
struct Dir(PathBuf);

impl Dir {
    fn with(files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("switchboard-config-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&path).unwrap();
        for (name, text) in files {
            fs::write(path.join(name), text).unwrap();
        }
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What is loaded from `switchboard.toml`, if it is not empty, with these variables and settings.
fn load(file: &str, env: &[(&str, &str)], set: &[&str]) -> Result<Loaded, String> {
    let dir = Dir::with(&[("switchboard.toml", file)][usize::from(file.is_empty())..]);
    load_in(&dir.0, env, set)
}

fn load_in(dir: &Path, env: &[(&str, &str)], set: &[&str]) -> Result<Loaded, String> {
    let options = LoadOptions {
        file: None,
        env: env.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        set: set.iter().map(|setting| (*setting).to_owned()).collect(),
        cwd: dir.into(),
    };
    Config::load(&options).map_err(|error| error.to_string())
}

#[track_caller]
fn loaded(file: &str, env: &[(&str, &str)], set: &[&str]) -> Loaded {
    load(file, env, set).unwrap_or_else(|error| panic!("{file:?} {env:?} {set:?}:\n{error}"))
}

/// The lines of the error that a file causes.
#[track_caller]
fn refused(file: &str) -> String {
    load(file, &[], &[]).expect_err(file)
}

/// The lines of the error that a setting causes.
#[track_caller]
fn setting_refused(setting: &str) -> String {
    load("", &[], &[setting]).expect_err(setting)
}

#[test]
fn without_any_source_the_defaults_of_the_contract_hold() {
    let loaded = loaded("", &[("PATH", "/bin"), ("SWITCHBOARD_PORT", "tcp://10.0.0.1:5000")], &[]);
    let Config { node, log, servers, admin, backend, actions, limits, rooms, files, hooks, users, commands, gateway } =
        loaded.config;
    let (socket, web, ddp, shards) = (servers.socket, servers.web, servers.ddp, servers.gateway);
    assert_eq!((commands.timeout, commands.max_timeout), (Duration::from_secs(5), Duration::from_secs(300)));
    assert!(node.name.ends_with(&format!("-{}", std::process::id())), "{}", node.name);
    assert_eq!((node.workers, node.drain_timeout), (0, Duration::from_secs(15)));
    assert_eq!((node.data_dir.to_str(), backend.kind), (Some("data"), BackendKind::Memory));
    assert_eq!((log.level.as_str(), log.format), ("info", LogFormat::Text));
    assert_eq!((socket.enabled, socket.bind.as_str(), socket.port, socket.path), (true, "0.0.0.0", 5000, None));
    assert_eq!((socket.secure, socket.tls.cert, socket.tls.key, socket.tls.client_ca), (false, None, None, None));
    assert_eq!((socket.max_line_bytes, socket.compat), (65_536, Compat::Auto));
    assert_eq!((socket.keepalive, socket.shutdown_wait), (Duration::from_secs(30), Duration::from_secs(5)));
    assert_eq!((web.enabled, web.bind.as_str(), web.port, web.secure), (true, "0.0.0.0", 8080, false));
    assert_eq!((web.allowed_origins, web.max_body_bytes), (Vec::new(), 1_048_576));
    assert_eq!((web.max_headers, web.max_header_bytes, web.header_timeout), (64, 16_384, Duration::from_secs(5)));
    assert_eq!(socket.welcome_message, "Hello! Welcome to the actionhero api");
    assert_eq!((socket.goodbye_message.as_str(), socket.delimiter.as_str()), ("Bye!", "\n"));
    assert_eq!(
        (admin.enabled, admin.bind.as_str(), admin.port, admin.token.is_set()),
        (true, "127.0.0.1", 9090, false)
    );
    assert_eq!((admin.max_body_bytes, admin.max_header_bytes, admin.max_headers), (1_048_576, 16_384, 64));
    assert_eq!(actions.pending_max, 5);
    assert_eq!((limits.max_outbox_bytes, limits.slow_consumer), (1_048_576, SlowConsumer::Close));
    assert_eq!((limits.max_rooms, limits.max_rooms_per_connection), (0, 1000));
    assert_eq!((limits.max_params, limits.max_params_bytes), (64, 65_536));
    assert_eq!((limits.max_json_depth, limits.max_json_keys, limits.max_json_values), (32, 1000, 10_000));
    assert_eq!((limits.max_connections, limits.accepts_per_address), (0, 0));
    assert_eq!((rooms.echo_to_sender, rooms.starting), (false, vec![StartingRoom::open("defaultRoom")]));
    assert_eq!((files.root, files.index.as_str()), (None, "index.html"));
    assert_eq!((hooks.secret.is_set(), hooks.timeout), (false, Duration::from_secs(2)));
    let urls = [hooks.connect.url, hooks.join.url, hooks.leave.url, hooks.say.url, hooks.action.url];
    assert_eq!((urls, actions.remote), ([const { None }; 5], vec![]));
    assert_eq!((users, ddp.enabled, ddp.max_failed_logins, ddp.ambiguous_login_errors), (vec![], true, 30, false));
    assert_eq!((ddp.token_life, ddp.max_tokens_per_user), (Duration::from_secs(90 * 86_400), 100));
    assert_eq!((ddp.password_checks_max, ddp.password_checks_waiting), (2, 1000));
    let seconds = Duration::from_secs;
    assert_eq!((gateway.applications, shards.enabled, shards.allow_insecure), (vec![], true, false));
    assert_eq!((shards.resume_window, shards.heartbeat_interval), (seconds(300), seconds(30)));
    assert_eq!((shards.replay_max_events, shards.replay_max_bytes), (1000, 4 << 20));
    assert_eq!((shards.register_timeout, shards.rate_messages, shards.rate_period), (seconds(60), 120, seconds(60)));
    assert_eq!((shards.max_control_bytes, shards.max_message_bytes, shards.max_json_depth), (4096, 65_536, 64));
    assert_eq!((shards.max_shards, shards.start_total, shards.start_concurrency), (1024, 100_000, 1000));
    assert_eq!((shards.publish_rate, shards.duplicate_shard), (0, DuplicateShard::Replace));
    assert_eq!((shards.drain_spread, shards.drain_grace), (None, None));
    assert_eq!((loaded.origins.iter().count(), loaded.file), (0, None));
    assert_eq!(Config::default().validate(), Ok(()));
}

#[test]
fn later_layers_win_and_the_origin_is_kept() {
    let file = "# a comment\n[servers.socket]\nport = 1\nbind = \"::\"\n[log]\nlevel = \"warn\"\n";
    let env = [("SWITCHBOARD__SERVERS__SOCKET__PORT", "2"), ("switchboard__Log__Level", "error")];
    let all = loaded(file, &env, &["servers.socket.port=3"]);
    assert_eq!(all.config.servers.socket.port, 3);
    assert_eq!(all.config.log.level, "error");
    for (key, origin, place) in [
        ("servers.socket.port", "--set", "--set"),
        ("log.level", "environment switchboard__Log__Level", "environment switchboard__Log__Level"),
        ("servers.socket.bind", "file switchboard.toml:4", "switchboard.toml:4"),
        ("node.name", "default", ""),
    ] {
        let found = all.origins.of(key);
        assert_eq!((found.to_string().as_str(), found.place().as_str()), (origin, place), "{key}");
    }
    assert_eq!(loaded(file, &env, &[]).config.servers.socket.port, 2);
    assert_eq!(loaded(file, &[], &[]).config.servers.socket.port, 1);
}

#[test]
fn a_named_file_must_exist_and_is_found_from_the_working_directory() {
    let dir = Dir::with(&[("a.toml", "log.level = \"warn\"\n")]);
    let mut options = LoadOptions { file: Some("a.toml".into()), cwd: dir.0.clone(), ..LoadOptions::default() };
    let loaded = Config::load(&options).unwrap();
    assert_eq!((loaded.config.log.level.as_str(), loaded.file), ("warn", Some("a.toml".into())));
    let origin = Origin::File { path: "a.toml".into(), line: 1 };
    assert_eq!(loaded.origins.of("log.level"), &origin);
    options.file = Some("b.toml".into());
    let error = Config::load(&options).unwrap_err().to_string();
    assert!(error.starts_with("b.toml: cannot be read: No such file"), "{error}");
}

#[test]
fn all_problems_of_all_sources_are_told_at_once_in_the_order_of_the_lines() {
    let file = "\
[servers.socket]
prot = 5000
port = \"abc\"
secure = true
[servers.cluster]
port = 8080
[limits]
max_line_bytes = 10
slow_consumer = \"wait\"
[rooms]
starting = 3
[[rooms.starting.x]]
";
    let error = load(file, &[("SWITCHBOARD__LOG__FORMAT", "xml")], &["actions.pendingMax=6", "nonsense"]).unwrap_err();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(
        lines,
        [
            "switchboard.toml:2: servers.socket.prot: unknown key; did you mean servers.socket.port?",
            "switchboard.toml:3: servers.socket.port: expected a whole number from 0 to 65535, found \"abc\"",
            "switchboard.toml:5: servers.cluster: unknown key; did you mean backend.redis.cluster?",
            "switchboard.toml:8: limits.max_line_bytes: unknown key; did you mean servers.socket.max_line_bytes?",
            "switchboard.toml:9: limits.slow_consumer: expected \"close\", \"drop-oldest\" or \"drop-newest\", found \
             \"wait\"",
            "switchboard.toml:11: rooms.starting: expected a list of rooms such as [{ name = \"lobby\" }], found 3",
            "switchboard.toml:12: cannot extend value of type integer with a dotted key",
            "environment SWITCHBOARD__LOG__FORMAT: log.format: expected \"text\" or \"json\", found \"xml\"",
            "--set: actions.pendingMax: unknown key; did you mean actions.pending_max?",
            "--set: expected KEY=VALUE, found \"nonsense\"",
            "switchboard.toml:4: servers.socket.secure: true needs servers.socket.tls.cert, a PEM file with the \
             certificate chain",
            "switchboard.toml:4: servers.socket.secure: true needs servers.socket.tls.key, a PEM file with the \
             private key",
        ],
    );
}

#[test]
fn a_broken_line_is_told_once_and_hides_nothing_else() {
    let error = refused("[servers.socket]\nport =\nbindd = \"::\"\nport = 3\nport = 4\n");
    let lines: Vec<&str> = error.lines().collect();
    assert!(lines[0].starts_with("switchboard.toml:2: "), "{error}");
    assert_eq!(lines[1], "switchboard.toml:3: servers.socket.bindd: unknown key; did you mean servers.socket.bind?");
    assert!(lines.iter().filter(|line| line.contains(":2:")).count() == 1, "{error}");
}

#[test]
fn keys_of_features_that_do_not_exist_are_unknown() {
    for key in ["backend.nats.url", "servers.gateway.path"] {
        let error = setting_refused(&format!("{key}=1"));
        assert!(error.starts_with(&format!("--set: {key}: unknown key")), "{error}");
    }
    for file in ["[servers.cluster]\n", "cluster = {}\n"] {
        assert!(refused(file).contains("unknown key"), "{file}");
    }
}

#[test]
fn sections_and_quoted_names_are_not_confused_with_keys() {
    assert_eq!(
        refused("servers = 3\n"),
        "switchboard.toml:1: servers: this is a section; expected keys below it, found 3"
    );
    assert!(refused("\"servers.socket.port\" = 3\n").contains("unknown key"));
    assert!(setting_refused("servers.socket.port.x=3").contains("unknown key"));
    assert_eq!(loaded("", &[], &["servers.socket={port=3}"]).config.servers.socket.port, 3);
}

#[test]
fn values_are_read_with_their_units() {
    for (file, key, expected) in [
        ("node.drain_timeout = \"300ms\"", "node.drain_timeout", "\"300ms\""),
        ("node.drain_timeout = \"90d\"", "node.drain_timeout", "\"90d\""),
        ("node.drain_timeout = \"120s\"", "node.drain_timeout", "\"2m\""),
        ("node.drain_timeout = 0", "node.drain_timeout", "0"),
        ("node.drain_timeout = \"0s\"", "node.drain_timeout", "0"),
        ("limits.max_outbox_bytes = 2048", "limits.max_outbox_bytes", "\"2KiB\""),
        ("limits.max_outbox_bytes = \"1025B\"", "limits.max_outbox_bytes", "\"1025B\""),
        ("limits.max_outbox_bytes = \"3 GiB\"", "limits.max_outbox_bytes", "\"3GiB\""),
        ("limits.max_outbox_bytes = 0", "limits.max_outbox_bytes", "0"),
        ("servers.socket.port = 0x10", "servers.socket.port", "16"),
        ("servers.socket.path = \"\"", "servers.socket.path", "\"\""),
        ("log.level = \"info,switchboard=debug\"", "log.level", "\"info,switchboard=debug\""),
        ("servers.socket.delimiter = \"\\u0000|\"", "servers.socket.delimiter", "\"\\u0000|\""),
    ] {
        let shown = super::show(&loaded(file, &[], &[]));
        let name = key.rsplit('.').next().unwrap();
        let line = format!("{name} = {expected} # file switchboard.toml:1\n");
        assert!(shown.contains(&line), "{file}: {line} is not in\n{shown}");
    }
}

#[test]
fn values_out_of_range_or_of_another_type_are_refused_with_what_was_expected() {
    for (setting, expected) in [
        ("servers.socket.port=65536", "expected a whole number from 0 to 65535, found 65536"),
        ("servers.socket.port=-1", "expected a whole number from 0 to 65535, found -1"),
        ("servers.socket.port=1.5", "expected a whole number from 0 to 65535, found 1.5"),
        ("servers.socket.backlog=0", "expected a whole number from 1 to 65535, found 0"),
        ("servers.socket.enabled=yes", "expected true or false, found \"yes\""),
        ("servers.socket.bind=localhost", "expected an IP address such as \"0.0.0.0\" or \"::\", found \"localhost\""),
        ("servers.socket.keepalive=10ms", "expected 0 or a duration from 1s to 32767s, found \"10ms\""),
        ("servers.socket.delimiter=\"\"", "expected a text of 1 to 16 bytes without CR, found \"\""),
        ("servers.socket.delimiter=\"\\r\\n\"", "expected a text of 1 to 16 bytes without CR, found \"\\r\\n\""),
        (
            "servers.socket.delimiter=12345678901234567",
            "expected a text of 1 to 16 bytes without CR, found 12345678901234567",
        ),
        ("node.workers=1025", "expected a whole number from 0 to 1024, found 1025"),
        ("limits.max_json_depth=0", "expected a whole number from 1 to 127, found 0"),
        ("files.index=a/b", "expected a file name without a slash, found \"a/b\""),
        ("files.chunk_bytes=1", "expected a size from 1KiB to 16MiB, found 1"),
        ("rooms.starting=lobby", "expected a list of rooms such as [{ name = \"lobby\" }], found \"lobby\""),
    ] {
        let key = setting.split_once('=').unwrap().0;
        assert_eq!(setting_refused(setting), format!("--set: {key}: {expected}"), "{setting}");
    }
    for duration in ["5", "5x", "s", "-5s", "1.5s", "36501d", "99999999999999999999s", "1m30s"] {
        let error = setting_refused(&format!("node.drain_timeout={duration}"));
        assert!(error.contains("expected a duration such as \"300ms\""), "{duration}: {error}");
    }
    for size in ["5x", "KiB", "-5", "64KB", "99999999999GiB"] {
        let error = setting_refused(&format!("limits.max_outbox_bytes={size}"));
        assert!(error.contains("expected a size such as \"64KiB\""), "{size}: {error}");
    }
    for level in ["inof", "info,debgu", "", "a=b=c"] {
        let error = setting_refused(&format!("log.level={level}"));
        assert!(error.contains("expected a level (error, warn, info, debug, trace)"), "{level}: {error}");
    }
}

#[test]
fn a_variable_that_is_like_a_setting_is_refused_with_the_name_of_the_setting() {
    for (name, meant) in [
        ("SWITCHBOARD_SERVERS_SOCKET_PORT", "SWITCHBOARD__SERVERS__SOCKET__PORT"),
        ("SWITCHBOARD_SERVERS__SOCKET__PORT", "SWITCHBOARD__SERVERS__SOCKET__PORT"),
        ("switchboard_servers_web_allowed_orgins", "SWITCHBOARD__SERVERS__WEB__ALLOWED_ORIGINS"),
        ("SWITCHBOARD_ADMIN_TOKEN", "SWITCHBOARD__ADMIN__TOKEN"),
        ("SWITCHBOARD_ADMIN_TOKEN_FILE", "SWITCHBOARD__ADMIN__TOKEN_FILE"),
        ("SWITCHBOARD_ADMIN_PORT", "SWITCHBOARD__ADMIN__PORT"),
        ("SWITCHBOARD_USERS", "SWITCHBOARD__USERS"),
    ] {
        let error = load("", &[(name, "canary")], &[]).expect_err(name);
        assert_eq!(error, format!("environment {name}: unknown variable; did you mean {meant}?"));
    }
    // Of container platforms, of tests, and of other programs.
    let without = loaded("", &[], &[]);
    for (name, value) in [
        ("SWITCHBOARD_PORT", "tcp://10.0.0.1:5000"),
        ("SWITCHBOARD_PORT_5000_TCP_ADDR", "10.0.0.1"),
        ("SWITCHBOARD_SERVICE_HOST", "10.0.0.1"),
        ("SWITCHBOARD_SERVICE_PORT", "5000"),
        ("SWITCHBOARD_ADMIN_PORT", "tcp://10.0.0.1:9090"),
        ("SWITCHBOARD_ADMIN_SERVICE_PORT", "9090"),
        ("SWITCHBOARD_BIN", "target/debug/switchboard"),
        ("SWITCHBOARD_KILLS", "100"),
        ("SWITCHBOARD_MEMBERS", "3"),
        ("SWITCHBOARD_SEED", "1"),
        ("SWITCHBOARD_TEST_STORE", "1"),
        ("SWITCHBOARD_", "1"),
    ] {
        assert_eq!(loaded("", &[(name, value)], &[]).config, without.config, "{name}");
    }
}

#[test]
fn outside_files_a_text_needs_no_quotation_marks_and_may_look_like_anything() {
    for (value, expected) in
        [("hi there", "hi there"), ("5", "5"), ("true", "true"), ("\"quoted\"", "quoted"), ("[", "[")]
    {
        let key = "servers.socket.welcome_message";
        let by_set = loaded("", &[], &[&format!("{key} = {value}")]);
        let by_env = loaded("", &[("SWITCHBOARD__SERVERS__SOCKET__WELCOME_MESSAGE", value)], &[]);
        for loaded in [by_set, by_env] {
            assert_eq!(loaded.config.servers.socket.welcome_message, expected);
        }
    }
}

#[test]
fn starting_rooms_replace_the_default_and_may_have_conditions() {
    let file = "[[rooms.starting]]\nname = \"lobby\"\n[[rooms.starting]]\nname = \"vip 1\"\n\
                auth = { authorized = true, level = 3, score = 1.5, role = \"admin\" }\n";
    let setting = "rooms.starting=[{ name = \"lobby\" }, { name = \"vip 1\", auth = { authorized = true, level = 3, \
                   score = 1.5, role = \"admin\" } }]";
    let vip = StartingRoom {
        name: "vip 1".into(),
        auth: [
            ("authorized".into(), AuthValue::Bool(true)),
            ("level".into(), AuthValue::Number(3.into())),
            ("score".into(), AuthValue::Number(serde_json::Number::from_f64(1.5).unwrap())),
            ("role".into(), AuthValue::Text("admin".into())),
        ]
        .into(),
    };
    for loaded in [loaded(file, &[], &[]), loaded("", &[], &[setting])] {
        assert_eq!(loaded.config.rooms.starting, [StartingRoom::open("lobby"), vip.clone()]);
    }
    assert_eq!(loaded("rooms.starting = []", &[], &[]).config.rooms.starting, []);
}

#[test]
fn every_wrong_starting_room_is_told_with_its_place() {
    let file = "\
[[rooms.starting]]
name = \"a\"
[[rooms.starting]]
nmae = \"b\"
[[rooms.starting]]
name = \"a\"
[[rooms.starting]]
name = \"\"
[[rooms.starting]]
name = 5
auth = { x = [] }
[[rooms.starting]]
name = \"line\\nbreak\"
auth = true
";
    assert_eq!(
        refused(file).lines().collect::<Vec<_>>(),
        [
            "switchboard.toml:3: rooms.starting[1]: a room needs a name",
            "switchboard.toml:4: rooms.starting[1].nmae: unknown key; a room has name and auth",
            "switchboard.toml:5: rooms.starting[2].name: expected a room that is not in the list yet, found \"a\"",
            "switchboard.toml:7: rooms.starting[3].name: expected a room name of 1 to 128 bytes without control \
             characters, found \"\"",
            "switchboard.toml:10: rooms.starting[4].name: expected a text, found 5",
            "switchboard.toml:11: rooms.starting[4].auth.x: expected a text, a number, true or false, found a list",
            "switchboard.toml:12: rooms.starting[5].name: expected a room name of 1 to 128 bytes without control \
             characters, found \"line\\nbreak\"",
            "switchboard.toml:14: rooms.starting[5].auth: expected a table such as { authorized = true }, found true",
        ],
    );
    let name = |length| format!("rooms.starting=[{{ name = \"{}\" }}]", "é".repeat(length));
    assert!(load("", &[], &[&name(64)]).is_ok());
    assert!(load("", &[], &[&name(65)]).is_err());
}

#[test]
fn variables_inside_values_are_refused_everywhere() {
    let expected = "${HOME} would be taken literally, variables are not replaced; set this key by SWITCHBOARD__… in the \
                    environment instead";
    assert_eq!(refused("\nfiles.root = \"${HOME}/x\"\n"), format!("switchboard.toml:2: files.root: {expected}"));
    assert_eq!(setting_refused("files.root=${HOME}/x"), format!("--set: files.root: {expected}"));
    let env = [("SWITCHBOARD__FILES__ROOT", "a${HOME}")];
    let error = load("", &env, &[]).unwrap_err();
    assert_eq!(error, format!("environment SWITCHBOARD__FILES__ROOT: files.root: {expected}"));
    assert!(refused("rooms.starting = [{ name = \"${HOME}\" }]").contains(expected));
    for harmless in ["$HOME", "${}", "${a b}", "costs $5 {really}", "${"] {
        assert!(load("", &[], &[&format!("servers.socket.welcome_message={harmless}")]).is_ok(), "{harmless}");
    }
}

#[test]
fn a_variable_with_the_suffix_file_names_a_file_with_the_value() {
    let dir = Dir::with(&[("name", "${a}\r\n"), ("port", "5001\n"), ("bad", "secret\n")]);
    let env = [("SWITCHBOARD__NODE__NAME_FILE", "name"), ("SWITCHBOARD__SERVERS__SOCKET__PORT_FILE", "port")];
    let loaded = load_in(&dir.0, &env, &[]).unwrap();
    assert_eq!((loaded.config.node.name.as_str(), loaded.config.servers.socket.port), ("${a}", 5001));
    assert_eq!(loaded.origins.of("node.name").to_string(), "environment SWITCHBOARD__NODE__NAME_FILE");
    for (env, expected) in [
        (
            // What is in the file is not shown: it may be a secret.
            &[("SWITCHBOARD__NODE__WORKERS_FILE", "bad")][..],
            "environment SWITCHBOARD__NODE__WORKERS_FILE: node.workers: expected a whole number from 0 to 1024",
        ),
        (
            &[("SWITCHBOARD__NODE__NAME_FILE", "name"), ("SWITCHBOARD__NODE__NAME", "a")][..],
            "environment SWITCHBOARD__NODE__NAME_FILE: node.name: set twice, also by SWITCHBOARD__NODE__NAME; remove \
             one of them",
        ),
        (
            &[("SWITCHBOARD__NODE__NAME_FILE", "none")][..],
            "environment SWITCHBOARD__NODE__NAME_FILE: node.name: none cannot be read: No such file or directory (os \
             error 2)",
        ),
        (
            &[("SWITCHBOARD__SERVERS__SOCKET__PROT", "1")][..],
            "environment SWITCHBOARD__SERVERS__SOCKET__PROT: servers.socket.prot: unknown key; did you mean \
             servers.socket.port?",
        ),
    ] {
        assert_eq!(load_in(&dir.0, env, &[]).unwrap_err(), expected);
    }
}

#[test]
fn values_that_contradict_each_other_are_refused_with_a_remedy() {
    for (file, expected) in [
        (
            "servers = { socket.enabled = false, web.enabled = false }",
            "servers.socket.enabled: no listener is enabled; set servers.socket.enabled = true, or servers.web.enabled",
        ),
        (
            "servers.socket.tls.client_ca = \"ca.pem\"",
            "servers.socket.tls.client_ca: has no effect without servers.socket.secure = true; set that too, or \
             remove this key",
        ),
        (
            "servers.socket = { secure = true, tls.cert = \"c.pem\" }",
            "servers.socket.secure: true needs servers.socket.tls.key, a PEM file with the private key",
        ),
        (
            "servers.web = { secure = true, tls.key = \"k.pem\" }",
            "servers.web.secure: true needs servers.web.tls.cert, a PEM file with the certificate chain",
        ),
        (
            "servers.web.allowed_origins = [\"https://a.example\", \"https://b.example/\"]",
            "servers.web.allowed_origins[1]: expected an origin as browsers send it, such as \
             \"https://app.example.org\", or \"*\", found \"https://b.example/\"",
        ),
        (
            "servers.socket = { path = \"s.sock\", port = 5000 }",
            "servers.socket.path: a Unix socket has no port; remove this key or servers.socket.port (file \
             switchboard.toml:1)",
        ),
    ] {
        assert_eq!(refused(file), format!("switchboard.toml:1: {expected}"));
    }
    for fine in [
        "servers.socket = { secure = true, tls.cert = \"c.pem\", tls.key = \"k.pem\", tls.client_ca = \"ca.pem\" }",
        "servers.socket.enabled = false",
        "servers.web.enabled = false",
        "servers.web.allowed_origins = [\"*\", \"http://localhost:3000\"]",
        "servers.socket.path = \"s.sock\"",
        "servers.socket = { path = \"\", port = 5000 }",
    ] {
        assert!(load(fine, &[], &[]).is_ok(), "{fine}");
    }
}

#[test]
fn what_one_client_says_or_is_told_fits_into_a_message_between_nodes() {
    for key in ["max_command_bytes", "max_reply_bytes", "max_client_data_bytes"] {
        let file = |kind| {
            format!(
                "backend.kind = \"{kind}\"\ncommands.{key} = \"600KiB\"\nbackend.redis.max_message_bytes = \"1MiB\"\n"
            )
        };
        let text = "with backend.kind = \"redis\", at most half of backend.redis.max_message_bytes; raise that, or lower this key";
        let errors = refused(&file("redis"));
        assert!(errors.contains(&format!("commands.{key}: {text}")), "{errors}");
        loaded(&file("memory"), &[], &[]);
    }
}

#[test]
fn a_misread_value_is_no_ground_for_a_contradiction() {
    let error = refused("[servers.socket]\nsecure = \"yes\"\ntls.cert = \"c.pem\"\n");
    assert_eq!(error, "switchboard.toml:2: servers.socket.secure: expected true or false, found \"yes\"");
}

#[test]
fn a_configuration_made_in_code_is_checked_like_one_from_a_file() {
    let mut config = Config::default();
    config.node.name = String::new();
    config.servers.socket.secure = true;
    config.servers.socket.tls.cert = Some("c.pem".into());
    config.servers.socket.keepalive = Duration::from_millis(1);
    config.limits.inbox_bytes = 0;
    config.rooms.starting.push(StartingRoom::open("defaultRoom"));
    assert_eq!(
        config.validate().unwrap_err().to_string().lines().collect::<Vec<_>>(),
        [
            "node.name: expected a text of at most 255 bytes without control characters, found \"\"",
            "servers.socket.keepalive: expected 0 or a duration from 1s to 32767s, found 1ms",
            "limits.inbox_bytes: expected a size from 1MiB to 1GiB, found 0",
            "rooms.starting[1].name: expected a room that is not in the list yet, found \"defaultRoom\"",
            "servers.socket.secure: true needs servers.socket.tls.key, a PEM file with the private key",
        ],
    );
}
