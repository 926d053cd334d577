//! Clients ask for a simple action, and ask again when they are answered.

use std::time::Duration;

use mio::Token;

use super::super::probe::Probe;
use super::payload::find;
use super::protocol::refused;
use super::swarm::Swarm;
use super::window::{Phase, Window};
use super::{LoadError, Measurement, PATIENCE, Plan};

/// Keeps `outstanding` requests of every client of `swarm` on the way.
pub(super) fn run(outstanding: usize, mut swarm: Swarm, probe: &Probe, plan: Plan) -> Result<Measurement, LoadError> {
    let clock = swarm.clock;
    let mut window = Window::open(clock, probe, plan, swarm.reader.reads)?;
    let mut askers: Vec<Asker> = swarm.clients.iter().map(|_| Asker::new()).collect();
    let mut waiting: Vec<usize> = (0..askers.len()).collect();
    let (mut sent, mut answers, mut progress) = (0_u64, 0_u64, (0, clock.now_ns()));
    loop {
        let phase = window.turn(sent, answers, swarm.reader.reads)?;
        let now_ns = clock.now_ns();
        if phase == Phase::Draining && answers == sent {
            return Ok(window.close(answers, swarm.reader.reads)?);
        }
        if progress.0 != answers {
            progress = (answers, now_ns);
        } else if now_ns - progress.1 > PATIENCE.as_nanos() as u64 {
            return Err(LoadError::Lost { missing: sent - answers });
        }
        for index in waiting.drain(..) {
            let asker = &mut askers[index];
            let client = &mut swarm.clients[index];
            for _ in 0..window.allowance(sent, outstanding - asker.outstanding()) {
                asker.ask(now_ns);
                client.output.extend_from_slice(REQUEST);
                sent += 1;
            }
            client.send()?;
        }

        swarm.wait(Some(IDLE_WAIT))?;
        let Swarm { events, clients, reader, .. } = &mut swarm;
        for event in events.iter() {
            let Token(index) = event.token();
            let (client, asker) = (&mut clients[index], &mut askers[index]);
            client.read(reader, |now_ns, line| {
                let asked_at_ns =
                    number_of(line).and_then(|number| asker.answered(number)).ok_or_else(|| refused(line))?;
                window.latency.record(now_ns - asked_at_ns);
                answers += 1;
                Ok(())
            })?;
            waiting.push(index);
        }
    }
}

/// One client's requests. Answers may overtake each other, and each must come once.
#[derive(Debug)]
struct Asker {
    asked: u64,
    answered: u64,
    /// Of the last [`RING`] requests, by number: when they were sent, and whether they wait.
    sent_at_ns: [Option<u64>; RING],
}

impl Asker {
    fn new() -> Self {
        Self { asked: 0, answered: 0, sent_at_ns: [None; RING] }
    }

    fn outstanding(&self) -> usize {
        (self.asked - self.answered) as usize
    }

    fn ask(&mut self, now_ns: u64) {
        // Servers count a connection's requests from one.
        self.asked += 1;
        self.sent_at_ns[self.asked as usize % RING] = Some(now_ns);
    }

    /// Returns when the request was sent; `None` if nobody waits for this answer.
    fn answered(&mut self, number: u64) -> Option<u64> {
        if number > self.asked || number + (RING as u64) <= self.asked {
            return None;
        }
        let sent_at_ns = self.sent_at_ns[number as usize % RING].take()?;
        self.answered += 1;
        Some(sent_at_ns)
    }
}

/// The number in the answer to a request that succeeded.
fn number_of(line: &[u8]) -> Option<u64> {
    const ANSWER: &[u8] = br#"{"randomNumber":"#;
    const NUMBER: &[u8] = br#""messageCount":"#;
    if !line.starts_with(ANSWER) && find(line, &ANSWER[1..]).is_none() {
        return None;
    }
    // The usual place is the end, where walking backwards finds it fast; another is searched for.
    let before = line.strip_suffix(b"}").unwrap_or(line).trim_ascii_end();
    let last_digits = before.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (head, tail) = before.split_at(before.len() - last_digits);
    let digits = if head.ends_with(NUMBER) { tail } else { &line[find(line, NUMBER)? + NUMBER.len()..] };
    let digits = &digits[..digits.iter().take_while(|byte| byte.is_ascii_digit()).count()];
    if !(1..=18).contains(&digits.len()) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

const REQUEST: &[u8] = b"randomNumber\r\n";

/// More than any scenario has outstanding per client; a power of two.
const RING: usize = 64;

/// Often enough for the ends of warm-up and window.
const IDLE_WAIT: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_an_answer_is_found_wherever_it_stands() {
        let usual = br#"{"randomNumber":0.25,"context":"response","messageCount":1234567}"#;
        assert_eq!(number_of(usual), Some(1_234_567));
        let other = br#"{"messageCount":8,"randomNumber":0.25,"context":"response","and":"so on and so forth"}"#;
        assert_eq!(number_of(other), Some(8));
    }

    #[test]
    fn a_failed_action_is_no_answer() {
        assert_eq!(number_of(br#"{"error":"Error: too many","context":"response","messageCount":3}"#), None);
        assert_eq!(number_of(br#"{"randomNumber":0.25,"context":"response","messageCount":""}"#), None);
        assert_eq!(number_of(b""), None);
    }

    #[test]
    fn answers_may_overtake_but_not_repeat() {
        let mut asker = Asker::new();
        asker.ask(10);
        asker.ask(20);
        assert_eq!(asker.answered(2), Some(20));
        assert_eq!(asker.answered(2), None);
        assert_eq!(asker.answered(3), None);
        assert_eq!(asker.outstanding(), 1);
        assert_eq!(asker.answered(1), Some(10));
        assert_eq!(asker.outstanding(), 0);
    }
}
