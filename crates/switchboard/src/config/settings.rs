//! Every setting of the server: the one place where a key is added. The reference page and the example file are then
//! written anew by `UPDATE_DOCS=1 cargo test -p switchboard config`.
//!
//! The doc comment of a key is its sentence in `config reference`. Names of keys are promises to operators; units come
//! last in them. Sizes are bytes in code. Where nothing is said about 0, it turns a limit off.

use std::path::PathBuf;
use std::time::Duration;

use switchboard_proto::origin::is_origin;

use super::client_commands::Commands;
use super::ddp_server::DdpServer;
use super::gateway_server::{Gateway, GatewayServer};
use super::hooks::{HttpUrl, LONGEST_ANSWER, OnFailure, RemoteAction, RemoteActions, Url};
use super::kind::{FilePath, OneOf, Size, Span, Switch, Text, Whole, Word};
use super::network::{Network, Networks};
use super::node_name::{NodeName, unique_name};
use super::redis_backend::Redis;
use super::rooms::{StartingRoom, StartingRooms};
use super::secret::{Secret, SecretText};
use super::section::settings;
use super::text_list::TextList;
use super::users::{User, Users};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

settings! {
    /// The configuration of a server. `Config::default()` is what runs without any file.
    ///
    /// Fields are public, for programs that embed the server; [`Config::validate`](Config::validate) says whether
    /// the values make sense together.
    pub struct Config {
        keys {
            /// People and bots that may log in. A password may be its hash instead, made by `switchboard hash-password`.
            users: Vec<User> = Vec::new(), Users;
        }
        sections {
            /// This process: its name, its threads, its end.
            node: Node,
            /// What is written to standard error.
            log: Log,
            /// The listeners.
            servers: Servers,
            /// The API for operators, over HTTP.
            admin: Admin,
            /// What is kept beyond a connection, and where.
            backend: Backend,
            /// What connections may ask the server to do.
            actions: Actions,
            /// Bounds for memory and work, each with a consequence when it is reached.
            limits: Limits,
            /// Chat rooms.
            rooms: Rooms,
            /// The public folder: of the verb `file`, and of HTTP.
            files: Files,
            /// Questions to a backend of yours over HTTP, before something happens.
            hooks: Hooks,
            /// What the server asks clients to do.
            commands: Commands,
            /// Whose shards the gateway serves.
            gateway: Gateway,
        }
    }
}

settings! {
    /// This process: its name, its threads, its end.
    pub struct Node {
        keys {
            /// Name of this server in answers and logs, unique in a cluster; empty: host name and process id, such as
            /// `web1-4711`.
            name: String = unique_name(), NodeName;
            /// Threads that serve connections; 0: one per processor core.
            workers: u16 = 0, Whole::range(0, 1024);
            /// Folder for what `backend.kind = "file"` keeps; made if it is missing. One process at a time uses it.
            data_dir: PathBuf = "data".into(), FilePath;
            /// Time over which a planned stop spreads the closes of WebSockets, so that their clients do not come back all at
            /// once; at most four fifths of what `commands.drain_wait` leaves of `node.drain_timeout` are used; 0: all at once.
            drain_spread: Duration = Duration::from_secs(10), Span::any();
            /// Longest time between the request to stop and the end of the process; 0: everything is closed at once.
            drain_timeout: Duration = Duration::from_secs(15), Span::any(),
                reached "connections that are still open are closed";
        }
        sections {}
    }
}

settings! {
    /// What is written to standard error.
    pub struct Log {
        keys {
            /// The least important level that is written, or filter directives such as `info,switchboard::net=debug`.
            level: String = "info".into(), Text::such_that(LOG_LEVEL, is_log_level);
            /// How lines of the log look: text for people, json for machines.
            format: LogFormat = LogFormat::Text, OneOf;
        }
        sections {}
    }
}

settings! {
    /// The listeners.
    pub struct Servers {
        keys {
            /// Time between two looks at the certificate files of all listeners; 0: they are read again on HUP only.
            certificate_check: Duration = Duration::from_secs(5), Span::any(),
                reached "files that have changed are read again; new handshakes use them if they fit together";
        }
        sections {
            /// The line protocol over TCP or a Unix socket.
            socket: SocketServer,
            /// HTTP: actions, files, and every WebSocket by its path.
            web: WebServer,
            /// ActionHero's browser protocol, on the web listener under `/primus`.
            websocket: WebSocketServer,
            /// DDP, the protocol of bots, on the web listener under `/websocket`.
            ddp: DdpServer,
            /// The gateway of bots and their shards, on the web listener under `/gateway`.
            gateway: GatewayServer,
        }
    }
}

settings! {
    /// The line protocol over TCP or a Unix socket.
    pub struct SocketServer {
        keys {
            /// Whether the server listens for the line protocol.
            enabled: bool = true, Switch;
            /// Address to listen on, IPv4 or IPv6; `::` is every address of both families.
            bind: String = "0.0.0.0".into(), Text::such_that("IP address such as \"0.0.0.0\" or \"::\"", is_ip_address);
            /// TCP port to listen on; 0: a free one, which the ready line names.
            port: u16 = 5000, Whole::range(0, 65_535);
            /// Unix socket to listen on instead of `bind` and `port`; a stale socket file is replaced.
            path: Option<PathBuf> = None, FilePath;
            /// Whether connections are encrypted with TLS, which needs `tls.cert` and `tls.key`.
            secure: bool = false, Switch;
            /// Longest line of a client, without its end.
            max_line_bytes: usize = 64 * KIB, Size::any(),
                reached "the line is skipped and answered with an error; at 16 times the limit the connection is closed";
            /// Silence after which the kernel asks whether the peer is still there, without anything visible on the
            /// wire; 0: never.
            keepalive: Duration = Duration::from_secs(30),
                Span::off_or(Duration::from_secs(1), Duration::from_secs(32_767)),
                reached "unanswered probes close the connection, with 30s some 75 seconds after the last sign of life";
            /// Time that pending actions get at a planned stop; 0: as long as `node.drain_timeout` allows.
            shutdown_wait: Duration = Duration::from_secs(5), Span::any(),
                reached "the connection is closed with a goodbye and the answers are dropped";
            /// Generation of clients to speak to: auto serves all of them, classic and modern exactly one.
            compat: Compat = Compat::Auto, OneOf;
            /// Text of the first line that a client receives; empty: no such line.
            welcome_message: String = "Hello! Welcome to the actionhero api".into(), Text::any();
            /// Time between accepting a connection and the welcome line; 0: at once.
            welcome_delay: Duration = Duration::ZERO, Span::any();
            /// Text of the last line that a client receives; with `compat = "modern"` the default is `Bye`.
            goodbye_message: String = "Bye!".into(), Text::any();
            /// What ends a line of a client, besides CR, which always counts as a line feed.
            delimiter: String = "\n".into(), Text::such_that("text of 1 to 16 bytes without CR", is_delimiter);
            /// Whether only params that some action declares are kept for a connection.
            param_scrubbing: bool = false, Switch;
            /// Time that a client gets to read the last lines after the server has closed its side; 0: none.
            close_linger: Duration = Duration::from_secs(2), Span::any(),
                reached "the connection is reset and what was not read is lost";
            /// Connections that the kernel keeps waiting for the server to accept them, at most what the system allows.
            backlog: u16 = 4096, Whole::range(1, 65_535),
                reached "the kernel drops further attempts, which clients repeat";
        }
        sections {
            /// Certificate, key and authorities for `secure`.
            tls: Tls,
        }
    }
}

settings! {
    /// HTTP: actions, files, and every WebSocket by its path.
    pub struct WebServer {
        keys {
            /// Whether the server listens for HTTP.
            enabled: bool = true, Switch;
            /// Address to listen on, IPv4 or IPv6; `::` is every address of both families.
            bind: String = "0.0.0.0".into(), Text::such_that("IP address such as \"0.0.0.0\" or \"::\"", is_ip_address);
            /// TCP port to listen on; 0: a free one, which the ready line names.
            port: u16 = 8080, Whole::range(0, 65_535);
            /// Whether connections are encrypted with TLS, which needs `tls.cert` and `tls.key`.
            secure: bool = false, Switch;
            /// Pages of other hosts that may call actions and open WebSockets, each as its browser's `Origin`, such as
            /// `https://app.example.org`; `*`: all pages. Requests without `Origin` are not from a page.
            allowed_origins: Vec<String> = Vec::new(),
                TextList::of("an origin as browsers send it, such as \"https://app.example.org\", or \"*\"", is_origin_or_any);
            /// Generation whose texts the answers of actions have: auto and classic say `Error: …`, modern does not.
            compat: Compat = Compat::Auto, OneOf;
            /// Longest body of a request.
            max_body_bytes: usize = MIB, Size::any(), reached "the request is answered with 413 and its connection closed";
            /// Longest head of a request: its first line and its headers.
            max_header_bytes: usize = 16 * KIB, Size::range(KIB, 16 * MIB),
                reached "the request is answered with 431 and its connection closed";
            /// Headers of one request.
            max_headers: u16 = 64, Whole::range(8, 100),
                reached "the request is answered with 431 and its connection closed";
            /// Time that a client has for the head of a request, from its first byte, or from accepting the connection.
            header_timeout: Duration = Duration::from_secs(5), Span::any(), reached "the connection is closed";
            /// Time that a client has for the body of a request.
            body_timeout: Duration = Duration::from_secs(10), Span::any(),
                reached "the request is answered with 408 and its connection closed";
            /// Time that an action has.
            request_timeout: Duration = Duration::from_secs(60), Span::any(),
                reached "the action is dropped and the request answered with 503";
            /// Time in which a client must have taken something of an answer that is being sent.
            write_timeout: Duration = Duration::from_secs(30), Span::any(), reached "the connection is closed";
            /// Silence after which a connection without a request is closed.
            idle_timeout: Duration = Duration::from_secs(60), Span::any(), reached "the connection is closed";
            /// Connections that speak HTTP at the same time; one that has become a WebSocket does not count.
            max_connections: usize = 10_000, Whole::any(),
                reached "a new connection is answered with 503 and closed";
            /// Silence after which the kernel asks whether the peer is still there; 0: never. WebSockets keep it.
            keepalive: Duration = Duration::from_secs(30),
                Span::off_or(Duration::from_secs(1), Duration::from_secs(32_767)),
                reached "unanswered probes close the connection, with 30s some 75 seconds after the last sign of life";
            /// Connections that the kernel keeps waiting for the server to accept them, at most what the system allows.
            backlog: u16 = 4096, Whole::range(1, 65_535),
                reached "the kernel drops further attempts, which clients repeat";
        }
        sections {
            /// Certificate, key and authorities for `secure`.
            tls: Tls,
        }
    }
}

settings! {
    /// ActionHero's browser protocol, on the web listener under `/primus`.
    pub struct WebSocketServer {
        keys {
            /// Whether the web listener speaks it.
            enabled: bool = true, Switch;
            /// Generation of clients to speak to: auto serves all of them, classic and modern exactly one.
            compat: Compat = Compat::Auto, OneOf;
            /// Text of the first message that a client receives; empty: no such message.
            welcome_message: String = "Hello! Welcome to the actionhero api".into(), Text::any();
            /// Longest message of a client, after inflating; never off.
            max_message_bytes: usize = 64 * KIB, Size::range(125, 64 * MIB),
                reached "the connection is closed with code 1009";
            /// Frames that one message may come in.
            max_fragments: u32 = 1024, Whole::any(), reached "the connection is closed with code 1008";
            /// Pings and pongs of the WebSocket protocol that one client may send in a second, and as many at once.
            max_control_frames: u32 = 16, Whole::any(), reached "the connection is closed with code 1008";
            /// Time that a message may take from its first byte to its last.
            message_timeout: Duration = Duration::from_secs(10), Span::any(),
                reached "the connection is closed with code 1008";
            /// Time without a ping of the client after which the server pings, which clients since ActionHero 16 expect
            /// every 30 seconds; 0: never.
            heartbeat: Duration = Duration::from_secs(30), Span::any();
            /// Silence after which a client is given up; 0: never.
            silence_timeout: Duration = Duration::from_secs(75), Span::any(),
                reached "the connection is closed with code 1001";
            /// Whether room messages are compressed for clients that offer permessage-deflate, and theirs inflated.
            compression: bool = false, Switch;
        }
        sections {}
    }
}

settings! {
    /// Certificate, key and authorities of a listener. Files are PEM.
    pub struct Tls {
        keys {
            /// File with the certificate chain of the server, the server's own first.
            cert: Option<PathBuf> = None, FilePath;
            /// File with the private key that belongs to the certificate.
            key: Option<PathBuf> = None, FilePath;
            /// File with the authorities whose certificates clients must present; empty: clients need no certificate.
            client_ca: Option<PathBuf> = None, FilePath;
        }
        sections {}
    }
}

settings! {
    /// The API for operators, over HTTP: rooms, members, connections, figures. See docs/guide/admin.md.
    pub struct Admin {
        keys {
            /// Whether the server listens for the admin API.
            enabled: bool = true, Switch;
            /// Address to listen on. Whoever can reach it may try tokens, and it is not encrypted: beyond this machine put
            /// a proxy with TLS in front.
            bind: String = "127.0.0.1".into(), Text::such_that("IP address such as \"127.0.0.1\" or \"::1\"", is_ip_address);
            /// TCP port to listen on; 0: a free one, which the ready line names.
            port: u16 = 9090, Whole::range(0, 65_535);
            /// What clients must send as `Authorization: Bearer TOKEN`; empty: a random one is made at each start and
            /// written to the log once. The command line is visible to others: use
            /// `SWITCHBOARD__ADMIN__TOKEN_FILE`.
            token: Secret = Secret::default(), SecretText::Token;
            /// Connections of this listener at the same time; never off. A client command that waits for its reply holds one.
            max_connections: usize = 256, Whole::range(1, 10_000), reached "further ones wait in the kernel";
            /// Time that a client has for the head of a request, from the end of the one before.
            header_timeout: Duration = Duration::from_secs(5), Span::any(), reached "the connection is closed";
            /// Lines in the head of a request; never off.
            max_headers: usize = 64, Whole::range(8, 1000), reached "the request is answered with 431";
            /// Bytes of the head of a request; never off.
            max_header_bytes: usize = 16 * KIB, Size::range(8 * KIB, 16 * MIB),
                reached "the request is answered with 431";
            /// Bytes of the body of a request.
            max_body_bytes: usize = MIB, Size::any(), reached "the request is answered with 413, `too_large`";
            /// Time that a client has for the body of a request.
            body_timeout: Duration = Duration::from_secs(10), Span::any(),
                reached "the request is answered with 408, `timed_out`, and the connection is closed";
            /// Time in which a client must have taken something of an answer that is being sent.
            write_timeout: Duration = Duration::from_secs(30), Span::any(), reached "the connection is closed";
            /// Requests with a wrong token that one address, or one /64 network of IPv6, may make at once. They are forgiven one
            /// after the other, as many in a second. Requests without a token do not count.
            failures_per_address: u32 = 50, Whole::any(),
                reached "further ones from that address, probes excepted, are answered with 429, `rate_limited`; the right token is not";
        }
        sections {}
    }
}

settings! {
    /// What is kept beyond a connection, and where. See docs/guide/operating.md.
    pub struct Backend {
        keys {
            /// Where tokens, the rooms of users, the clocks of their commands and gateway sessions are kept: memory forgets them when
            /// the process ends; file keeps them in `node.data_dir`, also when it is killed; redis shares them, and rooms, with all nodes
            /// of a cluster.
            kind: BackendKind = BackendKind::Memory, OneOf;
            /// With redis, while it cannot be reached: refuse what is said in rooms, or deliver it locally, to the members on the
            /// same node, without a number.
            degraded: Degraded = Degraded::Refuse, OneOf;
        }
        sections {
            /// Several nodes that share rooms, members, commands and gateway sessions through Redis.
            redis: Redis,
        }
    }
}

settings! {
    /// What connections may ask the server to do.
    pub struct Actions {
        keys {
            /// Actions of one connection that may run at the same time.
            pending_max: usize = 5, Whole::any(),
                reached "the next action is answered with the error that there are too many pending requests";
            /// Actions that are declared long-running and run, or wait for one of the 512 threads that they share with
            /// reading files, on all connections together.
            long_running_max: usize = 256, Whole::any(),
                reached "the next long-running action is answered with the error that the server is busy";
            /// Memory of the cache that actions share on this node.
            cache_max_bytes: usize = 16 * MIB, Size::any(),
                reached "nothing more is saved until entries expire";
            /// Params whose values are secrets, as inputs are that an action declares secret: they go with one action, do not
            /// stick, and are shown as `***`. Upper and lower case, `_` and `-` make no difference. Empty: none.
            secret_params: Vec<String> = SECRET_PARAMS.map(String::from).into(),
                TextList::of("a name without control characters", is_name);
            /// Actions that a backend of yours answers over HTTP, on every protocol; `[hooks]` says how it is asked.
            remote: Vec<RemoteAction> = Vec::new(), RemoteActions;
        }
        sections {}
    }
}

settings! {
    /// Bounds for memory and work.
    pub struct Limits {
        keys {
            /// Connections at the same time over all listeners; 0: what the limit of open files allows.
            max_connections: usize = 0, Whole::any(), reached "a new connection is closed at once";
            /// Bytes that may wait for one connection without having been asked for: room messages and direct messages of
            /// a client that does not read. Answers do not count: see `limits.read_pause_bytes`.
            max_outbox_bytes: usize = MIB, Size::any(), reached "`limits.slow_consumer` decides";
            /// What happens to a client that does not keep up: its connection is closed, or room messages, and only
            /// those, are dropped from the front or the back of its outbox and reported as a gap. A direct message that does
            /// not fit closes the connection in any case.
            slow_consumer: SlowConsumer = SlowConsumer::Close, OneOf;
            /// Bytes that may wait for one connection, answers included, before requests from it are no longer read.
            read_pause_bytes: usize = 64 * KIB, Size::any(),
                reached "the connection is not read until its client has caught up";
            /// Bytes that one connection may be read for before the others have their turn; one such buffer per worker
            /// thread.
            read_buffer_bytes: usize = 64 * KIB, Size::range(KIB, 16 * MIB);
            /// Bytes of room messages that are joined into one write to every member.
            batch_bytes: usize = 64 * KIB, Size::range(KIB, 16 * MIB),
                reached "the rest goes out with the next turn of the worker thread";
            /// Bytes that may wait for one worker thread, room messages above all; never off.
            inbox_bytes: usize = 64 * MIB, Size::range(MIB, 1024 * MIB),
                reached "a publish waits for room, and its connection is not read meanwhile";
            /// Rooms at the same time; 0: any number, since only the server creates rooms.
            max_rooms: usize = 0, Whole::any(), reached "no further room is created";
            /// Rooms that one connection may be in.
            max_rooms_per_connection: usize = 1000, Whole::any(),
                reached "joining is refused with `too many rooms`";
            /// Params that are kept for one connection.
            max_params: usize = 64, Whole::any(), reached "further params are refused with `too many params`";
            /// Bytes of the params, names and values, that are kept for one connection.
            max_params_bytes: usize = 64 * KIB, Size::any(),
                reached "further params are refused with `too many params`";
            /// Nesting of lists and objects in what clients send; never off, since depth costs stack.
            max_json_depth: usize = 32, Whole::range(1, 127), reached "the request is refused";
            /// Members of one object in what clients send.
            max_json_keys: usize = 1000, Whole::any(), reached "the request is refused";
            /// Values in one message of a client, lists and objects among them. They cost the worker time and memory.
            max_json_values: usize = 10_000, Whole::any(), reached "the request is refused";
            /// New connections from one address in a second; off by default, since behind a balancer all clients share
            /// one.
            accepts_per_address: u32 = 0, Whole::any(), reached "the connection is closed at once";
            /// Time that a client has for its TLS handshake.
            tls_handshake_timeout: Duration = Duration::from_secs(5), Span::any(), reached "the connection is closed";
            /// TLS handshakes of one listener at the same time.
            tls_handshakes_max: usize = 256, Whole::any(),
                reached "new connections wait in the kernel until a handshake is over";
        }
        sections {}
    }
}

settings! {
    /// Chat rooms.
    pub struct Rooms {
        keys {
            /// Whether whoever says something in a room hears it too. Those whose protocol has `compat = "modern"` do in any
            /// case.
            echo_to_sender: bool = false, Switch;
            /// Messages of each room that are remembered, for protocols whose clients ask for what was said; 0: none.
            history_messages: usize = 100, Whole::range(0, 100_000), reached "the oldest are forgotten";
            /// Bytes of each room's messages that are remembered.
            history_bytes: usize = 64 * KIB, Size::any(), reached "the oldest are forgotten";
            /// Bytes of all rooms' messages together that are remembered. With `backend.kind = "redis"` nothing: there each room has its
            /// own limits alone.
            history_total_bytes: usize = 64 * MIB, Size::any(),
                reached "a room in which something is said forgets its own oldest messages";
            /// Time for which an id that a client chose for its message is remembered: saying the same again under it says
            /// nothing twice.
            message_id_memory: Duration = Duration::from_secs(300), Span::range(Duration::ZERO, Duration::from_secs(86_400));
            /// Ids of each room's messages that are remembered.
            message_ids_max: usize = 1000, Whole::any(), reached "the oldest are forgotten";
            /// Bytes of each room's messages that are remembered for their ids.
            message_ids_bytes: usize = MIB, Size::any(), reached "the oldest are forgotten";
            /// Rooms that exist from the start; a list replaces the default. `auth` names what a connection's
            /// server-only state must contain before it may enter; every pair must match. It counts when the room is first made:
            /// a node that restarts beside others leaves the pattern as it is.
            starting: Vec<StartingRoom> = vec![StartingRoom::open("defaultRoom")], StartingRooms;
        }
        sections {}
    }
}

settings! {
    /// The public folder: of the verb `file`, and of HTTP.
    pub struct Files {
        keys {
            /// Folder whose files clients may read; nothing outside it can be named. Empty: the folder `public` of the working
            /// directory, and a chat page that is part of the program while there is no such folder.
            root: Option<PathBuf> = None, FilePath;
            /// File that stands for a folder.
            index: String = "index.html".into(), Text::such_that("file name without a slash", is_file_name);
            /// Whether files and folders whose names begin with a dot are served. Editors and tools keep secrets in them.
            /// `.well-known` always is.
            hidden: bool = false, Switch;
            /// Bytes that are read from a file at a time while it is sent.
            chunk_bytes: usize = 64 * KIB, Size::range(KIB, 16 * MIB);
        }
        sections {}
    }
}

settings! {
    /// Questions to a backend of yours over HTTP, before something happens. What follows holds for each of them, and for
    /// actions that a backend answers (`actions.remote`).
    pub struct Hooks {
        keys {
            /// Key with which requests are signed (HMAC-SHA256), so that a backend can tell them from anybody else's; needed
            /// as soon as there is a URL. Never shown again.
            secret: Secret = Secret::default(), SecretText::Key;
            /// Time that a question may take, from the wish to ask to the last byte of the answer.
            timeout: Duration = Duration::from_secs(2), Span::range(Duration::from_millis(1), LONGEST_ANSWER),
                reached "`on_failure` of the hook decides; an action of a backend fails with `unavailable`";
            /// Requests to one URL at the same time.
            concurrency_max: usize = 64, Whole::range(1, 4096), reached "the next one waits for its turn";
            /// Requests that may wait for their turn at one URL.
            waiting_max: usize = 1024, Whole::range(0, 1_000_000), reached "as with `hooks.timeout`, at once";
            /// Longest answer of a backend, without its headers. Six times the question may always be answered, which is the
            /// question with each character escaped.
            max_answer_bytes: usize = 64 * KIB, Size::range(KIB, 16 * MIB), reached "the question is refused, whatever `on_failure` says";
            /// Failures of one URL in a row after which it is not asked for a while; 0: it is always asked.
            breaker_failures: u32 = 5, Whole::any(), reached "as with `hooks.timeout`, at once, for `hooks.breaker_pause`";
            /// Time that a URL which keeps failing is left alone; then one request tries again.
            breaker_pause: Duration = Duration::from_secs(5), Span::range(Duration::from_millis(1), LONGEST_ANSWER);
            /// Addresses and networks that URLs may lead to, after their names are resolved; empty: any.
            allow: Vec<Network> = Vec::new(), Networks;
            /// PEM file with the authorities that vouch for `https` backends; empty: those of the system, in
            /// `/etc/ssl/certs/ca-certificates.crt`.
            ca: Option<PathBuf> = None, FilePath;
        }
        sections {
            /// Asked before a connection is welcomed.
            connect: ConnectHook,
            /// Asked before a connection joins a room.
            join: JoinHook,
            /// Told after a connection has left a room.
            leave: LeaveHook,
            /// Asked before what a connection says in a room gets its number.
            say: SayHook,
            /// Asked before an action runs.
            action: ActionHook,
        }
    }
}

settings! {
    /// Asked before a connection is welcomed; until then nothing of it is read.
    pub struct ConnectHook {
        keys {
            /// Where to ask whether somebody may connect; empty: nobody is asked.
            url: Option<HttpUrl> = None, Url;
            /// What happens to a connection when no answer could be had.
            on_failure: OnFailure = OnFailure::Refuse, OneOf;
        }
        sections {}
    }
}

settings! {
    /// Asked before a connection joins a room, when the room exists and its pattern lets the connection in.
    pub struct JoinHook {
        keys {
            /// Where to ask whether a connection may join; empty: nobody is asked.
            url: Option<HttpUrl> = None, Url;
            /// What happens to a join when no answer could be had.
            on_failure: OnFailure = OnFailure::Refuse, OneOf;
        }
        sections {}
    }
}

settings! {
    /// Told after a connection has left a room, many leaves in one request; nothing waits for it.
    pub struct LeaveHook {
        keys {
            /// Where leaves are reported; empty: nowhere.
            url: Option<HttpUrl> = None, Url;
            /// Shortest time between two reports; leaves gather meanwhile.
            interval: Duration = Duration::from_millis(200), Span::range(Duration::from_millis(1), LONGEST_ANSWER);
            /// Longest report.
            max_report_bytes: usize = 256 * KIB, Size::range(32 * KIB, 16 * MIB),
                reached "the rest goes into the next report";
            /// Bytes of leaves that may wait to be reported.
            max_queue_bytes: usize = 4 * MIB, Size::range(32 * KIB, 1024 * MIB),
                reached "further leaves are not reported; the next report says how many";
        }
        sections {}
    }
}

settings! {
    /// Asked before what a connection says in a room gets its number, when say middleware has let it pass.
    pub struct SayHook {
        keys {
            /// Where to ask whether something may be said; empty: nobody is asked.
            url: Option<HttpUrl> = None, Url;
            /// What happens to a message when no answer could be had.
            on_failure: OnFailure = OnFailure::Refuse, OneOf;
        }
        sections {}
    }
}

settings! {
    /// Asked before an action runs, when its inputs are checked and other middleware has let it pass.
    pub struct ActionHook {
        keys {
            /// Where to ask whether an action may run; empty: nobody is asked.
            url: Option<HttpUrl> = None, Url;
            /// What happens to an action when no answer could be had.
            on_failure: OnFailure = OnFailure::Refuse, OneOf;
        }
        sections {}
    }
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}

impl Word for LogFormat {
    const WORDS: &'static [(Self, &'static str)] = &[(Self::Text, "text"), (Self::Json, "json")];
}

/// Where things are kept beyond a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendKind {
    /// In this process's memory.
    Memory,
    /// In one file of `node.data_dir`.
    File,
    /// In Redis, shared by all nodes of a cluster.
    Redis,
}

impl Word for BackendKind {
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::Memory, "memory"), (Self::File, "file"), (Self::Redis, "redis")];
}

/// What becomes of what is said in rooms while the store cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Degraded {
    /// It is refused at once.
    Refuse,
    /// Members on the same node hear it, without a number; afterwards they are told of a gap.
    Local,
}

impl Word for Degraded {
    const WORDS: &'static [(Self, &'static str)] = &[(Self::Refuse, "refuse"), (Self::Local, "local")];
}

/// The generation of clients that a listener speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compat {
    /// Every generation at once: the classic answers, and a `messageId` wherever a request had one.
    Auto,
    /// ActionHero as documented, generation 9.
    Classic,
    /// ActionHero generation 29.
    Modern,
}

impl Word for Compat {
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::Auto, "auto"), (Self::Classic, "classic"), (Self::Modern, "modern")];
}

/// What happens to a client whose outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlowConsumer {
    /// The connection is closed.
    Close,
    /// The newest room messages are dropped and reported as a gap.
    DropNewest,
    /// The oldest room messages are dropped and reported as a gap.
    DropOldest,
}

impl Word for SlowConsumer {
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::Close, "close"), (Self::DropOldest, "drop-oldest"), (Self::DropNewest, "drop-newest")];
}

const LOG_LEVEL: &str =
    "level (error, warn, info, debug, trace) or filter directives such as \"info,switchboard=debug\"";

/// A bare word must be a level: the filter would take a misspelt one for the name of a module and go silent.
fn is_log_level(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let is_level_or_pair = |part: &str| LEVELS.contains(&part.trim()) || part.contains('=');
    // Commas inside a span's brackets separate fields, not directives.
    let names_a_span = text.contains('[');
    (names_a_span || text.split(',').all(is_level_or_pair))
        && tracing_subscriber::EnvFilter::builder().parse(text).is_ok()
}

fn is_ip_address(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

/// CR becomes LF before lines are told apart, so a delimiter with one would never be found.
fn is_delimiter(text: &str) -> bool {
    (1..=16).contains(&text.len()) && !text.contains('\r')
}

/// Usual names of passwords and of other credentials.
const SECRET_PARAMS: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "currentPassword",
    "newPassword",
    "oldPassword",
    "secret",
    "clientSecret",
    "token",
    "accessToken",
    "refreshToken",
    "apiKey",
];

fn is_origin_or_any(text: &str) -> bool {
    text == "*" || is_origin(text)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

fn is_file_name(text: &str) -> bool {
    !text.is_empty() && text != "." && text != ".." && !text.contains(['/', '\\', '\0'])
}
