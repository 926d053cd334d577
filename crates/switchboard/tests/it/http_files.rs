//! The public folder over HTTP: to the byte, in parts, and nothing outside it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs::File;
use std::os::unix::fs::symlink;

use switchboard_testkit::raw_http::RawHttp;

use super::files::{SECRET, ways_out};
use super::http::connect;
use super::peer::{Folder, Running, config, eventually, resident_bytes};
use super::program::Program;

const NOT_FOUND: &str = "Sorry, that file is not found :(";

fn serve(fill: impl FnOnce(&Folder)) -> (Folder, Running) {
    let folder = Folder::new();
    std::fs::create_dir(folder.join("public")).unwrap();
    fill(&folder);
    let mut config = config();
    config.files.root = Some(folder.join("public"));
    (folder, Running::start(config))
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 + index / 251) as u8).collect()
}

#[test]
fn paths_lead_to_files_folders_and_back() {
    let (_folder, running) = serve(|folder| {
        folder.write("public/index.html", "index");
        folder.write("public/a b.txt", "spaces");
        folder.write("public/ünïcode", "umlauts");
        folder.write("public/sub/index.html", "sub");
        folder.write("public/sub/deep/b.bin", pattern(1000));
        folder.write("public/empty.css", "");
    });
    let mut client = connect(&running);
    for (target, content_type, content) in [
        ("/", "text/html; charset=utf-8", &b"index"[..]),
        ("/public/", "text/html; charset=utf-8", b"index"),
        ("/index.html", "text/html; charset=utf-8", b"index"),
        ("/index.html?a=b", "text/html; charset=utf-8", b"index"),
        ("/a%20b.txt", "text/plain; charset=utf-8", b"spaces"),
        ("/public/a%20b.txt", "text/plain; charset=utf-8", b"spaces"),
        ("/%C3%BCn%c3%afcode", "application/octet-stream", b"umlauts"),
        ("/sub", "text/html; charset=utf-8", b"sub"),
        ("/sub/", "text/html; charset=utf-8", b"sub"),
        ("/sub/deep/b.bin", "application/octet-stream", &pattern(1000)),
        ("/empty.css", "text/css; charset=utf-8", b""),
    ] {
        let answer = client.get(target);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(content_type)), "{target}");
        assert_eq!(answer.body, content, "{target}");
        // This one has a cookie in it.
        assert_eq!(answer.header("cache-control"), Some("max-age=60, private"));
        let cookie = format!("Cookie: {}", answer.cookie().unwrap());
        let again = client.request("GET", target, &[&cookie], b"");
        assert_eq!((again.header("cache-control"), again.cookie()), (Some("max-age=60"), None));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("content-length"), Some(&*content.len().to_string()));
        let head = client.request("HEAD", target, &[], b"");
        assert_eq!((head.status, head.header("etag")), (200, answer.header("etag")), "{target}");
        // Without a body hyper leaves a length of 0 away.
        assert_eq!(head.header("content-length").unwrap_or("0"), content.len().to_string(), "{target}");
    }
    for target in
        ["/missing", "/sub/deep", "/sub/deep/", "/index.html/", "/index.html/x", "/public", "/sub//index.html"]
    {
        let answer = client.get(target);
        assert_eq!((answer.status, answer.text()), (404, NOT_FOUND), "{target}");
    }
}

/// The parts of the chat page with their types.
const PAGE: [(&str, &str); 5] = [
    ("/", "text/html; charset=utf-8"),
    ("/index.html", "text/html; charset=utf-8"),
    ("/chat.css", "text/css; charset=utf-8"),
    ("/chat.js", "text/javascript; charset=utf-8"),
    ("/icon.svg", "image/svg+xml"),
];

#[test]
fn without_a_public_folder_the_chat_page_is_shown_until_there_is_one() {
    let program = Program::start(&[]);
    let mut client = RawHttp::connect(program.web().parse().unwrap()).unwrap();
    assert!(client.get("/").text().contains("docs/guide/browser.md"));
    for (target, content_type) in PAGE {
        let answer = client.get(target);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(content_type)), "{target}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("max-age=60, private"));
        let tag = format!("If-None-Match: {}", answer.header("etag").unwrap());
        assert_eq!(client.request("GET", target, &[&tag], b"").status, 304, "{target}");
    }
    for target in ["/chat", "/chat/", "/chat/index.html", "/other.html", "/../chat.js"] {
        assert_eq!(client.get(target).status, 404, "{target}");
    }
    let public = program.folder().join("public");
    std::fs::create_dir(&public).unwrap();
    for (target, _) in PAGE {
        assert_eq!(client.get(target).status, 404, "{target}");
    }
    std::fs::write(public.join("index.html"), "own").unwrap();
    assert_eq!(client.get("/").text(), "own");
}

#[test]
fn with_files_root_set_no_part_of_the_chat_page_is_shown() {
    let program = Program::start(&["--set", "files.root=nowhere"]);
    eventually("it warns", || program.log().contains("files.root \"nowhere\" is not a folder"));
    let mut client = RawHttp::connect(program.web().parse().unwrap()).unwrap();
    for (target, _) in PAGE {
        let answer = client.get(target);
        assert_eq!((answer.status, answer.text()), (404, NOT_FOUND), "{target}");
    }
    assert_eq!(client.get("/javascript/switchboard.js").status, 200);
}

#[test]
fn what_a_client_has_already_is_not_sent_again() {
    let (folder, running) = serve(|folder| drop(folder.write("public/a.txt", "first")));
    let mut client = connect(&running);
    let first = client.get("/a.txt");
    let tag = format!("If-None-Match: {}", first.header("etag").unwrap());
    let date = format!("If-Modified-Since: {}", first.header("last-modified").unwrap());
    for condition in [&tag, &date] {
        let answer = client.request("GET", "/a.txt", &[condition], b"");
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{condition}");
        assert_eq!(answer.header("etag"), first.header("etag"));
    }
    folder.write("public/a.txt", "second one");
    let answer = client.request("GET", "/a.txt", &[&tag], b"");
    assert_eq!((answer.status, answer.text()), (200, "second one"));
}

#[test]
fn one_part_of_a_file_can_be_had() {
    let bytes = pattern(200_000);
    let (_folder, running) = serve(|folder| drop(folder.write("public/large", &bytes)));
    let mut client = connect(&running);
    let whole = client.get("/large");
    assert_eq!((whole.header("accept-ranges"), whole.body == bytes), (Some("bytes"), true));
    for (range, expected) in [
        ("bytes=0-0", 0..1),
        ("bytes=100-150000", 100..150_001),
        ("bytes=199999-", 199_999..200_000),
        ("bytes=-70000", 130_000..200_000),
    ] {
        let answer = client.request("GET", "/large", &[&format!("Range: {range}")], b"");
        let shown = format!("bytes {}-{}/200000", expected.start, expected.end - 1);
        assert_eq!((answer.status, answer.header("content-range")), (206, Some(&*shown)));
        assert!(answer.body == bytes[expected], "{range}");
    }
    let answer = client.request("GET", "/large", &["Range: bytes=200000-"], b"");
    assert_eq!((answer.status, answer.header("content-range")), (416, Some("bytes */200000")));
    for whole in ["Range: bytes=0-1,3-4", "Range: bytes=0-1\r\nIf-Range: \"other\"", "Range: pages=1"] {
        assert_eq!(client.request("GET", "/large", &[whole], b"").status, 200, "{whole}");
    }
}

#[test]
fn large_files_are_sent_in_pieces_and_never_held_in_memory() {
    const LENGTH: usize = 20 << 20;
    let folder = Folder::new();
    let large = pattern(LENGTH);
    folder.write("public/large", &large);
    let root = format!("files.root={}", folder.join("public").display());
    let program = Program::start(&["--set", &root]);
    let address = program.web().parse().unwrap();
    assert!(RawHttp::connect(address).unwrap().get("/large").body == large);
    let before = resident_bytes(program.pid());
    let mut readers: Vec<RawHttp> = (0..10).map(|_| RawHttp::connect(address).unwrap()).collect();
    readers.iter_mut().for_each(|reader| reader.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n"));
    // Head and body in steps, so that all of them are under way.
    let mut most = 0;
    let step = LENGTH / 40;
    for _ in 0..40 {
        readers.iter_mut().for_each(|reader| drop(reader.exact(step).unwrap()));
        most = most.max(resident_bytes(program.pid()));
    }
    assert!(most.saturating_sub(before) < 10 << 20, "{} bytes more", most - before);
}

#[test]
fn a_file_that_shrinks_on_its_way_cuts_the_connection() {
    let (folder, running) = serve(|folder| drop(folder.write("public/large", pattern(20 << 20))));
    let mut client = connect(&running);
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    client.exact(1000).unwrap();
    File::options().write(true).open(folder.join("public/large")).unwrap().set_len(8 << 20).unwrap();
    assert!(client.rest().unwrap().len() < 20 << 20);
    assert_eq!(connect(&running).get("/large").body.len(), 8 << 20);
}

/// The names of the verb's test, as they are and encoded whole, with and without the prefix of the public folder.
#[test]
fn fault_row_9_no_path_leads_out_of_the_public_folder_and_none_hangs() {
    let mut names = Vec::new();
    let (_folder, running) = serve(|folder| {
        names = ways_out(folder);
    });
    names.sort();
    names.dedup();
    assert!(names.len() >= 200, "only {} cases", names.len());
    let mut client = connect(&running);
    let mut asked = 0;
    for name in &names {
        let encoded: String = name.iter().map(|byte| format!("%{byte:02x}")).collect();
        let slashes = encoded.replace("%2f", "/").replace("%2e", ".");
        let raw = String::from_utf8(name.clone()).ok().filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic()));
        for path in [Some(encoded), Some(slashes), raw].into_iter().flatten() {
            for prefix in ["/", "/public/", "/javascript/../", "/inside/"] {
                let target = format!("{prefix}{path}");
                if target.len() > 15_000 {
                    continue;
                }
                let answer = client.request("GET", &target, &[], b"");
                asked += 1;
                assert!(
                    answer.status == 404 || answer.status == 400,
                    "{target:.100} is answered with {} {}",
                    answer.status,
                    String::from_utf8_lossy(&answer.body)
                );
                assert!(!String::from_utf8_lossy(&answer.body).contains(SECRET), "{target:.100}");
                if answer.status == 400 || answer.header("connection") == Some("close") {
                    client = connect(&running);
                }
            }
        }
    }
    assert!(asked > 1000, "{asked}");
    assert_eq!(client.get("/inside/file").text(), "inside");
}

#[test]
fn fault_row_9_names_that_begin_with_a_dot_are_served_only_if_that_is_set() {
    let fill = |folder: &Folder| {
        for name in [".env", ".git/config", "sub/.secret/a.txt", ".well-known/security.txt"] {
            folder.write(&format!("public/{name}"), "content");
        }
    };
    for hidden in [false, true] {
        let folder = Folder::new();
        fill(&folder);
        let mut config = config();
        config.files.root = Some(folder.join("public"));
        config.files.hidden = hidden;
        let running = Running::start(config);
        for target in ["/.env", "/.git/config", "/%2Eenv", "/sub/.secret/a.txt"] {
            assert_eq!(connect(&running).get(target).status == 200, hidden, "{target}");
        }
        assert_eq!(connect(&running).get("/.well-known/security.txt").status, 200);
        if !hidden {
            assert_eq!(running.connect().ask("file .env")["error"], "Sorry, that file is not found :(");
        }
    }
}

#[test]
fn fault_row_9_links_that_stay_inside_are_followed() {
    let (_folder, running) = serve(|folder| {
        folder.write("public/inside/file", "inside");
        symlink("inside/file", folder.join("public/link")).unwrap();
        symlink("inside", folder.join("public/folder")).unwrap();
    });
    let mut client = connect(&running);
    for target in ["/link", "/folder/file", "/public/link"] {
        assert_eq!(client.get(target).text(), "inside", "{target}");
    }
}

#[test]
fn the_browser_client_is_there_under_all_its_names_unless_the_folder_has_it() {
    let (folder, running) = serve(|_| {});
    let mut client = connect(&running);
    for name in [
        "switchboard.js",
        "switchboard.d.ts",
        "actionheroClient.js",
        "actionheroClient.min.js",
        "ActionheroClient.js",
        "ActionheroClient.min.js",
        "ActionheroWebsocketClient.js",
        "ActionheroWebsocketClient.min.js",
    ] {
        for prefix in ["/javascript/", "/public/javascript/"] {
            let target = format!("{prefix}{name}");
            let answer = client.get(&target);
            assert_eq!(answer.status, 200, "{target}");
            assert!(answer.body.len() > 500 && answer.header("content-type").unwrap().contains("script"), "{target}");
            let tag = format!("If-None-Match: {}", answer.header("etag").unwrap());
            assert_eq!(client.request("GET", &target, &[&tag], b"").status, 304);
        }
    }
    let part = client.request("GET", "/javascript/switchboard.js", &["Range: bytes=0-1"], b"");
    assert_eq!((part.status, part.text()), (206, "//"));
    folder.write("public/javascript/actionheroClient.js", "mine");
    assert_eq!(client.get("/javascript/actionheroClient.js").text(), "mine");
    assert_ne!(client.get("/javascript/actionheroClient.min.js").text(), "mine");
    eventually("nothing is left", || running.connections() == 0);
}
