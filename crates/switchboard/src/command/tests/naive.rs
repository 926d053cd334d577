//! The reference: plain lists, no indexes, and the rules restated as what must be true now.

use super::model::LIMITS;
use super::*;

/// Nobody, and three users.
pub(super) const USERS: [&str; 4] = ["-", "ann", "bob", "joe"];

#[derive(Debug, Default)]
pub(super) struct Naive {
    pub(super) clients: Vec<NaiveClient>,
    pub(super) commands: Vec<NaiveCommand>,
    /// Connections that the engine knows to have ended.
    closed: Vec<u32>,
    ended: Vec<NaiveCommand>,
    reports: Vec<NaiveReport>,
    pub(super) is_draining: bool,
    pub(super) now_ms: u64,
    pub(super) duplicate: u64,
    pub(super) foreign: u64,
    pub(super) late: u64,
    activity: u64,
}

type NaiveReport = (u32, Outcome, [usize; 3], Option<Vec<(ConnId, Outcome)>>);

#[derive(Debug)]
pub(super) struct NaiveClient {
    pub(super) number: u32,
    pub(super) user: &'static str,
    pub(super) takes: bool,
    is_settling: bool,
    has_data: bool,
    announces: bool,
    active: u64,
    /// It is one of this node, or another node said something of it.
    is_known: bool,
}

impl NaiveClient {
    /// What its node would say of it.
    pub(super) fn described(&self) -> Described {
        let keys = if self.announces { json!({"commands": ["k"]}) } else { json!({}) };
        Described {
            connection: conn(self.number),
            user: user(self.user),
            taking: self.takes.then_some(Taking { since_unix_ms: 1, is_settling: self.is_settling }),
            data: self.has_data.then(|| data(keys)),
            paused: None,
            resumed_unix_ms: None,
            health: Health::default(),
        }
    }
}

/// Every third connection is one of another node.
pub(super) fn is_elsewhere(number: u32) -> bool {
    number.is_multiple_of(3)
}

#[derive(Debug)]
pub(super) struct NaiveCommand {
    number: u32,
    aim: Aim,
    mode: Mode,
    fail_fast: bool,
    require_capability: bool,
    enough: Option<usize>,
    pub(super) deadline_ms: u64,
    rows: Vec<NaiveRow>,
    /// Of a list in mode `one`: the next is the last.
    candidates: Vec<u32>,
    repliers: Vec<u32>,
    replied: usize,
    outcome: Option<Outcome>,
}

#[derive(Debug)]
struct NaiveRow {
    to: u32,
    user: &'static str,
    stage: NaiveStage,
    /// It was sent, and perhaps written.
    is_sent: bool,
    outcome: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum NaiveStage {
    Waiting,
    Queued,
    Sent,
    Delivered,
    Left,
    Gone,
    Overflow,
}

use NaiveStage::*;

impl NaiveCommand {
    fn count(&self, stages: &[NaiveStage]) -> usize {
        self.rows.iter().filter(|row| stages.contains(&row.stage)).count()
    }

    fn is_list(&self) -> bool {
        matches!(self.aim, Aim::Everybody | Aim::Sessions(_))
    }

    /// Whether a session belongs to the target, whatever its state.
    fn is_for(&self, client: &NaiveClient) -> bool {
        match &self.aim {
            Aim::User(user) => user.id() == client.user,
            Aim::Connection { id, user } => {
                *id == conn(client.number) && user.as_ref().is_none_or(|user| user.id() == client.user)
            }
            _ => false,
        }
    }

    fn is_addressed_to(&self, from: u32, user: &str) -> bool {
        match &self.aim {
            Aim::User(target) | Aim::Connection { user: Some(target), .. } => target.id() == user,
            Aim::Connection { id, user: None } => *id == conn(from),
            _ => self.rows.iter().any(|row| if row.user == "-" { row.to == from } else { row.user == user }),
        }
    }

    /// Guests and users on its list.
    fn listed(&self) -> usize {
        let rows = self.rows.iter().filter(|_| self.is_list());
        let mut users: Vec<&str> = rows.clone().map(|row| row.user).filter(|user| *user != "-").collect();
        users.sort_unstable();
        users.dedup();
        users.len() + rows.filter(|row| row.user == "-").count()
    }

    fn counts_against(&self) -> String {
        match &self.aim {
            Aim::User(user) | Aim::Connection { user: Some(user), .. } => user.id().to_owned(),
            Aim::Connection { id, user: None } => id.to_string(),
            _ => String::new(),
        }
    }

    /// How it ends by its rows alone.
    fn by_rows(&self) -> Outcome {
        let ends: Vec<Outcome> = self.rows.iter().map(end_of).collect();
        let order = [Outcome::Replied, Outcome::Timeout, Outcome::Disconnected, Outcome::Overflow];
        order.into_iter().find(|outcome| ends.contains(outcome)).unwrap_or(Outcome::NoRecipient)
    }

    fn at_limit(&self) -> Outcome {
        let guests_left =
            !self.rows.is_empty() && self.rows.iter().all(|row| row.user == "-" && matches!(row.stage, Left | Gone));
        match self.mode {
            Mode::All => self.by_rows(),
            _ if guests_left => Outcome::Disconnected,
            _ if self.count(&[Waiting, Queued, Sent, Delivered, Left]) > 0 => Outcome::Timeout,
            _ if self.count(&[Overflow]) > 0 => Outcome::Overflow,
            _ => Outcome::NoRecipient,
        }
    }
}

fn end_of(row: &NaiveRow) -> Outcome {
    row.outcome.unwrap_or(if matches!(row.stage, Left | Gone) { Outcome::Disconnected } else { Outcome::Timeout })
}

/// What happened to sessions.
impl Naive {
    pub(super) fn open(&mut self, number: u32, user: &'static str) {
        let client = NaiveClient {
            number,
            user,
            takes: false,
            is_settling: false,
            has_data: false,
            announces: false,
            active: 0,
            is_known: !is_elsewhere(number),
        };
        self.clients.push(client);
        self.touch(self.clients.len() - 1);
    }

    pub(super) fn touch(&mut self, at: usize) -> u32 {
        self.activity += 1;
        self.clients[at].active = self.activity;
        self.clients[at].number
    }

    fn touch_number(&mut self, number: u32) {
        if let Some(at) = self.clients.iter().position(|client| client.number == number) {
            self.touch(at);
        }
    }

    pub(super) fn take(&mut self, at: usize, settling: bool) -> (u32, &'static str) {
        let client = &mut self.clients[at];
        client.is_known = true;
        if !client.takes {
            client.takes = true;
            client.is_settling = settling && !client.has_data;
            let (number, user) = (client.number, client.user);
            let stage = if client.is_settling { Waiting } else { Queued };
            self.touch(at);
            // Commands that did not reach it before reach it now.
            for command in &mut self.commands {
                let is_free =
                    command.mode != Mode::One || command.count(&[Waiting, Queued, Sent, Delivered, Left]) == 0;
                for row in command.rows.iter_mut().filter(|row| is_free && row.to == number && row.is_for(user)) {
                    if row.stage == Gone && !row.is_sent && row.outcome.is_none() {
                        row.stage = stage;
                    }
                }
            }
        } else if !settling {
            self.ready(at);
        }
        (self.clients[at].number, self.clients[at].user)
    }

    pub(super) fn set_data(&mut self, at: usize, announces: bool) -> (u32, &'static str) {
        let client = &mut self.clients[at];
        (client.is_known, client.has_data, client.announces) = (true, true, announces);
        (self.clients[at].number, self.clients[at].user)
    }

    pub(super) fn ready(&mut self, at: usize) -> u32 {
        let client = &mut self.clients[at];
        client.is_known = true;
        let number = client.number;
        if std::mem::take(&mut client.is_settling) {
            self.advance(number, &[Waiting], Queued);
        }
        number
    }

    pub(super) fn stop(&mut self, at: usize) -> u32 {
        let client = &mut self.clients[at];
        (client.takes, client.is_settling, client.has_data, client.announces) = (false, false, false, false);
        client.is_known = true;
        let number = client.number;
        self.advance(number, &[Waiting, Queued], Gone);
        number
    }

    pub(super) fn close(&mut self, at: usize) -> u32 {
        let NaiveClient { number, is_known, .. } = self.clients.remove(at);
        if is_known {
            self.closed.push(number);
        }
        self.part_from(number);
        number
    }

    pub(super) fn set_user(&mut self, at: usize, user: &'static str) -> u32 {
        let client = &mut self.clients[at];
        client.is_known = true;
        let (number, before) = (client.number, std::mem::replace(&mut client.user, user));
        if before != "-" && before != user {
            self.part_from(number);
        }
        number
    }

    fn part_from(&mut self, number: u32) {
        self.advance(number, &[Waiting, Queued], Gone);
        // Whether it got what was on its way is told by its node later, or never.
        self.advance(number, &[Sent], if is_elsewhere(number) { Left } else { Gone });
        self.advance(number, &[Delivered], Left);
    }

    fn advance(&mut self, number: u32, from: &[NaiveStage], to: NaiveStage) {
        for row in self.commands.iter_mut().flat_map(|command| &mut command.rows) {
            if row.to == number && from.contains(&row.stage) {
                row.stage = to;
            }
        }
    }
}

/// What happened to commands.
impl Naive {
    pub(super) fn accept(&mut self, number: u32, order: &Order) -> Result<(), Refusal> {
        let mut command = NaiveCommand {
            number,
            aim: order.aim.clone(),
            mode: order.mode,
            fail_fast: order.fail_fast,
            require_capability: order.require_capability,
            enough: order.min_replies.map(|enough| enough.max(1)),
            deadline_ms: order.deadline_ms,
            rows: Vec::new(),
            candidates: Vec::new(),
            repliers: Vec::new(),
            replied: 0,
            outcome: None,
        };
        let mut listed: Vec<&NaiveClient> = self.clients.iter().filter(|client| client.takes).collect();
        match &order.aim {
            Aim::Sessions(list) => listed.retain(|client| list.contains(&conn(client.number))),
            Aim::Everybody => {}
            _ => listed.clear(),
        }
        listed.retain(|client| !order.require_capability || client.announces);
        listed.sort_by_key(|client| client.active);
        let whose = command.counts_against();
        let mine = self.commands.iter().filter(|other| !whose.is_empty() && other.counts_against() == whose).count();
        let held: usize = self.commands.iter().map(|other| other.rows.len() + other.candidates.len()).sum();
        let wanted = match &order.aim {
            Aim::Connection { .. } => 1,
            Aim::User(user) => self.clients.iter().filter(|client| client.takes && client.user == user.id()).count(),
            _ => listed.len(),
        };
        let refusal = if self.is_draining {
            Some(Refusal::Draining)
        } else if self.commands.len() >= LIMITS.max_pending {
            Some(Refusal::TooMany)
        } else if mine >= LIMITS.max_pending_per_user {
            Some(Refusal::TooManyOfUser)
        } else {
            (held + wanted > LIMITS.max_pending_rows).then_some(Refusal::TooManyRows)
        };
        if order.mode == Mode::One {
            command.candidates = listed.iter().map(|client| client.number).collect();
        } else {
            command.rows = listed.iter().map(|client| row(client)).collect();
        }
        refusal.map_or(Ok(()), Err)?;
        self.commands.push(command);
        Ok(())
    }

    pub(super) fn cancel(&mut self, number: u32) -> bool {
        let pending = self.commands.iter_mut().find(|command| command.number == number);
        pending.map(|command| command.outcome = Some(Outcome::Cancelled)).is_some()
    }

    pub(super) fn leave(&mut self) -> Vec<(u32, u32)> {
        let mut left = Vec::new();
        for command in &mut self.commands {
            for row in &mut command.rows {
                if row.stage == Queued && row.outcome.is_none() {
                    (row.stage, row.is_sent) = (Sent, true);
                    left.push((command.number, row.to));
                }
            }
        }
        left.sort_unstable();
        left
    }

    pub(super) fn fate(&mut self, number: u32, to: u32, fate: CommandFate) {
        let Some(command) = self.commands.iter_mut().find(|command| command.number == number) else { return };
        let row = command.rows.iter_mut().find(|row| row.to == to).unwrap();
        row.is_sent &= fate != CommandFate::Gone;
        let settles_again = self.clients.iter().any(|it| it.number == to && it.is_settling && it.user == row.user);
        let before = std::mem::replace(&mut row.stage, Sent);
        row.stage = match (before, fate) {
            (Sent, CommandFate::Gone) if settles_again => Waiting,
            (Sent, CommandFate::Delivered) => Delivered,
            (Sent, CommandFate::Gone) => Gone,
            (Sent, CommandFate::Overflow) => Overflow,
            (Gone, CommandFate::Delivered) => Left,
            (Left, CommandFate::Gone | CommandFate::Overflow) => Gone,
            (stage, _) => stage,
        };
        if (before, row.stage) == (Sent, Delivered) {
            self.touch_number(to);
        }
    }

    pub(super) fn reply(&mut self, number: u32, from: u32, user: &'static str) -> bool {
        let Some(command) = self.commands.iter_mut().find(|command| command.number == number) else {
            if let Some(ended) = self.ended.iter().find(|ended| ended.number == number) {
                if !ended.is_addressed_to(from, user) {
                    self.foreign += 1;
                    return false;
                }
                if ended.outcome == Some(Outcome::Replied) && ended.mode != Mode::All {
                    self.duplicate += 1;
                } else {
                    self.late += 1;
                }
                self.touch_number(from);
            }
            return false;
        };
        if !command.is_addressed_to(from, user) {
            self.foreign += 1;
            return false;
        }
        let own = command.rows.iter().position(|row| row.to == from && row.is_for(user));
        if command.mode == Mode::All {
            let open = |at: &usize| command.rows[*at].outcome.is_none();
            let mine = (0..command.rows.len()).filter(open).filter(|at| user != "-" && command.rows[*at].user == user);
            let left = mine.clone().find(|at| command.rows[*at].stage == Left);
            let place = own.filter(open).or(left).or(mine.clone().next());
            match place.filter(|_| !command.repliers.contains(&from)) {
                Some(at) => command.rows[at].outcome = Some(Outcome::Replied),
                None => {
                    self.duplicate += 1;
                    self.touch_number(from);
                    return false;
                }
            }
            command.repliers.push(from);
        }
        if let Some(own) = own
            && command.rows[own].stage == Sent
        {
            command.rows[own].stage = Delivered;
        }
        command.replied += 1;
        if command.mode != Mode::All || command.enough.is_some_and(|enough| command.replied >= enough) {
            command.outcome = Some(Outcome::Replied);
        }
        self.touch_number(from);
        true
    }

    /// Makes true what must be true now.
    pub(super) fn consider(&mut self) {
        for command in &mut self.commands {
            if command.outcome.is_none() {
                command.outcome = consider(command, &self.clients, &self.closed, self.is_draining, self.now_ms);
            }
        }
        for command in self.commands.extract_if(.., |command| command.outcome.is_some()) {
            let outcome = command.outcome.unwrap();
            let rows = (command.mode == Mode::All).then(|| {
                let by_force = matches!(outcome, Outcome::Cancelled | Outcome::Shutdown).then_some(outcome);
                let end = |row| by_force.filter(|_| NaiveRow::is_open(row)).unwrap_or_else(|| end_of(row));
                command.rows.iter().map(|row| (conn(row.to), end(row))).collect()
            });
            let counts = [command.rows.len(), command.count(&[Delivered, Left]), command.replied];
            self.reports.push((command.number, outcome, counts, rows));
            self.ended.push(command);
            // Of lists no more sessions are remembered than may be pending.
            while self.ended.iter().map(NaiveCommand::listed).sum::<usize>() > LIMITS.max_pending_rows {
                self.ended.remove(0);
            }
        }
    }

    pub(super) fn take_reports(&mut self) -> Vec<NaiveReport> {
        let mut reports = std::mem::take(&mut self.reports);
        reports.sort_unstable_by_key(|report| report.0);
        reports
    }
}

impl NaiveRow {
    fn is_open(&self) -> bool {
        self.outcome.is_none()
    }

    fn is_for(&self, user: &str) -> bool {
        self.user == "-" || self.user == user
    }
}

fn row(client: &NaiveClient) -> NaiveRow {
    let stage = if client.is_settling { Waiting } else { Queued };
    NaiveRow { to: client.number, user: client.user, stage, is_sent: false, outcome: None }
}

fn consider(
    command: &mut NaiveCommand,
    clients: &[NaiveClient],
    closed: &[u32],
    is_draining: bool,
    now_ms: u64,
) -> Option<Outcome> {
    let fail_fast = command.fail_fast;
    if command.mode == Mode::All {
        for row in command.rows.iter_mut().filter(|row| row.outcome.is_none()) {
            row.outcome = match row.stage {
                Overflow => Some(Outcome::Overflow),
                // The next session of the same connection and user is sent it.
                Gone if fail_fast || !clients.iter().any(|it| it.number == row.to && row.is_for(it.user)) => {
                    Some(Outcome::Disconnected)
                }
                Left if row.user == "-" || fail_fast => Some(Outcome::Disconnected),
                _ => None,
            };
        }
    }
    if now_ms >= command.deadline_ms {
        return Some(command.at_limit());
    }
    if command.mode == Mode::All && !command.rows.is_empty() {
        let mut open = command.rows.iter().filter(|row| row.is_open());
        if open.clone().next().is_none() {
            return Some(command.by_rows());
        }
        return (is_draining && open.all(|row| matches!(row.stage, Left | Gone))).then_some(Outcome::Shutdown);
    }
    if command.count(&[Waiting, Queued, Sent, Delivered]) > 0 {
        return None;
    }
    let is_guest_that_ended =
        |row: &NaiveRow| row.user == "-" && matches!(row.stage, Left | Gone) && closed.contains(&row.to);
    let is_beyond_reach = !command.rows.is_empty() && command.rows.iter().all(is_guest_that_ended);
    if command.count(&[Left]) > 0 {
        if is_beyond_reach {
            return Some(Outcome::Disconnected);
        }
        return if fail_fast { Some(Outcome::Disconnected) } else { is_draining.then_some(Outcome::Shutdown) };
    }
    let is_new = |client: &NaiveClient| command.rows.iter().all(|row| row.to != client.number);
    let mut found: Vec<&NaiveClient> = clients
        .iter()
        .filter(|client| client.takes && command.is_for(client) && is_new(client))
        .filter(|client| command.mode != Mode::One || !client.is_settling)
        .filter(|client| !command.require_capability || client.announces)
        .collect();
    found.sort_by_key(|client| std::cmp::Reverse(client.active));
    if command.mode == Mode::One {
        found.truncate(1);
    }
    if command.mode == Mode::First && found.iter().all(|client| client.is_settling) {
        found.clear();
    }
    while command.is_list() && found.is_empty() {
        let Some(next) = command.candidates.pop() else { break };
        found.extend(clients.iter().filter(|client| client.number == next && client.takes));
    }
    if !found.is_empty() {
        command.rows.extend(found.into_iter().map(row));
        return None;
    }
    if command.is_list() && command.rows.is_empty() {
        return Some(Outcome::NoRecipient);
    }
    if is_beyond_reach {
        return Some(Outcome::Disconnected);
    }
    // A connection that has ended is not waited for.
    if let Aim::Connection { id, .. } = &command.aim
        && command.rows.is_empty()
        && closed.iter().any(|number| conn(*number) == *id)
    {
        return Some(Outcome::NoRecipient);
    }
    if clients.iter().any(|client| client.is_settling && command.is_for(client)) {
        return None;
    }
    match (fail_fast, command.rows.is_empty()) {
        (true, true) => Some(Outcome::NoRecipient),
        (true, false) if command.count(&[Overflow]) == command.rows.len() => Some(Outcome::Overflow),
        (true, false) => Some(Outcome::Disconnected),
        (false, _) => is_draining.then_some(Outcome::Shutdown),
    }
}
