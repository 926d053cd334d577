//! A bot that comes back by itself.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Credentials;
use super::client::{GatewayClient, Heard, ping};

/// A shard that registers once and then resumes whatever happens, until it is told that it must not.
///
/// Every event is handed out exactly once and in order: it is dealt with when [`ResumingBot::next`] returns it. An event that is
/// missing or comes twice is an error, never passed over.
pub struct ResumingBot {
    find: Box<dyn FnMut() -> Option<SocketAddr> + Send>,
    credentials: Credentials,
    pace: Pace,
    random: fastrand::Rng,
    session: Option<Session>,
    phase: Phase,
    /// Connections in a row that came to nothing.
    failures: u32,
    /// The server asks not to be asked before.
    not_before: Option<Instant>,
    figures: Figures,
}

/// What must be kept to resume: with it a bot survives its own end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The secret text that resumes it.
    pub id: String,
    /// The number of the last event that was dealt with.
    pub last: u64,
}

/// How fast a bot does what it does. The defaults are those for the world; [`Pace::quick`] is for tests.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Between two attempts to connect: at most the first of these at first, twice as much each time, at most the last. Half of it
    /// is random.
    pub backoff: Range<Duration>,
    /// After a session turned out to be gone, before it registers anew; random within.
    pub reregister: Range<Duration>,
    /// Between two pings, and how long their answers and all others may take.
    pub heartbeat: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            backoff: Duration::from_secs(1)..Duration::from_secs(60),
            reregister: Duration::from_secs(1)..Duration::from_secs(5),
            heartbeat: Duration::from_secs(30),
        }
    }
}

impl Pace {
    /// A hundredth of everything; but an answer may take as long as on a busy machine.
    pub fn quick() -> Self {
        Self {
            backoff: Duration::from_millis(10)..Duration::from_millis(200),
            reregister: Duration::from_millis(10)..Duration::from_millis(50),
            heartbeat: Duration::from_secs(5),
        }
    }
}

/// What a bot learns.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// It has a new session.
    Ready,
    /// It has its session back. What it missed comes next.
    Resumed,
    /// Its session is gone, and it will register anew.
    Invalid,
    /// Its connection ended, with this code if there was a close frame. It will come back.
    Lost(Option<u16>),
    /// An event.
    Event(Value),
    /// The server wants something done: see [`ResumingBot::reply`].
    Command(Value),
    /// An answer to something that was sent with [`ResumingBot::send`], or a complaint.
    Other(Value),
}

/// Why a bot stopped, or nothing came.
#[derive(Debug)]
pub enum BotError {
    /// An event is missing.
    Gap {
        /// The number that should have come.
        expected: u64,
        /// The number that came.
        came: u64,
    },
    /// An event came a second time.
    Duplicate {
        /// Its number.
        came: u64,
    },
    /// The server closed with a code after which there is no coming back.
    Fatal(u16),
    /// Nothing came in time.
    Late,
    /// Something came that no gateway sends.
    Malformed(String),
}

impl fmt::Display for BotError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { expected, came } => write!(out, "event {came} came instead of {expected}"),
            Self::Duplicate { came } => write!(out, "event {came} came again"),
            Self::Fatal(code) => write!(out, "closed for good with {code}"),
            Self::Late => write!(out, "nothing came in time"),
            Self::Malformed(what) => write!(out, "{what}"),
        }
    }
}

impl std::error::Error for BotError {}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Answered registrations.
    pub registered: u64,
    /// Answered resumes.
    pub resumed: u64,
    /// Sessions that were gone.
    pub invalid: u64,
    /// Connections that ended.
    pub lost: u64,
    /// Answered pings.
    pub pings: u64,
}

/// Where a bot is.
enum Phase {
    /// Not connected, and will not be before this.
    Away { until: Instant },
    /// Connected, its session was gone; it will register then.
    Refused { client: GatewayClient, until: Instant },
    /// Has registered or resumed and waits for the answer.
    Asking { client: GatewayClient, until: Instant },
    /// Has its session.
    Attached { client: GatewayClient, ping_at: Instant, is_pinging: bool, leave_at: Option<Instant> },
    /// Stopped for good, with this code.
    Ended(u16),
}

impl ResumingBot {
    /// A bot that asks `find` for the server's address each time it connects; `None` is a server that is not there.
    pub fn new(
        credentials: Credentials,
        pace: Pace,
        seed: u64,
        find: impl FnMut() -> Option<SocketAddr> + Send + 'static,
    ) -> Self {
        Self {
            find: Box::new(find),
            credentials,
            pace,
            random: fastrand::Rng::with_seed(seed),
            session: None,
            phase: Phase::Away { until: Instant::now() },
            failures: 0,
            not_before: None,
            figures: Figures::default(),
        }
    }

    /// The same with the session of one that has ended.
    #[must_use]
    pub fn with_session(self, session: Option<Session>) -> Self {
        Self { session, ..self }
    }

    /// What must be kept to go on after its end.
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// How often what happened.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// Whether it has its session at the moment.
    pub fn is_attached(&self) -> bool {
        matches!(self.phase, Phase::Attached { .. })
    }

    /// Sends a message, if it has its session. What is lost on the way is not sent again.
    pub fn send(&mut self, message: &Value) {
        if let Phase::Attached { client, .. } = &mut self.phase {
            // A connection that is gone is noticed by reading.
            let _ = client.try_send(message);
        }
    }

    /// Replies to a command.
    pub fn reply(&mut self, command: &Value, reply: Value) {
        self.send(&json!({"type": 9, "d": {"_id": command["data"]["_id"], "reply": reply}}));
    }

    /// Loses its connection without a word, as by a cut wire. It comes back with the next [`ResumingBot::next`].
    pub fn cut(&mut self) {
        self.phase = Phase::Away { until: Instant::now() };
    }

    /// The next news.
    ///
    /// # Errors
    ///
    /// See [`BotError`]. All but [`BotError::Late`] are for good.
    pub fn next(&mut self, patience: Duration) -> Result<News, BotError> {
        let deadline = Instant::now() + patience;
        loop {
            if let Phase::Ended(code) = self.phase {
                return Err(BotError::Fatal(code));
            }
            let due = self.due().min(deadline);
            let heard = match &mut self.phase {
                Phase::Refused { client, .. } | Phase::Asking { client, .. } | Phase::Attached { client, .. } => {
                    client.next_until(due).map_err(malformed)?
                }
                Phase::Away { .. } | Phase::Ended(_) => {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    None
                }
            };
            let news = match heard {
                Some(Heard::Message(message)) => self.take(message)?,
                Some(Heard::Closed(code)) => Some(self.lose(code)?),
                None if self.due() <= Instant::now() => self.act(),
                None => None,
            };
            match news {
                Some(news) => return Ok(news),
                None if Instant::now() >= deadline => return Err(BotError::Late),
                None => {}
            }
        }
    }

    /// The next event. What else happens is passed over, and counted.
    ///
    /// # Errors
    ///
    /// As [`ResumingBot::next`].
    pub fn next_event(&mut self, patience: Duration) -> Result<Value, BotError> {
        let deadline = Instant::now() + patience;
        loop {
            if let News::Event(event) = self.next(deadline.saturating_duration_since(Instant::now()))? {
                return Ok(event);
            }
        }
    }

    /// When it must do something if nothing comes.
    fn due(&self) -> Instant {
        match &self.phase {
            Phase::Away { until } | Phase::Refused { until, .. } | Phase::Asking { until, .. } => *until,
            Phase::Attached { ping_at, leave_at, .. } => leave_at.unwrap_or(*ping_at).min(*ping_at),
            Phase::Ended(_) => Instant::now(),
        }
    }

    /// Does what is due.
    fn act(&mut self) -> Option<News> {
        let now = Instant::now();
        match std::mem::replace(&mut self.phase, Phase::Away { until: now }) {
            Phase::Away { .. } => match (self.find)().map(GatewayClient::connect) {
                Some(Ok(client)) => {
                    self.ask(client);
                    None
                }
                _ => {
                    self.stay_away();
                    None
                }
            },
            Phase::Refused { client, .. } => {
                self.ask(client);
                None
            }
            // Told to leave: the session stays, and the new connection is made at once.
            Phase::Attached { mut client, leave_at: Some(at), .. } if at <= now => {
                let _ = client.send_close(1000);
                self.figures.lost += 1;
                Some(News::Lost(None))
            }
            Phase::Attached { mut client, is_pinging: false, leave_at, .. } => {
                let seq = self.session.as_ref().map(|session| session.last).filter(|last| *last > 0);
                // A connection that is gone is noticed by reading.
                let _ = client.try_send(&ping(seq));
                let ping_at = now + self.pace.heartbeat;
                self.phase = Phase::Attached { client, ping_at, is_pinging: true, leave_at };
                None
            }
            // No answer: whatever is at the other end does not live.
            Phase::Attached { .. } | Phase::Asking { .. } => {
                self.figures.lost += 1;
                self.stay_away();
                Some(News::Lost(None))
            }
            ended @ Phase::Ended(_) => {
                self.phase = ended;
                None
            }
        }
    }

    fn ask(&mut self, mut client: GatewayClient) {
        let request = match &self.session {
            Some(session) => self.credentials.resumption(&session.id, Some(session.last)),
            None => self.credentials.registration(),
        };
        // A connection that is gone is noticed by reading.
        let _ = client.try_send(&request);
        self.phase = Phase::Asking { client, until: Instant::now() + self.pace.heartbeat };
    }

    fn take(&mut self, message: Value) -> Result<Option<News>, BotError> {
        if let Some(came) = message["s"].as_u64() {
            let Some(session) = &mut self.session else {
                return Err(BotError::Malformed(format!("an event without a session: {message}")));
            };
            let expected = session.last + 1;
            return match came {
                came if came < expected => Err(BotError::Duplicate { came }),
                came if came > expected => Err(BotError::Gap { expected, came }),
                came => {
                    session.last = came;
                    Ok(Some(News::Event(message)))
                }
            };
        }
        Ok(match message["event"].as_str().unwrap_or_default() {
            "GATEWAY_READY" => {
                let id = message["data"]["session_id"].as_str().unwrap_or_default().to_owned();
                self.session = Some(Session { id, last: 0 });
                self.figures.registered += 1;
                self.attach();
                Some(News::Ready)
            }
            "GATEWAY_RESUMED" => {
                if message["data"]["session_id"].as_str() != self.session.as_ref().map(|session| &*session.id) {
                    return Err(BotError::Malformed(format!("another session was resumed: {message}")));
                }
                self.figures.resumed += 1;
                self.attach();
                Some(News::Resumed)
            }
            "GATEWAY_INVALID" => {
                self.session = None;
                self.figures.invalid += 1;
                let pause = self.random_within(&self.pace.reregister.clone());
                self.refuse(Instant::now() + pause);
                Some(News::Invalid)
            }
            "GATEWAY_ERROR" => {
                let retry = message["data"]["retry_after_ms"].as_u64().map(Duration::from_millis);
                self.not_before = retry.map(|retry| Instant::now() + retry).or(self.not_before);
                if let (Phase::Asking { .. }, Some(at)) = (&self.phase, self.not_before) {
                    self.refuse(at);
                }
                Some(News::Other(message))
            }
            "GATEWAY_PING" => {
                self.figures.pings += 1;
                if let Phase::Attached { is_pinging, .. } = &mut self.phase {
                    *is_pinging = false;
                }
                None
            }
            "GATEWAY_RECONNECT" => {
                let delay = Duration::from_millis(message["data"]["reconnect_after_ms"].as_u64().unwrap_or_default());
                if let Phase::Attached { leave_at, .. } = &mut self.phase {
                    *leave_at = Some(Instant::now() + delay);
                }
                None
            }
            "GATEWAY_COMMAND" => Some(News::Command(message)),
            _ => Some(News::Other(message)),
        })
    }

    /// The connection ended.
    fn lose(&mut self, code: Option<u16>) -> Result<News, BotError> {
        self.figures.lost += 1;
        match code {
            Some(code @ (4004 | 4010 | 4012 | 4020)) => {
                self.phase = Phase::Ended(code);
                return Err(BotError::Fatal(code));
            }
            Some(4022 | 4025 | 4027) => self.session = None,
            _ => {}
        }
        self.stay_away();
        Ok(News::Lost(code))
    }

    fn attach(&mut self) {
        (self.failures, self.not_before) = (0, None);
        let part = self.random.f64();
        let ping_at = Instant::now() + self.pace.heartbeat.mul_f64(part);
        self.phase = match std::mem::replace(&mut self.phase, Phase::Away { until: ping_at }) {
            Phase::Asking { client, .. } | Phase::Refused { client, .. } | Phase::Attached { client, .. } => {
                Phase::Attached { client, ping_at, is_pinging: false, leave_at: None }
            }
            phase => phase,
        };
    }

    /// Stays connected, and asks again then.
    fn refuse(&mut self, until: Instant) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Away { until }) {
            Phase::Asking { client, .. } | Phase::Refused { client, .. } | Phase::Attached { client, .. } => {
                Phase::Refused { client, until }
            }
            phase => phase,
        };
    }

    /// Disconnects, and connects again after a while that is longer each time.
    fn stay_away(&mut self) {
        let Range { start, end } = self.pace.backoff;
        let most = start.saturating_mul(1 << self.failures.min(16)).min(end);
        let pause = self.random_within(&(most / 2..most));
        self.failures = self.failures.saturating_add(1);
        let until = Instant::now() + pause;
        self.phase = Phase::Away { until: self.not_before.take().map_or(until, |at| at.max(until)) };
    }

    fn random_within(&mut self, range: &Range<Duration>) -> Duration {
        range.start + range.end.saturating_sub(range.start).mul_f64(self.random.f64())
    }
}

impl fmt::Debug for ResumingBot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ResumingBot").field("session", &self.session).field("figures", &self.figures).finish()
    }
}

fn malformed(error: io::Error) -> BotError {
    BotError::Malformed(error.to_string())
}
