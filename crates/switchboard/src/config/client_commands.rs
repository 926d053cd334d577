//! The settings of client commands.

use std::time::Duration;

use super::hooks::LONGEST_ANSWER;
use super::kind::{Size, Span, Whole};
use super::section::settings;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// The longest limit of a command: longer than anybody waits.
const LONGEST_COMMAND: Duration = Duration::from_secs(24 * 3600);

settings! {
    /// What the server asks clients to do, and how long it waits for their replies. See docs/guide/commands.md.
    pub struct Commands {
        keys {
            /// Limit of a command for which its sender names none.
            timeout: Duration = Duration::from_secs(5), Span::range(Duration::from_millis(1), LONGEST_ANSWER),
                reached "the sender is told that nobody replied in time";
            /// Longest limit that a sender may name.
            max_timeout: Duration = Duration::from_secs(300), Span::range(Duration::from_millis(1), LONGEST_COMMAND),
                reached "the command is refused";
            /// Bytes of a command.
            max_command_bytes: usize = 64 * KIB, Size::range(256, 16 * MIB), reached "the command is refused";
            /// Bytes of a reply. What one message of a client may hold is a limit too.
            max_reply_bytes: usize = 512 * KIB, Size::range(256, 64 * MIB),
                reached "the reply is refused with `error-response-too-large`; the command stays pending";
            /// Bytes of replies that are kept: of collections that are not complete, and of outcomes that an idempotency key
            /// may ask for again.
            max_held_bytes: usize = 64 * MIB, Size::range(MIB, 1024 * MIB),
                reached "remembered outcomes are forgotten, the oldest first; then replies to collections are refused";
            /// Commands to one user, or to one connection without a user, that may wait for a reply.
            max_pending_per_user: usize = 100, Whole::range(1, 1_000_000),
                reached "further commands are refused with `too-many-requests`";
            /// Commands that may wait for a reply, all together.
            max_pending: usize = 10_000, Whole::range(1, 1_000_000),
                reached "further commands are refused with `too-many-requests`";
            /// Bytes of commands that wait for a reply, all together.
            max_pending_bytes: usize = 64 * MIB, Size::range(MIB, 1024 * MIB),
                reached "commands that would need more are refused with `too-many-requests`";
            /// Sessions that pending commands address, all together.
            max_pending_rows: usize = 1_000_000, Whole::range(1, 10_000_000),
                reached "commands that would need more are refused with `too-many-requests`";
            /// Bytes that a client may say about itself.
            max_client_data_bytes: usize = 16 * KIB, Size::range(256, MIB), reached "client data is refused";
            /// Time that a DDP session has to say what it can do before it is sent commands: clients of Rocket.Chat's SDK do
            /// not listen earlier.
            ready_wait: Duration = Duration::from_millis(500), Span::range(Duration::ZERO, Duration::from_secs(60)),
                reached "it is sent commands";
            /// Time between the answer to a DDP session that said what it can do and the first command: clients of
            /// Rocket.Chat's SDK listen a moment after they have read the answer.
            listen_wait: Duration = Duration::from_millis(100), Span::range(Duration::ZERO, Duration::from_secs(60)),
                reached "it is sent commands";
            /// Added to the times of commands, for clients whose clocks are ahead of the server's: those of Rocket.Chat's SDK
            /// ignore commands that are older than their log-in.
            ts_offset: Duration = Duration::ZERO, Span::range(Duration::ZERO, Duration::from_secs(86_400));
            /// Time between two commands `heartbeat` to every session that answers them; 0: none are sent.
            heartbeat_interval: Duration = Duration::ZERO, Span::off_or(Duration::from_secs(1), Duration::from_secs(86_400));
            /// Time that pending commands have at a planned stop before clients are told to go. Within `node.drain_timeout`.
            drain_wait: Duration = Duration::from_secs(2), Span::range(Duration::ZERO, LONGEST_ANSWER),
                reached "clients are told to go; commands whose clients are gone end with `shutdown`";
            /// Commands that have come to their end and are remembered, to be shown, and to tell late replies from unknown
            /// ones.
            history_max: usize = 1000, Whole::range(0, 1_000_000), reached "the oldest are forgotten";
            /// Time for which an idempotency key is remembered behind the outcome.
            idempotency_memory: Duration = Duration::from_secs(600), Span::range(Duration::ZERO, Duration::from_secs(86_400)),
                reached "the same key sends a new command";
            /// Idempotency keys that are remembered.
            idempotency_max: usize = 10_000, Whole::range(0, 1_000_000), reached "the oldest are forgotten";
            /// Clients of other nodes that this one knows of, so that its commands reach them.
            sessions_elsewhere_max: usize = 1_000_000, Whole::range(1, 10_000_000),
                reached "commands of this node do not reach further ones";
            /// Commands of other nodes that were handed to clients of this one and are remembered until their limits.
            carried_max: usize = 100_000, Whole::range(0, 10_000_000),
                reached "the oldest are forgotten; replies to them go by `commands.lookup_rate`";
            /// Bytes of commands of other nodes that wait for space with a worker of this one.
            errand_bytes: usize = 16 * MIB, Size::range(64 * KIB, 1024 * MIB),
                reached "the sender is told `overflow` of that session";
            /// Replies in a second, of each connection, to commands of which this node does not know which node sent them: it asks all of
            /// them. 0: any number.
            lookup_rate: u32 = 10, Whole::range(0, 1_000_000), reached "the client is told to reply later";
            /// Such replies that a connection may have sent at once: a bot that comes back to another node has this many to send.
            lookup_burst: u32 = 100, Whole::range(1, 1_000_000), reached "as with `commands.lookup_rate`";
            /// Such replies of all connections that may wait for what other nodes say.
            lookups_max: usize = 256, Whole::range(1, 100_000), reached "as with `commands.lookup_rate`";
            /// Listeners to replies that a program which embeds the server may have at the same time.
            listeners_max: usize = 10_000, Whole::any(), reached "further ones are refused";
        }
        sections {}
    }
}
