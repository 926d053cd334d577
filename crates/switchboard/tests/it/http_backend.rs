//! A backend that hooks ask: a small HTTP server whose answers the test gives.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use ring::hmac;
use serde_json::Value;
use switchboard_testkit::client::PATIENCE;

/// The secret that tests sign with.
pub(crate) const SECRET: &str = "a secret that only the tests know";

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The body as JSON.
    pub(crate) json: Value,
}

/// What a backend does with a request.
pub(crate) enum Reaction {
    /// Answers with a status and a JSON body.
    Json(u16, Value),
    /// Writes these bytes instead of an answer, and closes.
    Raw(Vec<u8>),
    /// Says nothing, until the other side closes.
    Silence,
    /// Writes these bytes again and again, so long apart, until the other side has enough.
    Repeat { head: Vec<u8>, piece: Vec<u8>, pause: Duration },
}

/// Whatever `{}` would be.
pub(crate) fn yes() -> Reaction {
    Reaction::Json(200, serde_json::json!({}))
}

/// A running backend. It takes no more connections when this is dropped.
pub(crate) struct Backend {
    address: SocketAddr,
    asked: Receiver<Asked>,
    stopped: Arc<AtomicBool>,
    /// Held by every conversation.
    open: Arc<()>,
}

/// A socket, perhaps inside TLS.
trait Duplex: Read + Write {}
impl<T: Read + Write> Duplex for T {}

impl Backend {
    /// One that reacts like this. Reactions may block: every connection has a thread.
    pub(crate) fn start(react: impl Fn(&Asked) -> Reaction + Send + Sync + 'static) -> Self {
        Self::serve(None, react)
    }

    /// The same inside TLS.
    pub(crate) fn start_tls(
        config: Arc<rustls::ServerConfig>,
        react: impl Fn(&Asked) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        Self::serve(Some(config), react)
    }

    fn serve(
        tls: Option<Arc<rustls::ServerConfig>>,
        react: impl Fn(&Asked) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (note, asked) = sync_channel(10_000);
        let stopped = Arc::new(AtomicBool::new(false));
        let (react, is_stopped) = (Arc::new(react), Arc::clone(&stopped));
        let open = Arc::new(());
        let is_open = Arc::downgrade(&open);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                if is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (socket, react, note, tls) = (socket.unwrap(), Arc::clone(&react), note.clone(), tls.clone());
                let is_open = is_open.upgrade();
                std::thread::spawn(move || {
                    let _is_open = is_open;
                    let socket: Box<dyn Duplex> = match tls {
                        None => Box::new(socket),
                        Some(config) => {
                            let connection = rustls::ServerConnection::new(config).unwrap();
                            Box::new(rustls::StreamOwned::new(connection, socket))
                        }
                    };
                    converse(BufReader::new(socket), &*react, &|asked| note.send(asked).unwrap());
                });
            }
        });
        Self { address, asked, stopped, open }
    }

    /// The setting that makes a hook ask here, as in `hooks.say`.
    pub(crate) fn setting(&self, hook: &str) -> String {
        format!("{hook}.url={}", self.url(hook))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// The same under the name of this machine, as it is in certificates.
    pub(crate) fn url_by_name(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}/", self.address.port())
    }

    /// The next request, waited for.
    #[track_caller]
    pub(crate) fn next(&self) -> Asked {
        self.asked.recv_timeout(PATIENCE).expect("a request comes in time")
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> usize {
        Arc::strong_count(&self.open) - 1
    }

    /// How many requests came that nobody has looked at.
    pub(crate) fn others(&self) -> usize {
        self.asked.try_iter().count()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
    }
}

impl Asked {
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut values = self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let value = values.next().unwrap_or_else(|| panic!("{name} is missing: {:?}", self.headers));
        assert!(values.next().is_none(), "{name} is there twice");
        &value.1
    }

    /// Checks the signature as a backend would.
    #[track_caller]
    pub(crate) fn verify(&self) {
        let (time, digest) = self.header("switchboard-signature").split_once(',').unwrap();
        let time = time.strip_prefix("t=").unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(now.abs_diff(time.parse().unwrap()) < 60, "{time}");
        let hex = digest.strip_prefix("v1=").unwrap();
        let digest: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let signed = [time.as_bytes(), b".", &self.body].concat();
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        assert!(hmac::verify(&key, &signed, &digest).is_ok(), "the signature is wrong");
    }
}

/// Serves one connection, request by request.
fn converse(
    mut socket: BufReader<Box<dyn Duplex>>,
    react: &(dyn Fn(&Asked) -> Reaction + Send + Sync),
    note: &dyn Fn(Asked),
) {
    while let Some(asked) = receive(&mut socket) {
        note(asked.clone());
        let done = match react(&asked) {
            Reaction::Json(status, body) => {
                let body = body.to_string();
                let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n", body.len());
                socket.get_mut().write_all((head + &body).as_bytes()).is_err()
            }
            Reaction::Raw(bytes) => {
                let _ = socket.get_mut().write_all(&bytes);
                true
            }
            Reaction::Silence => {
                let _ = socket.read(&mut [0]);
                true
            }
            Reaction::Repeat { head, piece, pause } => {
                let mut sent = socket.get_mut().write_all(&head);
                while sent.is_ok() {
                    // The pace is what is tested.
                    std::thread::park_timeout(pause);
                    sent = socket.get_mut().write_all(&piece).and_then(|()| socket.get_mut().flush());
                }
                true
            }
        };
        if done {
            return;
        }
    }
}

fn receive(socket: &mut impl BufRead) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let path = lines[0].strip_prefix("POST ")?.strip_suffix(" HTTP/1.1")?.to_owned();
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?.1.parse().ok()?;
    let mut body = vec![0; length];
    socket.read_exact(&mut body).ok()?;
    let json = serde_json::from_slice(&body).expect("a question is JSON");
    Some(Asked { path, headers, body, json })
}
