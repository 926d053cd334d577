//! One connection's conversation: from its beginning, segment by segment, to its end.

use std::io;

use switchboard_proto::call::{Answer, Call, CallError, Outcome, Piece, Publication};
use switchboard_proto::close::CloseReason;
use switchboard_proto::command::CommandDelivery;
use switchboard_proto::event::Event;
use switchboard_proto::peer::Step;

use crate::hub::mail::{Asker, CommandFate, ConnKey, Inspection, Mail, Settled};
use crate::op::{BoxFuture, Op};

use super::deadlines::Due;
use super::{Closing, Link, Worker};

impl Worker {
    /// Bytes that one read returned.
    pub(super) fn on_segment(&mut self, key: ConnKey, segment: &[u8]) {
        let Some(connection) = self.hub.get(key) else { return };
        if connection.link.peer.is_break(segment) {
            self.step(key, |peer, cx| peer.on_break(cx));
        } else {
            self.feed(key, segment);
        }
    }

    /// Feeds input to a connection's peer, frame by frame. What cannot be handled now is set aside.
    pub(super) fn feed(&mut self, key: ConnKey, mut input: &[u8]) {
        while let Some(connection) = self.hub.get(key) {
            if connection.link.closing.is_some() {
                // Whatever a client says after its end was decided is not heard.
                break;
            }
            let queued = connection.outbox.bytes() + self.fx.bytes.len();
            if queued > self.settings.read_pause_bytes || connection.link.streaming {
                self.set_aside(key, input);
                break;
            }
            match self.with_peer(key, |peer, cx| peer.feed(&mut input, cx)) {
                Some(Step::Frame) => self.apply(key),
                Some(Step::Waiting) => {
                    self.set_aside(key, input);
                    break;
                }
                Some(Step::NeedInput) => {
                    // A message that has begun asks to be woken at its deadline.
                    self.apply(key);
                    break;
                }
                None => break,
            }
        }
        // Also when the connection is gone: what it wrote must not reach the next one.
        self.send_effects(key);
    }

    fn set_aside(&mut self, key: ConnKey, input: &[u8]) {
        if !input.is_empty()
            && let Some(connection) = self.hub.get_mut(key)
        {
            connection.link.stash = Some(Box::new(input.to_vec()));
        }
    }

    /// Applies the effects of one step, the bytes last: those of many steps leave together.
    pub(super) fn apply(&mut self, key: ConnKey) {
        if let Some(at_ms) = self.fx.wake_at_ms.take() {
            self.deadlines.push(at_ms, Due::Face(key));
        }
        if std::mem::take(&mut self.fx.rehear) {
            self.hub.rehear(key, Link::hears);
            // What is heard from now on comes behind what the face said of it.
            self.send_effects(key);
        }
        if std::mem::take(&mut self.fx.more)
            && let Some(connection) = self.hub.get_mut(key)
        {
            connection.link.has_more = true;
            // Looked at when what waits has been written, which may be nothing.
            self.hub.mark_dirty(key.slot);
        }
        if let Some(content) = self.fx.content.take() {
            self.send_effects(key);
            if let Some(connection) = self.hub.get_mut(key) {
                connection.outbox.push_content(content);
                connection.link.streaming = true;
                self.hub.mark_dirty(key.slot);
            }
        }
        if let Some((token, call)) = self.fx.call.take() {
            self.dispatch(key, Asker::Face(token), call);
        }
        if let Some(reason) = self.fx.close.take() {
            // Nothing may stand behind the last words: what its rooms said before comes first.
            self.hub.walk_rooms_of(key);
            self.send_effects(key);
            self.close(key, reason);
        }
    }

    fn dispatch(&mut self, key: ConnKey, asker: Asker, call: Call) {
        match call {
            Call::Details => {
                let rooms = self.hub.rooms_of(key);
                self.settle(key, asker, Ok(Answer::Details { rooms }));
            }
            Call::Attend(wants) => self.attend(key, wants, asker),
            Call::Join { room } => self.join(key, room, asker),
            Call::Leave { room } => self.leave(key, room, asker),
            Call::RoomStatus { room } | Call::Say { room, .. } | Call::Publish(Publication { room, .. })
                if !self.hub.is_member(key, &room) =>
            {
                self.settle(key, asker, Err(CallError::NotMember(room)));
            }
            call => {
                let Some(caller) = self.caller(key) else { return };
                match self.calls.call(caller, call) {
                    Op::Ready(outcome) => self.settle(key, asker, outcome),
                    Op::Wait(future) => self.settle_later(key, async move { Settled::Outcome(asker, future.await) }),
                }
            }
        }
    }

    /// Spawns what waits; it comes back by mail.
    pub(super) fn settle_later(&self, key: ConnKey, settling: impl Future<Output = Settled> + Send + 'static) {
        let mailbox = self.mailboxes[usize::from(self.index)].clone();
        let future: BoxFuture<'static, ()> = Box::pin(async move {
            let settled = settling.await;
            mailbox.push(Mail::Settled(key, Box::new(settled))).await;
        });
        self.calls.spawn(future);
    }

    /// Brings an outcome to whoever asked. What a face writes is sent by the caller, together with whatever else it has.
    pub(super) fn settle(&mut self, key: ConnKey, asker: Asker, outcome: Outcome) {
        match asker {
            Asker::Node(reply) => reply(outcome),
            Asker::Face(token) => {
                // A connection that is ending gets no more answers.
                if self.hub.get(key).is_some_and(|connection| connection.link.closing.is_none()) {
                    self.with_peer(key, |peer, cx| peer.on_outcome(token, outcome, cx));
                    self.apply(key);
                }
            }
        }
    }

    /// Something that the application tells this client. `false`: its client cannot be told of that.
    pub(super) fn tell(&mut self, key: ConnKey, event: &Event) -> bool {
        let Some((bytes, true)) = self.worded(key, event) else { return false };
        self.hub.push(key, &bytes);
        self.apply(key);
        true
    }

    /// Hands a client command over, and tells the node what became of it.
    pub(super) fn hand_over_command(&mut self, key: ConnKey, command: CommandDelivery) {
        let id = command.document.id;
        let Some(connection) = self.hub.get(key).map(|connection| connection.link.facts.id) else {
            // Its end has been told to the node.
            return;
        };
        let worded = self.worded(key, &Event::Command(command));
        let is_indispensable = std::mem::take(&mut self.fx.indispensable);
        let fate = match worded {
            Some((bytes, true)) if self.hub.try_push(key, &bytes) => CommandFate::Delivered,
            Some((_, true)) => {
                if is_indispensable {
                    self.cut_off(key, CloseReason::SlowConsumer);
                }
                CommandFate::Overflow
            }
            Some((_, false)) | None => CommandFate::Gone,
        };
        self.calls.command_fate(id, connection, fate);
    }

    /// What a face says of an event, and whether its client can be told. It was not asked for, so it counts against the limit;
    /// and it stands behind what the rooms said before. None for a connection that ends.
    fn worded(&mut self, key: ConnKey, event: &Event) -> Option<(Vec<u8>, bool)> {
        self.hub.get(key).filter(|connection| connection.link.closing.is_none())?;
        debug_assert!(self.fx.bytes.is_empty());
        let taken = self.with_peer(key, |peer, cx| peer.on_event(event, cx))?;
        let bytes = std::mem::take(&mut self.fx.bytes);
        self.hub.walk_rooms_of(key);
        Some((bytes, taken))
    }

    pub(super) fn on_content(&mut self, key: ConnKey, piece: io::Result<Piece>) {
        let Some(connection) = self.hub.get_mut(key) else { return };
        let came = match piece {
            Ok(piece) => connection.outbox.fill(piece),
            Err(error) => {
                tracing::warn!(connection = %connection.link.facts.id, %error, "a file could not be read to its end");
                false
            }
        };
        if came {
            connection.link.peer.on_piece(self.now.monotonic_ms);
            self.hub.mark_dirty(key.slot);
        } else if connection.link.closing.is_some() {
            self.cut(key, CloseReason::Internal);
        } else {
            // Part of it is out already; nothing else could tell the client that the rest will not come.
            self.cut_off(key, CloseReason::Internal);
        }
    }

    pub(super) fn inspect(&self, key: ConnKey) -> Option<Inspection> {
        let connection = self.hub.get(key)?;
        Some(Inspection {
            facts: connection.link.facts.clone(),
            rooms: self.hub.rooms_of(key),
            joining: self.joins.of_connection(key),
            outbox_bytes: connection.outbox.bytes(),
        })
    }

    /// The server stops as planned: every face closes in its own way.
    pub(super) fn drain(&mut self) {
        self.is_draining = true;
        self.listeners.clear();
        for key in self.hub.keys() {
            self.step(key, |peer, cx| peer.on_shutdown(cx));
        }
    }

    /// Whatever the connections have was given to other nodes: they end at once, and their clients may come back at once.
    pub(super) fn expel(&mut self) {
        for key in self.hub.keys() {
            let reason = CloseReason::Fenced;
            let has_words = |link: &Link| !link.peer.last_words(reason).is_empty();
            let Some(connection) = self.hub.get(key).filter(|connection| connection.link.closing.is_none()) else {
                continue;
            };
            if has_words(&connection.link) {
                self.cut_off(key, reason);
                continue;
            }
            // Its face alone can say goodbye, and does unless something is pending.
            self.step(key, |peer, cx| peer.on_shutdown(cx));
            match self.hub.get_mut(key).map(|connection| &mut connection.link.closing) {
                Some(Some(closing)) => closing.reason = reason,
                Some(None) => self.cut_off(key, reason),
                None => {}
            }
        }
    }

    /// The client has closed its side: what it asked for before is still sent.
    pub(super) fn on_end(&mut self, key: ConnKey) {
        match self.hub.get(key).map(|connection| &connection.link.closing) {
            Some(Some(closing)) if closing.finished => self.remove(key),
            Some(None) => self.close(key, CloseReason::ClientLeft),
            _ => {}
        }
    }

    /// Ends a connection once everything has been written. It leaves its rooms at once.
    fn close(&mut self, key: ConnKey, reason: CloseReason) {
        let Some(connection) = self.hub.get_mut(key) else { return };
        let left = connection.outbox.remaining();
        let link = &mut connection.link;
        if link.closing.is_some() {
            return;
        }
        link.closing = Some(Box::new(Closing { reason, left, finished: false }));
        link.stash = None;
        self.leave_all(key);
        // Not in this turn, whose deadlines run before what waits is written once.
        self.deadlines.push(self.now.monotonic_ms + self.settings.close_linger_ms.max(1), Due::Closing(key));
        self.hub.mark_dirty(key.slot);
    }

    /// Everything has been written: our side closes, and the client's last bytes are waited for, or closing the socket
    /// with bytes unread would make the kernel throw away what the client has not read.
    pub(super) fn finish_close(&mut self, key: ConnKey) {
        let Some(connection) = self.hub.get_mut(key) else { return };
        let link = &mut connection.link;
        let Some(closing) = &mut link.closing else { return };
        if closing.finished {
            return;
        }
        match link.transport.finish() {
            Ok(()) => {
                closing.finished = true;
                if link.at_end {
                    self.remove(key);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.remove(key),
        }
    }

    /// A closing connection gets more time only as long as its client reads.
    pub(super) fn on_linger(&mut self, key: ConnKey) {
        let Some(connection) = self.hub.get_mut(key) else { return };
        let left = connection.outbox.remaining();
        match &mut connection.link.closing {
            Some(closing) if !closing.finished && left < closing.left => {
                closing.left = left;
                self.deadlines.push(self.now.monotonic_ms + self.settings.close_linger_ms, Due::Closing(key));
            }
            Some(_) => self.remove(key),
            None => {}
        }
    }

    /// Ends a connection to which what waits cannot be brought: it does not read, or a file cannot be read on. What waits is
    /// dropped, and if the wire has words for it they are said in its place, for a client that reads before the linger is over.
    pub(super) fn cut_off(&mut self, key: ConnKey, reason: CloseReason) {
        let Some(connection) = self.hub.get_mut(key) else { return };
        if connection.link.closing.is_some() {
            // Several rooms overflowed in one turn, or its end was decided in the same: its last words are on their way.
            return;
        }
        let words = connection.link.peer.last_words(reason);
        if words.is_empty() {
            return self.cut(key, reason);
        }
        connection.outbox.abandon();
        connection.outbox.push_own(&words);
        self.close(key, reason);
    }

    /// Ends a connection at once.
    pub(super) fn cut(&mut self, key: ConnKey, reason: CloseReason) {
        let Some(connection) = self.hub.get_mut(key) else { return };
        connection.link.closing.get_or_insert_with(|| Box::new(Closing { reason, left: 0, finished: true }));
        self.remove(key);
    }

    fn remove(&mut self, key: ConnKey) {
        self.leave_all(key);
        self.wanting.remove(key);
        let Some(caller) = self.caller(key) else { return };
        let Some(link) = self.hub.remove(key) else { return };
        let reason = link.closing.map_or(CloseReason::Internal, |closing| closing.reason);
        let outside = link.outside;
        // Closing the socket ends its registration too.
        drop(link.transport);
        self.load().fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        match outside {
            false => self.calls.closed(&caller, reason),
            true => self.calls.turned_away(&caller, reason),
        }
    }
}
