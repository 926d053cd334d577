//! The settings of DDP.

use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::kind::{Size, Span, Switch, Whole, quote, refuse};
use super::section::{Kind, Mismatch, settings};
use super::text_list::TextList;

/// In seconds.
const DAY: u64 = 24 * 3600;

settings! {
    /// DDP, the protocol of bots, on the web listener under `/websocket`.
    pub struct DdpServer {
        keys {
            /// Whether the web listener speaks it.
            enabled: bool = true, Switch;
            /// Longest message of a client; never off.
            max_message_bytes: usize = 1 << 20, Size::range(125, 64 << 20),
                reached "the connection is closed with code 1009";
            /// The same before a user has logged in; never more than `servers.ddp.max_message_bytes`.
            max_login_message_bytes: usize = 64 << 10, Size::range(125, 64 << 20),
                reached "the connection is closed with code 1009";
            /// Frames that one message may come in.
            max_fragments: u32 = 1024, Whole::any(), reached "the connection is closed with code 1008";
            /// Pings and pongs of the WebSocket protocol that one client may send in a second, and as many at once.
            max_control_frames: u32 = 16, Whole::any(), reached "the connection is closed with code 1008";
            /// Time that a message may take from its first byte to its last.
            message_timeout: Duration = Duration::from_secs(10), Span::any(),
                reached "the connection is closed with code 1008";
            /// Nesting of lists and objects in what clients send; never off, since depth costs stack.
            max_json_depth: usize = 64, Whole::range(1, 127), reached "the message is refused, a call or a subscription under its id";
            /// Subscriptions of one connection.
            max_subscriptions: usize = 1000, Whole::any(),
                reached "further ones are refused with `too-many-subscriptions`";
            /// Longest id of a subscription or a method.
            max_id_bytes: usize = 256, Size::range(1, 64 << 10), reached "the message is answered as malformed";
            /// Time in which a client must have said `connect`.
            connect_timeout: Duration = Duration::from_secs(10), Span::any(), reached "the connection is closed";
            /// Silence after which a client is pinged; 0: never.
            heartbeat_interval: Duration = Duration::from_secs(15), Span::any();
            /// Time in which anything must come behind that ping.
            heartbeat_timeout: Duration = Duration::from_secs(15), Span::any(),
                reached "the connection is closed with code 1001";
            /// Characters of one message to a room.
            max_text_chars: usize = 5000, Whole::any(), reached "the message is refused, `error-message-size-exceeded`";
            /// One message to a room with all that its sender put beside the text. Everybody in the room is sent it: keep it
            /// well below `limits.max_outbox_bytes`.
            max_document_bytes: usize = 64 << 10, Size::range(1 << 10, 16 << 20),
                reached "the message is refused, `error-message-size-exceeded`";
            /// Members that clients may put beside the text of a message, such as `attachments`: `"all"`, `"none"` or a list of
            /// names. Others are left out.
            extra_members: ExtraMembers = ExtraMembers::All, ExtraMembersKind;
            /// Of these members those that only users with the role `bot` may write: with them a message looks as if another user
            /// had sent it.
            bot_members: Vec<String> = ["alias", "avatar", "emoji"].map(str::to_owned).to_vec(),
                TextList::of("the name of a member", |name| !name.is_empty());
            /// Messages that one user may send to rooms in a second, in the long run. Users with the role `bot` are not
            /// limited.
            send_rate: u32 = 5, Whole::any(), reached "further messages are refused with `too-many-requests`";
            /// Messages that one user may send at once.
            send_burst: u32 = 30, Whole::range(1, 1_000_000), reached "as with `servers.ddp.send_rate`";
            /// Whether clients that subscribed to all their messages hear public rooms that they have not joined.
            public_rooms_to_all: bool = false, Switch;
            /// Logins with a wrong name or password that one address, or one /64 network of IPv6, may make at once. They are
            /// forgiven one after the other, as many in a minute.
            max_failed_logins: u32 = 30, Whole::any(),
                reached "until one is forgiven, passwords from there are checked one at a time, and wrong ones are refused with `too-many-requests`, late";
            /// Time between two refusals of wrong passwords for an address that has reached `servers.ddp.max_failed_logins`. 16 of
            /// an address may wait; the answer to a further one comes at once and the connection is closed.
            failed_login_pause: Duration = Duration::from_secs(1), Span::range(Duration::ZERO, Duration::from_secs(60)),
                reached "the next wrong password is refused";
            /// Passwords that are checked against a hash at the same time. Each check takes a thread and the memory that the
            /// hash names, 19 MiB with those of `switchboard hash-password`.
            password_checks_max: usize = 2, Whole::range(1, 256), reached "the next check waits for its turn";
            /// Checks of passwords that may wait for their turn. One address can have an eighth of those that run or wait, two of
            /// them for one user; further ones wait for these two.
            password_checks_waiting: usize = 1000, Whole::range(0, 1_000_000),
                reached "further logins with a password are refused with `too-many-requests`";
            /// Whether a login says the same, whatever was wrong; best for servers that strangers can reach.
            ambiguous_login_errors: bool = false, Switch;
            /// Time for which the token of a login can be used to log in again.
            token_life: Duration = Duration::from_secs(90 * DAY),
                Span::range(Duration::from_secs(1), Duration::from_secs(3650 * DAY)),
                reached "the token is refused, and its user logs in with the password";
            /// Tokens of one user that can be used at the same time.
            max_tokens_per_user: usize = 100, Whole::range(1, 100_000),
                reached "the token that ends first is worth nothing any more";
        }
        sections {}
    }
}

/// Members that clients may put beside the text of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtraMembers {
    /// Any.
    All,
    /// Those with these names; none without any.
    Named(Vec<String>),
}

struct ExtraMembersKind;

impl ExtraMembersKind {
    const NAMES: TextList = TextList::of("the name of a member", |name| !name.is_empty());
}

impl Kind<ExtraMembers> for ExtraMembersKind {
    fn type_name(&self) -> String {
        "`\"all\"`, `\"none\"` or list of names".into()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<ExtraMembers, Vec<Mismatch>> {
        match value.get_ref() {
            DeValue::String(word) if word == "all" => Ok(ExtraMembers::All),
            DeValue::String(word) if word == "none" => Ok(ExtraMembers::Named(Vec::new())),
            DeValue::Array(_) => Self::NAMES.read(value).map(ExtraMembers::Named),
            _ => Err(refuse("\"all\", \"none\" or a list of names", value)),
        }
    }

    fn write(&self, value: &ExtraMembers) -> String {
        match value {
            ExtraMembers::All => quote("all"),
            ExtraMembers::Named(names) if names.is_empty() => quote("none"),
            ExtraMembers::Named(names) => Self::NAMES.write(names),
        }
    }

    fn check(&self, value: &ExtraMembers) -> Vec<Mismatch> {
        match value {
            ExtraMembers::All => Vec::new(),
            ExtraMembers::Named(names) => Self::NAMES.check(names),
        }
    }
}
