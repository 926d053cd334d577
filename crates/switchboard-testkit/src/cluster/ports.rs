//! Ports for servers that cannot say which one they got.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};

/// A port of the loopback that is free, as is the one by [`BUS`] above it; no other call in this process returns it.
///
/// Both are below those that the kernel gives to connections, so that nothing takes one while its server is away. Another
/// process may, so whoever uses it looks whether its server has started, and asks again.
pub(super) fn free() -> u16 {
    static TAKEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    for _ in 0..TRIES {
        let port = fastrand::u16(FIRST..FIRST + BUS);
        let is_ours = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
        if is_ours && is_free(port) && is_free(port + BUS) {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + BUS);
}

/// How far Redis puts the port of its cluster bus above that of clients.
const BUS: u16 = 10_000;
const FIRST: u16 = 12_000;
const TRIES: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_given_once_and_kept_from_connections() {
        let ports: HashSet<u16> = (0..20).map(|_| free()).collect();
        assert_eq!(ports.len(), 20);
        assert!(ports.iter().all(|&port| (FIRST..FIRST + BUS).contains(&port) && port + BUS < 32_768));
    }
}
