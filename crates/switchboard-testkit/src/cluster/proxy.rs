//! A TCP proxy that makes trouble on the way: delay, cut, silence, narrowness.

mod pump;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::{DEADLINE, within};

/// A proxy on a free port of the loopback, in front of one address. Dropping it ends all its connections.
///
/// Every method may be called by any thread at any time, and holds for the connections that are there and those that come.
/// Faults add up until [`FaultProxy::heal`] ends all of them. What waits in the proxy keeps its order.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// One of the ways through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From whoever connected to the address behind the proxy.
    ToServer,
    /// Back.
    ToClient,
}

impl Direction {
    /// Both ways.
    pub const BOTH: [Self; 2] = [Self::ToServer, Self::ToClient];
}

/// What the proxy does to all connections at the moment.
#[derive(Clone, Debug, Default)]
struct Faults {
    delay: Duration,
    bytes_per_second: Option<NonZeroU64>,
    is_cut: bool,
    /// By direction.
    ways: [Way; 2],
}

impl Faults {
    fn way(&self, direction: Direction) -> Way {
        self.ways[direction as usize]
    }
}

/// What becomes of the bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    #[default]
    Open,
    /// They are taken and lost.
    Swallowing,
    /// They wait, here and in the sender's kernel.
    Holding,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something in the state has changed.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    faults: Faults,
    links: HashMap<u64, Arc<Link>>,
    accepted: u64,
    is_closed: bool,
}

/// One connection through the proxy.
#[derive(Debug)]
struct Link {
    client: TcpStream,
    server: TcpStream,
    has_ended: AtomicBool,
    /// Bytes of it were swallowed: it must not go on as if nothing had been.
    has_hole: AtomicBool,
}

impl FaultProxy {
    /// Starts one in front of `target`, without any fault.
    ///
    /// # Panics
    ///
    /// When there is no free port.
    #[track_caller]
    pub fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.unwrap_or_else(|error| panic!("a port for a proxy: {error}"));
        let state = State { target, faults: Faults::default(), links: HashMap::new(), accepted: 0, is_closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that came so far, those that were reset at once included.
    pub fn accepted(&self) -> u64 {
        self.shared.lock().accepted
    }

    /// Connections that go through it now.
    pub fn open(&self) -> usize {
        self.shared.lock().links.len()
    }

    /// Leads connections that come from now on to another address, as a failover does.
    pub fn redirect(&self, target: SocketAddr) {
        self.shared.change(|state| state.target = target);
    }

    /// Every byte arrives this much later, each way.
    pub fn delay(&self, delay: Duration) {
        self.shared.change(|state| state.faults.delay = delay);
    }

    /// Each connection carries at most so many bytes in a second, each way; 0: as many as come.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.shared.change(|state| state.faults.bytes_per_second = NonZeroU64::new(bytes_per_second));
    }

    /// Takes the bytes of these directions and loses them, while connections stay open: those that are there, and new ones.
    /// A connection that lost something is reset by [`FaultProxy::heal`]: no network hands on a stream with a hole.
    pub fn half_open(&self, directions: &[Direction]) {
        self.set_ways(directions, Way::Swallowing);
    }

    /// Keeps the bytes of these directions back until [`FaultProxy::heal`], as a network does whose packets are sent again later.
    pub fn hold(&self, directions: &[Direction]) {
        self.set_ways(directions, Way::Holding);
    }

    /// Resets all connections, and those that come until [`FaultProxy::heal`] as soon as they are there. Returns when those are gone
    /// that were.
    #[track_caller]
    pub fn cut(&self) {
        self.change_and_end(|state| state.faults.is_cut = true, |_| true);
    }

    /// Resets the connections that are there, once; new ones are served. Returns when they are gone.
    #[track_caller]
    pub fn sever(&self) {
        self.change_and_end(|_| {}, |_| true);
    }

    /// Ends all faults. What was held back goes on its way.
    #[track_caller]
    pub fn heal(&self) {
        let has_hole = |link: &Link| link.has_hole.load(Ordering::Relaxed);
        self.change_and_end(|state| state.faults = Faults::default(), has_hole);
    }

    fn set_ways(&self, directions: &[Direction], way: Way) {
        self.shared.change(|state| {
            for &direction in directions {
                state.faults.ways[direction as usize] = way;
            }
        });
    }

    /// Changes something and ends connections in one step, and waits until they are gone.
    #[track_caller]
    fn change_and_end(&self, change: impl FnOnce(&mut State), is_to_end: impl Fn(&Link) -> bool) {
        let mut ended = Vec::new();
        self.shared.change(|state| {
            for (&number, link) in state.links.iter().filter(|(_, link)| is_to_end(link)) {
                link.reset();
                ended.push(number);
            }
            change(state);
        });
        let are_gone = within(DEADLINE, || {
            let state = self.shared.lock();
            ended.iter().all(|number| !state.links.contains_key(number))
        });
        assert!(are_gone, "connections through the proxy {} do not end", self.address);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.is_closed = true;
            state.links.values().for_each(|link| link.reset());
        });
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Ends a connection, and wakes whoever waits for something to happen to it.
    fn end(&self, link: &Link) {
        self.change(|_| link.reset());
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for number in 0.. {
            // Without a file for it the connection waits in the kernel.
            let Ok((client, _)) = listener.accept() else { continue };
            let (is_cut, target) = {
                let mut state = self.lock();
                if state.is_closed {
                    return;
                }
                state.accepted += 1;
                (state.faults.is_cut, state.target)
            };
            let shared = Arc::clone(self);
            if is_cut {
                reset_on_close(&client);
            } else {
                thread::spawn(move || shared.serve(number, client, target));
            }
        }
    }

    /// Carries one connection to its end.
    fn serve(self: &Arc<Self>, number: u64, client: TcpStream, target: SocketAddr) {
        reset_on_close(&client);
        // What cannot be reached resets whoever wanted it.
        let Ok(server) = TcpStream::connect_timeout(&target, DEADLINE) else { return };
        let prepare = |socket: &TcpStream| -> io::Result<()> {
            socket.set_nodelay(true)?;
            socket.set_write_timeout(Some(WRITE_PATIENCE))
        };
        if [&client, &server].into_iter().try_for_each(prepare).is_err() {
            return;
        }
        let link = Link { client, server, has_ended: AtomicBool::new(false), has_hole: AtomicBool::new(false) };
        let link = Arc::new(link);
        {
            let mut state = self.lock();
            if state.is_closed || state.faults.is_cut {
                return;
            }
            state.links.insert(number, Arc::clone(&link));
        }
        let pumps = Direction::BOTH.map(|direction| pump::start(Arc::clone(self), Arc::clone(&link), direction));
        for pump in pumps {
            // A pump that panicked has printed why.
            let _ = pump.join();
        }
        if !link.has_ended.load(Ordering::Relaxed) {
            // Both sides have said that they are done, so nobody is to be reset.
            let _ = SockRef::from(&link.client).set_linger(None);
        }
        drop(link);
        // The last hold on the link: its sockets close here.
        self.change(|state| drop(state.links.remove(&number)));
    }
}

impl Link {
    /// Ends it: nothing goes through any more, and both sides are reset when its sockets close.
    fn reset(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
        for socket in [&self.client, &self.server] {
            reset_on_close(socket);
            // Wakes whoever reads from it and tells the other side nothing. It fails if the connection has ended already.
            let _ = socket.shutdown(Shutdown::Read);
        }
    }
}

/// Has a socket send a reset when it is closed.
fn reset_on_close(socket: &TcpStream) {
    // It fails only for what is no socket.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// How often a write that does not go on looks whether it should.
const WRITE_PATIENCE: Duration = Duration::from_millis(50);
