//! The verb `file`: the public folder to the byte, and nothing outside it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use serde_json::json;
use switchboard::config::Config;
use switchboard::node::Speaker;
use switchboard::proto::close::CloseReason;

use super::peer::{Folder, Peer, Running, config, eventually, resident_bytes};
use super::program::Program;

const NOT_FOUND: &str = "Sorry, that file is not found :(";
/// What stands in every file outside the public folder.
pub(super) const SECRET: &str = "outside-and-secret";

/// A public folder and a server that serves it.
fn serve(fill: impl FnOnce(&Folder)) -> (Folder, Running) {
    let folder = Folder::new();
    std::fs::create_dir(folder.join("public")).unwrap();
    fill(&folder);
    let running = Running::start(serving(&folder));
    (folder, running)
}

fn serving(folder: &Folder) -> Config {
    let mut config = config();
    config.files.root = Some(folder.join("public"));
    config
}

/// Asks for a file that must come, and reads it and the answer behind it.
#[track_caller]
fn fetch(peer: &mut Peer<TcpStream>, request: &str, content: &[u8]) {
    peer.send(format!("{request}\r\nparamView none\r\n"));
    assert!(peer.raw(content.len()) == content, "{request}");
    assert_eq!(peer.json()["status"], "OK", "behind {request}");
}

#[track_caller]
fn refused(peer: &mut Peer<TcpStream>, request: &str) {
    assert_eq!(peer.ask(request)["error"], NOT_FOUND, "{request:?}");
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 + index / 251) as u8).collect()
}

#[test]
fn a_file_is_its_bytes_and_the_next_line_stands_behind_the_last() {
    let bytes = pattern(1000);
    let (_folder, running) = serve(|folder| drop(folder.write("public/a.bin", &bytes)));
    let mut peer = running.connect();
    peer.send("file a.bin\r\nparamsView\r\n");
    assert_eq!(peer.raw(1000), bytes);
    // The file had number 1 though nothing carries it.
    assert_eq!(peer.line(), r#"{"status":"OK","context":"response","data":{"file":"a.bin"},"messageCount":2}"#);
}

#[test]
fn names_lead_to_files_folders_and_the_sticky_one() {
    let (_folder, running) = serve(|folder| {
        folder.write("public/a.txt", "a");
        folder.write("public/sub/deep/b.txt", "deep");
        folder.write("public/sub/index.html", "index of sub");
        folder.write("public/index.html", "index");
        folder.write("public/empty", "");
        folder.write("public/none/other.html", "no index here");
        folder.write("public/ünïcode 😀", "never named: a name ends at its first space");
        folder.write("public/ünïcode😀", "smile");
    });
    let mut peer = running.connect();
    refused(&mut peer, "file");
    for (request, content) in [
        ("file a.txt", "a"),
        ("file", "a"),
        ("file /a.txt", "a"),
        ("file ./a.txt", "a"),
        ("file sub/../a.txt", "a"),
        ("file empty", ""),
        ("file", ""),
        ("file sub/deep/b.txt", "deep"),
        ("file sub//deep/./b.txt", "deep"),
        ("file sub", "index of sub"),
        ("file sub/", "index of sub"),
        ("file .", "index"),
        ("file /", "index"),
        ("file ünïcode😀", "smile"),
        ("file a.txt and more words", "a"),
    ] {
        fetch(&mut peer, request, content.as_bytes());
    }
    for request in
        ["file missing", "file", "file none", "file none/", "file a.txt/", "file a.txt/b", "file sub/missing"]
    {
        refused(&mut peer, request);
    }
    let answer = peer.ask("file missing");
    let number = answer["messageCount"].as_u64().unwrap();
    assert_eq!(answer, json!({"error": NOT_FOUND, "context": "response", "messageCount": number}));
    // Whatever was asked for last is the sticky one, found or not.
    assert_eq!(peer.ok("paramView file"), "missing");
}

#[test]
fn requests_behind_a_file_wait_for_its_last_byte_and_keep_their_order() {
    let large = pattern(300_000);
    let (_folder, running) = serve(|folder| {
        folder.write("public/large", &large);
        folder.write("public/small", "s");
    });
    let mut peer = running.connect();
    let mut requests = String::new();
    for _ in 0..5 {
        requests.push_str("file large\r\nparamsView\r\nfile small\r\nfile missing\r\nrandomNumber\r\n");
    }
    peer.send(&requests);
    for round in 0..5 {
        assert!(peer.raw(large.len()) == large);
        assert_eq!(peer.json()["messageCount"], round * 5 + 2);
        assert_eq!(peer.raw(1), b"s");
        assert_eq!(peer.json()["messageCount"], round * 5 + 4);
        assert_eq!(peer.json()["messageCount"], round * 5 + 5);
    }
}

#[test]
fn a_folder_or_a_file_that_is_put_in_place_later_is_found() {
    let (folder, running) = serve(|folder| std::fs::remove_dir(folder.join("public")).unwrap());
    let mut peer = running.connect();
    refused(&mut peer, "file a");
    folder.write("public/a", "first");
    fetch(&mut peer, "file a", b"first");
    std::fs::rename(folder.join("public"), folder.join("old")).unwrap();
    folder.write("public/a", "second");
    fetch(&mut peer, "file a", b"second");
}

#[test]
fn a_large_file_to_a_slow_reader_is_never_held_in_memory() {
    const LENGTH: usize = 20 << 20;
    let folder = Folder::new();
    let large = pattern(LENGTH);
    folder.write("public/large", &large);
    let root = format!("files.root={}", folder.join("public").display());
    let program = Program::start(&["--set", &root]);
    let mut warm = program.connect();
    fetch(&mut warm, "file large", &large);
    let before = resident_bytes(program.pid());
    let mut readers: Vec<_> = (0..10).map(|_| program.connect()).collect();
    readers.iter_mut().for_each(|reader| reader.say("file large"));
    let mut most = 0;
    for part in large.chunks(LENGTH / 40) {
        for reader in &mut readers {
            assert!(reader.raw(part.len()) == part);
        }
        most = most.max(resident_bytes(program.pid()));
    }
    // A piece of 64 KiB for each, and some to spare.
    assert!(most.saturating_sub(before) < 8 << 20, "{} bytes more", most - before);
    readers.iter_mut().for_each(|reader| drop(reader.ok("paramsView")));
}

#[test]
fn a_file_under_way_counts_nothing_in_the_outbox_and_room_messages_wait_behind_it() {
    const MESSAGES: usize = 50;
    let large = pattern(10 << 20);
    let (_folder, running) = serve(|folder| drop(folder.write("public/large", &large)));
    let mut peer = running.connect_narrow();
    let id = peer.id();
    peer.ok("roomAdd defaultRoom");
    peer.say("file large");
    let begin = peer.raw(100_000);
    let empty = running.outbox_bytes(id).unwrap();
    assert_eq!(empty, 0);
    for number in 0..MESSAGES {
        running.block_on(running.node().broadcast(Speaker::server(), "defaultRoom", json!({"n": number}))).unwrap();
    }
    running.block_on(running.node().send_message(id, json!({"direct": true}))).unwrap();
    let waiting = running.outbox_bytes(id).unwrap();
    assert!((MESSAGES * 60..MESSAGES * 200).contains(&waiting), "{waiting} bytes wait");
    assert!([begin, peer.raw(large.len() - 100_000)].concat() == large, "nothing falls into the file");
    // What was sent first arrives first.
    for number in 0..MESSAGES {
        assert_eq!(peer.json()["message"]["n"], number);
    }
    assert_eq!(peer.json(), json!({"direct": true}));
    peer.ok("paramsView");
    assert_eq!(running.outbox_bytes(id), Some(0));
}

#[test]
fn a_file_that_shrinks_on_its_way_cuts_the_connection() {
    let large = pattern(20 << 20);
    let (folder, running) = serve(|folder| drop(folder.write("public/large", &large)));
    let mut peer = running.connect_narrow();
    let mut other = running.connect();
    peer.say("file large");
    peer.raw(1000);
    File::options().write(true).open(folder.join("public/large")).unwrap().set_len(8 << 20).unwrap();
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut peer.wire, &mut rest);
    assert!(rest.len() < large.len() - 1000);
    assert!(large[1000..].starts_with(&rest));
    eventually("the connection is cut", || running.closed(CloseReason::Internal) == 1);
    other.ok("paramsView");
}

#[test]
fn a_file_that_grows_on_its_way_is_sent_at_its_first_length() {
    let large = pattern(20 << 20);
    let (folder, running) = serve(|folder| drop(folder.write("public/large", &large)));
    let mut peer = running.connect_narrow();
    peer.say("file large");
    let begin = peer.raw(1000);
    let mut file = File::options().append(true).open(folder.join("public/large")).unwrap();
    std::io::Write::write_all(&mut file, &[b'!'; 1 << 20]).unwrap();
    assert!([begin, peer.raw(large.len() - 1000)].concat() == large);
    peer.ok("paramsView");
}

/// Builds a folder full of ways out beside a public folder, and returns the names to try.
pub(super) fn ways_out(folder: &Folder) -> Vec<Vec<u8>> {
    folder.write("secret", SECRET);
    folder.write("public-sibling/secret", SECRET);
    folder.write("publicsecret", SECRET);
    folder.write("public2/index.html", SECRET);
    folder.write("public/inside/file", "inside");
    let public = folder.join("public");
    let outside = folder.join("secret");
    let links = [
        ("link-absolute", outside.as_path()),
        ("link-relative", "../secret".as_ref()),
        ("link-folder", "..".as_ref()),
        ("link-root", "/".as_ref()),
        ("link-etc", "/etc".as_ref()),
        ("link-passwd", "/etc/passwd".as_ref()),
        ("link-device", "/dev/zero".as_ref()),
        ("link-null", "/dev/null".as_ref()),
        ("link-tty", "/dev/tty".as_ref()),
        ("link-proc", "/proc/self/environ".as_ref()),
        ("link-fd", "/proc/self/fd".as_ref()),
        ("link-cwd", "/proc/self/cwd".as_ref()),
        ("link-loop-a", "link-loop-b".as_ref()),
        ("link-loop-b", "link-loop-a".as_ref()),
        ("link-self", "link-self".as_ref()),
        ("link-dangling", "nothing".as_ref()),
        ("link-chain", "link-folder/secret".as_ref()),
        ("inside/link-up", "../../secret".as_ref()),
        ("inside/link-sibling", "../../public-sibling".as_ref()),
    ];
    for (name, target) in links {
        symlink(target, public.join(name)).unwrap();
    }
    // A folder whose index leads out, one whose index is a folder, and a pipe and a socket in place of files.
    std::fs::create_dir_all(public.join("trap")).unwrap();
    symlink("../../secret", public.join("trap/index.html")).unwrap();
    std::fs::create_dir_all(public.join("nested/index.html")).unwrap();
    for pipe in ["pipe", "piped/index.html"] {
        let path = public.join(pipe);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    }
    drop(UnixListener::bind(public.join("socket")).unwrap());
    symlink("pipe", public.join("link-pipe")).unwrap();

    let mut names: Vec<Vec<u8>> = Vec::new();
    let up: &[&str] = &[
        "..",
        "../",
        "..//",
        "./..",
        ".././",
        "../.",
        "...",
        "....",
        "..;",
        "..%00",
        "..%2f",
        "..%5c",
        "..\\",
        "%2e%2e",
        "%2e.",
        ".%2e",
        "%2e%2e%2f",
        "%252e%252e",
        "%c0%ae%c0%ae",
        "%c0%2e",
        "%uff0e%uff0e",
        "．．",
        "‥",
        "․․",
        "。。",
        "..\u{200b}",
        "..\u{feff}",
        "..\u{202e}",
        "\u{2024}\u{2024}",
        "..\u{0}",
        "..\t",
        "~",
        "~root",
        "inside/../..",
        "inside/../../",
        "inside/./../..",
        "/..",
        "//..",
        "/../..",
        "\\..",
        "\\\\..",
        "....//",
        "..../",
        "...//",
        "missing/../..",
        "inside/file/..",
        "inside/file/../../..",
    ];
    let targets = ["secret", "publicsecret", "public-sibling/secret", "public2", "etc/passwd"];
    for up in up {
        names.push(up.as_bytes().to_vec());
        for target in targets {
            for separator in ["/", "\\", "%2f"] {
                names.push(format!("{up}{separator}{target}").into_bytes());
            }
        }
    }
    for depth in [2, 5, 40] {
        for target in ["etc/passwd", "secret"] {
            names.push(format!("{}{target}", "../".repeat(depth)).into_bytes());
            names.push(format!("inside/{}{target}", "../".repeat(depth)).into_bytes());
            names.push(format!("{}{target}", "..\\".repeat(depth)).into_bytes());
        }
    }
    for absolute in [
        "/etc/passwd",
        "//etc/passwd",
        "///etc///passwd",
        "/proc/self/environ",
        "/dev/zero",
        "file:///etc/passwd",
        "C:\\secret",
        "\\etc\\passwd",
    ] {
        names.push(absolute.as_bytes().to_vec());
    }
    names.push(outside.to_str().unwrap().as_bytes().to_vec());
    names.push(folder.join("public-sibling/secret").to_str().unwrap().as_bytes().to_vec());
    for (name, _) in links {
        for behind in ["", "/", "/secret", "/passwd", "/etc/passwd", "/0", "/../secret"] {
            names.push(format!("{name}{behind}").into_bytes());
        }
    }
    for odd in [
        "trap",
        "trap/",
        "trap/index.html",
        "nested",
        "nested/index.html",
        "pipe",
        "pipe/",
        "piped",
        "link-pipe",
        "socket",
        "socket/",
    ] {
        names.push(odd.as_bytes().to_vec());
    }
    names.push(b"inside/file\0.txt".to_vec());
    names.push(b"inside/file\0".to_vec());
    names.push(b"\0".to_vec());
    names.push(b"secret\xff".to_vec());
    names.push(b"..\xc0\xafsecret".to_vec());
    names.push("n".repeat(256).into_bytes());
    names.push("n".repeat(5000).into_bytes());
    names.push("d/".repeat(20_000).into_bytes());
    names.push(format!("{}secret", "inside/../".repeat(5000)).into_bytes());
    names.push(format!("{}secret", "./".repeat(30_000)).into_bytes());
    names.push([b"../".repeat(20_000), b"etc/passwd".to_vec()].concat());
    names
}

#[test]
fn fault_row_9_no_name_leads_out_of_the_public_folder_and_none_hangs() {
    let mut names = Vec::new();
    let (_folder, running) = serve(|folder| names = ways_out(folder));
    names.sort();
    names.dedup();
    assert!(names.len() >= 200, "only {} cases", names.len());
    let mut peer = running.connect();
    for name in &names {
        // As the verb's word, and from the sticky params, where spaces would not matter either.
        peer.send([b"file ", &name[..], b"\r\n"].concat());
        let answer = peer.json();
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(
            error == NOT_FOUND || error == "line is not valid UTF-8",
            "{} is answered with {answer}",
            String::from_utf8_lossy(&name[..name.len().min(100)])
        );
    }
    // The same connection, in the same state, still gets what is inside: the server refused those names and not all.
    fetch(&mut peer, "file inside/file", b"inside");
    assert_eq!(running.node().figures().closed.iter().sum::<u64>(), 0);
}

#[test]
fn fault_row_9_links_that_stay_inside_are_followed() {
    let (_folder, running) = serve(|folder| {
        folder.write("public/inside/file", "inside");
        symlink("inside/file", folder.join("public/link")).unwrap();
        symlink("inside", folder.join("public/folder")).unwrap();
        symlink("../inside/../link", folder.join("public/inside/around")).unwrap();
    });
    let mut peer = running.connect();
    for request in ["file link", "file folder/file", "file inside/around", "file folder/../folder/around"] {
        fetch(&mut peer, request, b"inside");
    }
}

/// The public folder itself may be reached through a link; what is behind it is what is public.
#[test]
fn fault_row_9_a_root_that_is_a_link_is_the_folder_behind_it() {
    let folder = Folder::new();
    folder.write("releases/2/a.txt", "two");
    folder.write("releases/secret", SECRET);
    symlink("releases/2", folder.join("public")).unwrap();
    let running = Running::start(serving(&folder));
    let mut peer = running.connect();
    fetch(&mut peer, "file a.txt", b"two");
    refused(&mut peer, "file ../secret");
}
