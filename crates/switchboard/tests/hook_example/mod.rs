//! The backend in examples/hooks does what it says, and what docs/guide/hooks.md shows.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use switchboard::Server;
use switchboard::config::{Config, LoadOptions};

use crate::dialogue::{Windows, blocks};

const SECRET: &str = "a-secret-of-at-least-16-bytes";

/// The backend, running; killed when this is dropped.
struct Backend {
    process: Child,
    output: BufReader<ChildStdout>,
    port: u16,
}

impl Backend {
    fn start() -> Self {
        let mut process = Command::new("python3")
            .arg(repository().join("examples/hooks/backend.py"))
            .arg("0")
            .env("HOOK_SECRET", SECRET)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("listening on ").expect(&line).parse().unwrap();
        Self { process, output, port }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap()
}

/// The settings of a page's first block that is marked `toml`, with the backend's port.
fn settings(page: &str, port: u16) -> String {
    let (_, rest) = page.split_once("```toml\n").expect("the page has settings");
    let (block, _) = rest.split_once("```").unwrap();
    assert!(block.contains(":8000/"), "{block}");
    block.replace(":8000/", &format!(":{port}/"))
}

fn start(file: &str) -> (tokio::runtime::Runtime, Server) {
    let path = std::env::temp_dir().join(format!("switchboard-hook-example-{}.toml", std::process::id()));
    std::fs::write(&path, file).unwrap();
    let options = LoadOptions {
        file: Some(path.clone()),
        env: vec![("SWITCHBOARD__HOOKS__SECRET".into(), SECRET.into())],
        set: vec![
            "servers.socket.bind=127.0.0.1".into(),
            "servers.socket.port=0".into(),
            "servers.web.enabled=false".into(),
            "admin.enabled=false".into(),
        ],
        ..LoadOptions::default()
    };
    let config = Config::load(&options).unwrap().config;
    std::fs::remove_file(path).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::builder(config).start()).unwrap();
    (runtime, server)
}

#[test]
fn the_guide_shows_what_the_example_does() {
    let mut backend = Backend::start();
    let page = read("docs/guide/hooks.md");
    let (runtime, server) = start(&settings(&page, backend.port));
    let mut windows = Windows::new(server.socket_addr().unwrap());
    let dialogues = blocks(&page);
    assert!(!dialogues.is_empty());
    dialogues.iter().for_each(|block| windows.play(block));
    windows.quit();
    runtime.block_on(server.stop());
    let mut line = String::new();
    backend.output.read_line(&mut line).unwrap();
    assert!(line.ends_with(" left lobby\n"), "{line}");
}

#[test]
fn the_example_believes_nobody_without_a_signature() {
    let backend = Backend::start();
    for signature in ["", "Switchboard-Signature: t=0,v1=00\r\n"] {
        let mut socket = TcpStream::connect(("127.0.0.1", backend.port)).unwrap();
        let request =
            format!("POST /say HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{signature}Content-Length: 2\r\n\r\n{{}}");
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
}
