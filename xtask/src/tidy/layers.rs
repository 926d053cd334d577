//! Who may name whom.
//!
//! The rules are those of ARCHITECTURE.md. Code that is compiled for tests only is free, but for channels and `unsafe`.

use super::rust::{Code, RustPath};
use super::tree::{File, Tree};
use super::{Problem, Report};

/// A wall: what code in some places must not name.
struct Wall {
    /// The folders and files behind it.
    inside: &'static [&'static str],
    /// Beginnings of paths, each of which stands for all that is below it.
    forbidden: &'static [&'static str],
    advice: &'static str,
}

const PROTO: &str = "crates/switchboard-proto/src/";
const COMMAND: &str = "crates/switchboard/src/command/";
const HUB: &str = "crates/switchboard/src/hub/";
const WORKER: &str = "crates/switchboard/src/worker/";
const WEBHOOK: &str = "crates/switchboard/src/webhook/";
const USERS: &str = "crates/switchboard/src/users/";

const WALLS: &[Wall] = &[
    Wall {
        inside: &[PROTO],
        forbidden: &[
            "std::env",
            "std::fs",
            "std::net::TcpListener",
            "std::net::TcpStream",
            "std::net::ToSocketAddrs",
            "std::net::UdpSocket",
            "std::os",
            "std::process",
            "std::thread",
            "std::time::Instant",
            "std::time::SystemTime",
            "cap_std",
            "fastrand",
            "mio",
            "rustix",
            "socket2",
            "tokio",
            "uuid",
        ],
        advice: "protocols are pure: take time, ids and randomness as arguments, and let the worker do the rest",
    },
    Wall {
        inside: &[HUB],
        forbidden: &["mio", "std::time::Instant", "std::time::SystemTime", "tokio", "tokio_rustls"],
        advice: "the hub is plain data without a clock or a runtime: take what is needed as an argument",
    },
    Wall {
        inside: &[HUB],
        forbidden: &[
            "crate::action",
            "crate::admin",
            "crate::backend",
            "crate::cli",
            "crate::config",
            "crate::net",
            "crate::node",
            "crate::server",
            "crate::worker",
        ],
        advice: "the hub is below everything but the protocols: give it the value, or move the name down",
    },
    Wall {
        inside: &[COMMAND],
        forbidden: &["fastrand", "mio", "std::time::Instant", "std::time::SystemTime", "tokio", "uuid"],
        advice: "the engine of client commands is pure: take time and ids as arguments, and let the node do the rest",
    },
    Wall {
        inside: &[COMMAND],
        forbidden: &[
            "crate::action",
            "crate::admin",
            "crate::backend",
            "crate::cli",
            "crate::config",
            "crate::net",
            "crate::node",
            "crate::server",
            "crate::worker",
        ],
        advice: "the engine of client commands knows the protocols' words and addresses of connections, and nothing else",
    },
    Wall {
        inside: &[WORKER],
        forbidden: &[
            "crate::action",
            "crate::admin",
            "crate::backend",
            "crate::cli",
            "crate::config",
            "crate::net",
            "crate::node",
            "crate::server",
        ],
        advice: "a worker reaches the node through its own trait `Calls` only: add a call, or move the name down",
    },
    Wall {
        inside: &[WORKER],
        forbidden: &["AnyFace", "switchboard_proto::face::AnyFace"],
        advice: "a worker treats all faces alike: what differs belongs behind `Peer`",
    },
    Wall {
        inside: &["crates/switchboard/src/http_connection/"],
        forbidden: &[
            "crate::action",
            "crate::admin",
            "crate::backend",
            "crate::cli",
            "crate::command",
            "crate::config",
            "crate::hub",
            "crate::net",
            "crate::node",
            "crate::server",
            "crate::users",
            "crate::webhook",
            "crate::worker",
        ],
        advice: "connections that speak HTTP serve the web listener and the admin API alike: take limits as arguments",
    },
    Wall {
        inside: &[WEBHOOK],
        forbidden: &[
            "crate::action",
            "crate::admin",
            "crate::backend",
            "crate::cli",
            "crate::hub",
            "crate::net",
            "crate::node",
            "crate::server",
            "crate::worker",
        ],
        advice: "the client of hooks knows how to ask, not about what: decide above it, in the node or an action",
    },
    Wall {
        inside: &[USERS],
        forbidden: &[
            "crate::action",
            "crate::admin",
            "crate::backend",
            "crate::cli",
            "crate::hub",
            "crate::net",
            "crate::node",
            "crate::server",
            "crate::webhook",
            "crate::worker",
        ],
        advice: "users know who may log in, not who is: connections and tokens belong to the node and its backend",
    },
    Wall {
        inside: &["crates/switchboard/src/backend/"],
        forbidden: &["crate::action", "crate::admin", "crate::net", "crate::node", "crate::server", "crate::worker"],
        advice: "a backend reaches workers through `hub::mailbox` only",
    },
    Wall {
        inside: &["crates/switchboard/src/node/"],
        forbidden: &["crate::admin", "crate::cli", "crate::net", "crate::server"],
        advice: "the node is below listeners and API: they call it",
    },
    Wall {
        inside: &["crates/switchboard/src/net/"],
        forbidden: &["crate::admin", "crate::cli", "crate::server"],
        advice: "listeners are below the server, which puts them together",
    },
    Wall {
        inside: &["crates/switchboard/src/admin/"],
        forbidden: &[
            "crate::action",
            "crate::backend",
            "crate::cli",
            "crate::hub",
            "crate::net",
            "crate::server",
            "crate::worker",
        ],
        advice: "the API speaks to `Node` only: what the console can do, an embedder can do",
    },
];

/// The folders of the protocols.
const FACES: [&str; 3] = ["actionhero", "ddp", "gateway"];

/// Where faces meet, beside their own folders.
const MEETING_PLACES: [&str; 4] = [
    "crates/switchboard-proto/src/face.rs",
    "crates/switchboard-proto/src/fuzzing.rs",
    "crates/switchboard-proto/src/peer.rs",
    "crates/switchboard-proto/src/wire.rs",
];

/// What a face shows to everybody: its settings, the reader of its handshake, the writer of its answers over HTTP, where no peer
/// stands in between, and that of what is kept in logs for it. All else in its folder is its own.
const SHOWN: [&str; 11] = [
    "Compat",
    "DdpSettings",
    "GatewaySettings",
    "Opening",
    "SocketSettings",
    "Streams",
    "WebAnswers",
    "WebRefusal",
    "WebSocketSettings",
    "file_not_found",
    "items",
];

/// The only files with `unsafe`.
const UNSAFE_FILES: [&str; 2] = ["crates/switchboard-testkit/src/bench/sys.rs", "crates/switchboard/src/heap.rs"];

pub(super) fn check(tree: &Tree, report: &mut Report) {
    for file in tree.with_extension("rs") {
        let code = Code::parse(&file.text);
        report.problems.extend(unbounded_channels(file, &code));
        report.problems.extend(unsafe_code(file, &code));
        report.problems.extend(macros_for_the_moment(file, &code));
        if is_test(file) {
            continue;
        }
        let code = code.without_tests();
        let paths = code.paths();
        for wall in WALLS.iter().filter(|wall| file.is_under(wall.inside)) {
            report.problems.extend(paths.iter().filter_map(|path| breach(file, path, wall)));
        }
        report.problems.extend(paths.iter().filter_map(|path| foreign_face(file, path)));
        if file.is_under(&[WORKER]) {
            report.problems.extend(paths.iter().filter_map(|path| kind_of_peer(file, path)));
        }
    }
    for path in UNSAFE_FILES {
        if let Some(file) = tree.get(path)
            && !Code::parse(&file.text).tokens.iter().any(|token| token.text == "unsafe")
        {
            report.problems.push(Problem::of_file(
                path,
                "has no `unsafe` any more: take it off UNSAFE_FILES in xtask/src/tidy/layers.rs",
            ));
        }
    }
}

/// Whether a file is compiled for tests only.
fn is_test(file: &File) -> bool {
    file.path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "benches"))
}

fn breach(file: &File, path: &RustPath<'_>, wall: &Wall) -> Option<Problem> {
    wall.forbidden.iter().find_map(|forbidden| {
        let forbidden_segments: Vec<&str> = forbidden.split("::").collect();
        let segments = path.segments.strip_suffix(&["*"]).unwrap_or(&path.segments);
        // A whole module is named too where only a part of it is forbidden: nobody can see then what is used.
        let is_module = segments.len() > 1 && forbidden_segments.starts_with(segments) && segments[0] != "crate";
        (segments.starts_with(&forbidden_segments) || is_module).then(|| {
            Problem::at(&file.path, path.line, format!("names `{}`: {}", path.segments.join("::"), wall.advice))
        })
    })
}

/// A face that is named where it is not known.
fn foreign_face(file: &File, path: &RustPath<'_>) -> Option<Problem> {
    let mut segments = path.segments.iter().skip_while(|segment| matches!(**segment, "crate" | "self" | "super"));
    let first = match *segments.next()? {
        // Another crate's view.
        "switchboard_proto" => *segments.next()?,
        // Elsewhere, or alone, the word may be anything; `actionhero::wire` behind `use crate::actionhero` is found at the `use`.
        first if path.segments.len() > 1 && file.is_under(&[PROTO]) => first,
        _ => return None,
    };
    let face = FACES.into_iter().find(|face| *face == first)?;
    let own = format!("{PROTO}{face}");
    if file.is_under(&[&own]) || file.is_under(&MEETING_PLACES) {
        return None;
    }
    let what = if let Some(other) = FACES.into_iter().find(|face| file.is_under(&[&format!("{PROTO}{face}")])) {
        format!(
            "the face {other} names the face {face}: what they share belongs beside them, in the neutral words of call.rs and event.rs"
        )
    } else if segments.next().is_some_and(|shown| SHOWN.contains(shown)) {
        return None;
    } else {
        format!(
            "names `{}`, which is the face's own: outside its folder only its settings are known",
            path.segments.join("::")
        )
    };
    Some(Problem::at(&file.path, path.line, what))
}

/// A worker may hand a peer's kind on, but neither choose one nor look at it.
fn kind_of_peer(file: &File, path: &RustPath<'_>) -> Option<Problem> {
    let at = path.segments.iter().position(|segment| *segment == "PeerKind")?;
    path.segments.get(at + 1)?;
    Some(Problem::at(
        &file.path,
        path.line,
        format!(
            "names `{}`: a worker treats all faces alike, what differs belongs behind `Peer`",
            path.segments.join("::")
        ),
    ))
}

fn unbounded_channels(file: &File, code: &Code<'_>) -> Vec<Problem> {
    const ADVICE: &str = "has no bound: take a channel with one and decide what happens when it is full";
    let mut problems = Vec::new();
    for (at, token) in code.tokens.iter().enumerate() {
        let is_unbounded = match token.text {
            "unbounded_channel" | "UnboundedSender" | "UnboundedReceiver" => true,
            // Tokio's takes the bound as an argument, the standard library's takes none.
            "channel" => code.text(at.wrapping_sub(2)) == "mpsc" && is_call_without_arguments(code, at + 1),
            _ => false,
        };
        if is_unbounded {
            problems.push(Problem::at(&file.path, token.line, format!("`{}` {ADVICE}", token.text)));
        }
    }
    for path in code.paths() {
        if path.segments.starts_with(&["std", "sync", "mpsc", "channel"]) && !is_reported(&problems, path.line) {
            problems.push(Problem::at(&file.path, path.line, format!("`{}` {ADVICE}", path.segments.join("::"))));
        }
    }
    problems
}

fn is_reported(problems: &[Problem], line: usize) -> bool {
    problems.iter().any(|problem| problem.line == Some(line))
}

/// Whether `()` follows, behind types if there are some.
fn is_call_without_arguments(code: &Code<'_>, mut at: usize) -> bool {
    if code.text(at) == "::" && code.text(at + 1) == "<" {
        let mut depth = 0usize;
        at += 1;
        loop {
            match code.text(at) {
                "<" => depth += 1,
                ">" => depth -= 1,
                "" => return false,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                break;
            }
        }
    }
    code.text(at) == "(" && code.text(at + 1) == ")"
}

fn unsafe_code(file: &File, code: &Code<'_>) -> Vec<Problem> {
    if UNSAFE_FILES.contains(&file.path.as_str()) {
        return Vec::new();
    }
    let words = code.tokens.iter().filter(|token| token.text == "unsafe");
    let what =
        "`unsafe` outside the listed files: do without, or add the file to UNSAFE_FILES in xtask/src/tidy/layers.rs";
    words.map(|token| Problem::at(&file.path, token.line, what)).collect()
}

fn macros_for_the_moment(file: &File, code: &Code<'_>) -> Vec<Problem> {
    let calls = code.tokens.windows(2).filter(|pair| pair[1].text == "!");
    let calls = calls.filter(|pair| matches!(pair[0].text, "dbg" | "todo"));
    calls
        .map(|pair| {
            let what = format!("`{}!` is for the moment of writing: finish it before it is committed", pair[0].text);
            Problem::at(&file.path, pair[0].line, what)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::problems;
    use super::*;

    /// Checks one file; every problem by its line and the words up to the colon.
    fn check(path: &str, text: &str, expected: &[&str]) {
        let found: Vec<String> = problems(&[(path, text)])
            .iter()
            .map(|problem| {
                let problem = problem.strip_prefix(path).and_then(|rest| rest.strip_prefix(':')).unwrap();
                problem.splitn(3, ": ").take(2).collect::<Vec<_>>().join(": ")
            })
            .collect();
        assert_eq!(found, expected, "{path}:\n{text}");
    }

    #[test]
    fn protocols_do_no_input_or_output_and_have_no_clock() {
        let path = "crates/switchboard-proto/src/json.rs";
        for (text, expected) in [
            ("use std::net::{SocketAddr, TcpStream};\n", &["1: names `std::net::TcpStream`"][..]),
            ("use std::net::{IpAddr, SocketAddr};\nuse std::time::Duration;\nuse std::io;\n", &[]),
            ("\nuse std::time;\n", &["2: names `std::time`"]),
            ("use std::time::*;\n", &["1: names `std::time::*`"]),
            ("fn a() {\n    std::thread::sleep(b);\n}\n", &["2: names `std::thread::sleep`"]),
            ("use tokio::{sync::mpsc, time};\n", &["1: names `tokio::sync::mpsc`", "1: names `tokio::time`"]),
            ("// use tokio::time;\nconst A: &str = \"std::thread\";\n", &[]),
            ("#[cfg(test)]\nmod tests {\n    use std::thread;\n}\n", &[]),
        ] {
            check(path, text, expected);
        }
        check("crates/switchboard-proto/src/json/tests.rs", "use std::thread;\n", &[]);
        check("crates/switchboard/src/net/listen.rs", "use tokio::net;\nuse std::time::Instant;\n", &[]);
    }

    #[test]
    fn the_hub_knows_neither_time_nor_what_is_above_it() {
        let path = "crates/switchboard/src/hub/mod.rs";
        check(path, "use std::time::Instant;\n", &["1: names `std::time::Instant`"]);
        check(path, "use mio::Poll;\n", &["1: names `mio::Poll`"]);
        check(path, "fn a(b: crate::node::Node) {}\n", &["1: names `crate::node::Node`"]);
        check(path, "use crate::op::Op;\nuse super::room;\n", &[]);
    }

    #[test]
    fn the_engine_of_client_commands_is_pure() {
        let path = "crates/switchboard/src/command/engine.rs";
        check(path, "use tokio::time;\n", &["1: names `tokio::time`"]);
        check(path, "use crate::backend::Broker;\n", &["1: names `crate::backend::Broker`"]);
        check(path, "use crate::hub::mail::Address;\nuse crate::proto::time::Now;\n", &[]);
    }

    #[test]
    fn a_worker_reaches_the_node_through_its_trait_and_treats_faces_alike() {
        let path = "crates/switchboard/src/worker/mod.rs";
        check(path, "let now = crate::node::unix_ms();\n", &["1: names `crate::node::unix_ms`"]);
        check(path, "match kind {\n    PeerKind::Socket => a(),\n}\n", &["2: names `PeerKind::Socket`"]);
        check(path, "use switchboard_proto::face::AnyFace;\n", &["1: names `switchboard_proto::face::AnyFace`"]);
        check(path, "if let AnyFace::Socket(_) = face {}\n", &["1: names `AnyFace::Socket`"]);
        check(path, "use switchboard_proto::peer::PeerKind;\nfn a(kind: PeerKind) {}\n", &[]);
        check("crates/switchboard/src/server.rs", "let kind = PeerKind::Socket;\n", &[]);
    }

    #[test]
    fn every_layer_names_only_those_below() {
        for (path, name) in [
            ("backend/memory.rs", "crate::worker"),
            ("users/verify.rs", "crate::node"),
            ("node/chat.rs", "crate::net::listen"),
            ("net/tls.rs", "crate::server"),
            ("admin/rooms.rs", "crate::hub::Hub"),
        ] {
            let path = format!("crates/switchboard/src/{path}");
            check(&path, &format!("use {name};\n"), &[format!("1: names `{name}`").as_str()]);
        }
        check("crates/switchboard/src/node/mod.rs", "use crate::{action, backend, hub, worker::calls};\n", &[]);
    }

    #[test]
    fn a_face_never_names_another() {
        let path = "crates/switchboard-proto/src/ddp/mod.rs";
        check(path, "use crate::actionhero::Compat;\n", &["1: the face ddp names the face actionhero"]);
        check(path, "use super::super::gateway;\n", &["1: the face ddp names the face gateway"]);
        check(path, "use crate::ddp::dto;\nuse crate::call::Call;\nlet gateway = 1;\n", &[]);
        check("crates/switchboard-proto/src/face.rs", "use crate::{actionhero::SocketFace, ddp::DdpFace};\n", &[]);
    }

    #[test]
    fn wire_shapes_stay_in_their_face() {
        let message = |name: &str| format!("1: names `{name}`, which is the face's own");
        for name in ["switchboard_proto::actionhero::wire", "switchboard_proto::actionhero"] {
            check("crates/switchboard/src/node/chat.rs", &format!("use {name};\n"), &[message(name).as_str()]);
        }
        let name = "crate::actionhero::SocketFace";
        check("crates/switchboard-proto/src/json.rs", &format!("use {name};\n"), &[message(name).as_str()]);
        // A module of the server may have a face's name.
        check("crates/switchboard/src/node/mod.rs", "use gateway::Gateway;\n", &[]);
        let settings = "use switchboard_proto::actionhero::{Compat, SocketSettings};\n";
        check("crates/switchboard/src/server.rs", settings, &[]);
        check("crates/switchboard-proto/src/wire.rs", "use crate::actionhero::wire;\n", &[]);
        check("crates/switchboard-proto/src/actionhero/answer.rs", "use crate::actionhero::errors;\n", &[]);
        check("crates/switchboard-proto/src/lib.rs", "pub mod actionhero;\n", &[]);
    }

    #[test]
    fn every_channel_has_a_bound() {
        for path in ["crates/switchboard/src/server.rs", "crates/switchboard/tests/it/main.rs"] {
            for (text, expected) in [
                ("let a = mpsc::unbounded_channel();\n", &["1: `unbounded_channel` has no bound"][..]),
                ("let a = std::sync::mpsc::channel();\n", &["1: `channel` has no bound"]),
                ("let a = mpsc::channel::<Vec<u8>>();\n", &["1: `channel` has no bound"]),
                ("use std::sync::mpsc::{Receiver, channel};\n", &["1: `std::sync::mpsc::channel` has no bound"]),
                ("let a = mpsc::channel(1).1;\nlet b = mpsc::channel::<u8>(2);\nlet c = sync_channel(3);\n", &[]),
                ("let a = oneshot::channel();\n", &[]),
            ] {
                check(path, text, expected);
            }
        }
    }

    #[test]
    fn unsafe_code_is_in_the_listed_files_and_they_have_some() {
        let text = "// unsafe\nfn a() { unsafe { b() } }\n#![deny(unsafe_op_in_unsafe_fn)]\n";
        check("crates/switchboard/src/server.rs", text, &["2: `unsafe` outside the listed files"]);
        check(UNSAFE_FILES[0], text, &[]);
        assert!(problems(&[(UNSAFE_FILES[0], "fn a() {}\n")])[0].contains("no `unsafe` any more"));
    }

    #[test]
    fn nothing_is_left_for_later() {
        let text = format!("fn a() {{\n    {0}!();\n    {1}!(b);\n    {0}_list!(c);\n}}\n", "todo", "dbg");
        check(
            "xtask/src/bench.rs",
            &text,
            &["2: `todo!` is for the moment of writing", "3: `dbg!` is for the moment of writing"],
        );
    }
}
