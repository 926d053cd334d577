use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use super::super::eventually;
use super::*;

/// Sends back whatever comes, until it ends.
struct Echo {
    address: SocketAddr,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut answer = stream.try_clone().unwrap();
                    // A connection that is reset is what half of these tests are about.
                    let _ = io::copy(&mut stream, &mut answer);
                    let _ = answer.shutdown(Shutdown::Write);
                });
            }
        });
        Self { address }
    }
}

/// A proxy in front of an echo.
fn proxy() -> FaultProxy {
    FaultProxy::start(Echo::start().address)
}

fn connect(proxy: &FaultProxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

#[track_caller]
fn ask(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
    hear(stream, text);
}

#[track_caller]
fn hear(stream: &mut TcpStream, text: &str) {
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), text);
}

/// How a connection ends on which nothing comes before.
#[track_caller]
fn end(stream: &mut TcpStream) -> Option<ErrorKind> {
    match stream.read(&mut [0; 16]) {
        Ok(0) => None,
        Ok(count) => panic!("{count} bytes instead of the end"),
        Err(error) => Some(error.kind()),
    }
}

#[track_caller]
fn expect_reset(stream: &mut TcpStream) {
    // What was sent meanwhile may be what the reset answers.
    assert!(matches!(end(stream), Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)));
}

/// Nothing comes for a while, whose length is what is tested.
#[track_caller]
fn expect_nothing(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!(end(stream), Some(ErrorKind::WouldBlock));
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
}

#[test]
fn without_faults_everything_goes_through_and_ends_as_it_should() {
    let proxy = proxy();
    let mut stream = connect(&proxy);
    ask(&mut stream, "hello");
    assert_eq!((proxy.accepted(), proxy.open()), (1, 1));
    let long = "x".repeat(3_000_000);
    let mut writer = stream.try_clone().unwrap();
    let sent = long.clone();
    let writing = thread::spawn(move || {
        writer.write_all(sent.as_bytes()).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    hear(&mut stream, &long);
    writing.join().unwrap();
    assert_eq!(end(&mut stream), None);
    eventually("the connection is gone", || proxy.open() == 0);
}

#[test]
fn delay_holds_for_each_way_and_limits_no_throughput() {
    let proxy = proxy();
    let mut stream = connect(&proxy);
    let delay = Duration::from_millis(60);
    proxy.delay(delay);
    let begun = Instant::now();
    ask(&mut stream, "later");
    assert!(begun.elapsed() >= 2 * delay, "{:?}", begun.elapsed());
    let begun = Instant::now();
    for _ in 0..50 {
        stream.write_all(b"x").unwrap();
        // Each a piece of its own.
        thread::park_timeout(Duration::from_millis(1));
    }
    hear(&mut stream, &"x".repeat(50));
    assert!(begun.elapsed() < 50 * delay, "{:?}", begun.elapsed());
    proxy.heal();
    ask(&mut stream, "still the same connection");
}

#[test]
fn a_cut_resets_what_is_there_and_what_comes_until_it_is_healed() {
    let proxy = proxy();
    let mut before = connect(&proxy);
    ask(&mut before, "hello");
    proxy.cut();
    expect_reset(&mut before);
    assert_eq!(proxy.open(), 0);
    expect_reset(&mut connect(&proxy));
    proxy.heal();
    ask(&mut connect(&proxy), "again");
    assert_eq!(proxy.accepted(), 3);
}

#[test]
fn severing_resets_once() {
    let proxy = proxy();
    let mut streams = [connect(&proxy), connect(&proxy)];
    streams.iter_mut().for_each(|stream| ask(stream, "hello"));
    proxy.sever();
    streams.iter_mut().for_each(expect_reset);
    ask(&mut connect(&proxy), "again");
}

#[test]
fn a_half_open_connection_swallows_stays_and_is_reset_by_healing() {
    let proxy = proxy();
    for directions in [&Direction::BOTH[..], &[Direction::ToServer], &[Direction::ToClient]] {
        let (mut talking, mut silent) = (connect(&proxy), connect(&proxy));
        [&mut talking, &mut silent].into_iter().for_each(|stream| ask(stream, "hello"));
        proxy.half_open(directions);
        talking.write_all(b"into nothing").unwrap();
        let mut new = connect(&proxy);
        new.write_all(b"neither").unwrap();
        [&mut talking, &mut new].into_iter().for_each(expect_nothing);
        proxy.heal();
        [&mut talking, &mut new].into_iter().for_each(expect_reset);
        ask(&mut silent, "nothing of it was lost");
    }
}

#[test]
fn the_end_of_a_connection_is_swallowed_like_its_bytes() {
    let (proxy, listener) = (proxy(), TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    proxy.redirect(listener.local_addr().unwrap());
    let client = connect(&proxy);
    let (mut server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    proxy.half_open(&[Direction::ToServer]);
    drop(client);
    expect_nothing(&mut server);
    proxy.heal();
    expect_reset(&mut server);
}

#[test]
fn what_is_held_back_comes_when_it_is_healed() {
    let proxy = proxy();
    let mut stream = connect(&proxy);
    ask(&mut stream, "hello");
    for direction in Direction::BOTH {
        proxy.hold(&[direction]);
        stream.write_all(b"later").unwrap();
        expect_nothing(&mut stream);
        proxy.heal();
        hear(&mut stream, "later");
    }
}

#[test]
fn a_throttle_limits_the_rate_until_it_is_lifted() {
    let proxy = proxy();
    let mut stream = connect(&proxy);
    proxy.throttle(20_000);
    let begun = Instant::now();
    ask(&mut stream, &"x".repeat(10_000));
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    proxy.throttle(1);
    stream.write_all("y".repeat(10_000).as_bytes()).unwrap();
    proxy.throttle(0);
    hear(&mut stream, &"y".repeat(10_000));
}

#[test]
fn connections_are_led_elsewhere_and_reset_when_nobody_is_there() {
    let proxy = proxy();
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    proxy.redirect(gone.local_addr().unwrap());
    drop(gone);
    expect_reset(&mut connect(&proxy));
    proxy.redirect(Echo::start().address);
    ask(&mut connect(&proxy), "there");
}

#[test]
fn a_proxy_that_is_dropped_resets_its_connections_and_refuses() {
    let proxy = proxy();
    let mut stream = connect(&proxy);
    ask(&mut stream, "hello");
    let address = proxy.address();
    drop(proxy);
    expect_reset(&mut stream);
    eventually("nobody listens", || TcpStream::connect(address).is_err());
}
