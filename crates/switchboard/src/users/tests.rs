//! Rules of logging in with a password. Hashes are cheap ones; how many are checked is counted, not timed.

use std::net::IpAddr;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::{Refusal, Users};
use crate::config::{AuthValue, DdpServer, Password, Secret, User};
use crate::op::OnThread;
use crate::password::PasswordHash;
use crate::proto::call::{PasswordProof, Who};
use crate::proto::face::Remote;
use crate::proto::time::Now;

/// The SHA-256 of `secret`.
const DIGEST: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

fn plain(password: &str) -> Password {
    Password::Plain(Secret::new(password))
}

fn hashed(password: &str, passes: u32) -> Password {
    Password::Hash(Secret::new(PasswordHash::make_cheaply(password, passes)))
}

/// Ann with this password, and Bob, who is switched off.
fn users(password: &Password, settings: &DdpServer) -> Users {
    let mut bob = User::new("u2", "bob", password.clone());
    bob.active = false;
    Users::new(&[User::new("u1", "ann", password.clone()), bob], settings).unwrap()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().max_blocking_threads(1).enable_time().build().unwrap()
}

fn from(last: u8) -> Remote {
    Remote::Ip(IpAddr::from([10, 0, 0, last]), 4711)
}

fn at(monotonic_ms: u64) -> Now {
    Now { monotonic_ms, unix_ms: 0, ..Now::default() }
}

fn name(name: &str) -> Who {
    Who::Name(name.to_owned())
}

fn proof(password: &str) -> PasswordProof {
    PasswordProof::Plain(password.to_owned())
}

fn digest(hex: &str) -> PasswordProof {
    PasswordProof::Digest(hex.to_owned())
}

/// The name of whoever is let in.
fn verify(users: &Users, who: &Who, proof: &PasswordProof, from: Remote, now: Now) -> Result<String, Refusal> {
    let verified = runtime().block_on(users.verify(who, proof, from, now));
    verified.map(|account| account.user().name().to_owned())
}

#[test]
fn a_password_is_right_as_it_is_and_as_its_digest_in_either_case() {
    let right = [proof("secret"), digest(DIGEST), digest(&DIGEST.to_uppercase())];
    let wrong = [
        proof("Secret"),
        proof(""),
        // A digest is no password, and a password no digest.
        proof(DIGEST),
        digest("secret"),
        digest(""),
        digest(&DIGEST[2..]),
        digest(&DIGEST.replace('2', "3")),
    ];
    for password in [plain("secret"), hashed("secret", 1)] {
        let users = users(&password, &DdpServer::default());
        for proof in &right {
            for who in [name("ann"), Who::Id("u1".into())] {
                assert_eq!(verify(&users, &who, proof, from(1), at(0)), Ok("ann".into()), "{password:?} {proof:?}");
            }
            assert_eq!(verify(&users, &name("bob"), proof, from(1), at(0)), Err(Refusal::Inactive));
            for nobody in [name("u1"), name("anna"), name(""), Who::Id("ann".into()), Who::Id("U1".into())] {
                assert_eq!(verify(&users, &nobody, proof, from(2), at(0)), Err(Refusal::NoSuchUser), "{nobody:?}");
            }
        }
        for (index, proof) in wrong.iter().enumerate() {
            for who in ["ann", "bob"] {
                let refused = verify(&users, &name(who), proof, from(3), at(0));
                assert_eq!(refused, Err(Refusal::WrongPassword), "{password:?} {who} {index}");
            }
        }
    }
}

#[test]
fn fault_row_16_who_does_not_exist_costs_as_many_hashes_as_who_does() {
    let configured = [User::new("u1", "ann", hashed("secret", 1)), User::new("u2", "bob", plain("secret")), {
        let mut carl = User::new("u3", "carl", hashed("secret", 2));
        carl.active = false;
        carl
    }];
    let users = Users::new(&configured, &DdpServer::default()).unwrap();
    for who in ["ann", "bob", "carl", "nobody"] {
        for proof in [proof("secret"), proof("wrong"), digest(DIGEST), digest("no digest")] {
            let before = users.hash_checks();
            let _ = verify(&users, &name(who), &proof, from(1), at(0));
            assert_eq!(users.hash_checks() - before, 1, "{who} {proof:?}");
        }
    }
    let plain_only = Users::new(&configured[1..2], &DdpServer::default()).unwrap();
    assert_eq!(verify(&plain_only, &name("bob"), &proof("secret"), from(1), at(0)), Ok("bob".into()));
    assert_eq!(verify(&plain_only, &name("nobody"), &proof("secret"), from(1), at(0)), Err(Refusal::NoSuchUser));
    assert_eq!(plain_only.hash_checks(), 0);
}

#[test]
fn the_hash_of_somebody_else_opens_no_plain_account() {
    // Whoever has a plain password is checked against the decoy for nothing; the decoy's password must not let him in.
    let configured = [User::new("u1", "ann", hashed("of ann", 1)), User::new("u2", "bob", plain("of bob"))];
    let users = Users::new(&configured, &DdpServer::default()).unwrap();
    assert_eq!(verify(&users, &name("bob"), &proof("of ann"), from(1), at(0)), Err(Refusal::WrongPassword));
    assert_eq!(verify(&users, &name("nobody"), &proof("of ann"), from(1), at(0)), Err(Refusal::NoSuchUser));
    assert_eq!(verify(&users, &name("ann"), &proof("of bob"), from(1), at(0)), Err(Refusal::WrongPassword));
    assert_eq!(verify(&users, &name("bob"), &proof("of bob"), from(1), at(0)), Ok("bob".into()));
}

#[test]
fn fault_row_16_a_right_password_is_accepted_after_any_number_of_wrong_ones_which_are_refused_slowly() {
    let settings = DdpServer { max_failed_logins: 3, failed_login_pause: Duration::ZERO, ..DdpServer::default() };
    for password in [plain("secret"), hashed("secret", 1)] {
        let users = users(&password, &settings);
        for (who, given) in
            [("ann", "wrong"), ("nobody", "secret"), ("ann", "secret"), ("bob", "secret"), ("bob", "wrong")]
        {
            let outcome = verify(&users, &name(who), &proof(given), from(1), at(50_000));
            assert!(!matches!(outcome, Err(Refusal::TooManyAttempts { .. })), "{who} {given}");
        }
        let over = Err(Refusal::TooManyAttempts { retry_ms: 20_000 });
        for _ in 0..2 {
            assert_eq!(verify(&users, &name("ann"), &proof("wrong"), from(1), at(50_000)), over);
            assert_eq!(verify(&users, &name("nobody"), &proof("secret"), from(1), at(50_000)), over);
            assert_eq!(verify(&users, &name("ann"), &proof("secret"), from(1), at(50_000)), Ok("ann".into()));
        }
        let others = [(from(2), at(50_000)), (Remote::Unix, at(50_000)), (from(1), at(60_000))];
        for (from, now) in others {
            assert_eq!(verify(&users, &name("ann"), &proof("secret"), from, now), Ok("ann".into()), "{from}");
        }
        for _ in 0..3 {
            assert_eq!(verify(&users, &name("ann"), &proof(""), Remote::Unix, at(0)), Err(Refusal::WrongPassword));
        }
        let over = Err(Refusal::TooManyAttempts { retry_ms: 20_000 });
        assert_eq!(verify(&users, &name("ann"), &proof(""), Remote::Unix, at(0)), over);
    }
}

#[test]
fn fault_row_16_a_right_password_does_not_wait_for_refusals_of_its_address() {
    let settings =
        DdpServer { max_failed_logins: 1, failed_login_pause: Duration::from_secs(60), ..DdpServer::default() };
    for password in [plain("secret"), hashed("secret", 1)] {
        let users = users(&password, &settings);
        runtime().block_on(async {
            let attempt = |given: &str| {
                let (users, proof) = (users.clone(), proof(given));
                async move { users.verify(&name("ann"), &proof, from(1), at(0)).await.map(drop) }
            };
            assert_eq!(attempt("wrong").await, Err(Refusal::WrongPassword));
            assert_eq!(attempt("wrong").await, Err(Refusal::TooManyAttempts { retry_ms: 60_000 }));
            let mut wrong: JoinSet<_> = (0..24).map(|_| attempt("wrong")).collect();
            for _ in 0..8 {
                let refused = wrong.join_next().await.unwrap().unwrap();
                assert_eq!(refused, Err(Refusal::TooManyAtOnce { retry_ms: 60_000 }));
            }
            assert_eq!(attempt("secret").await, Ok(()));
            assert!(wrong.try_join_next().is_none(), "16 refusals wait");
        });
    }
}

#[test]
fn fault_row_16_passwords_of_an_address_that_failed_too_often_are_checked_one_at_a_time() {
    let settings =
        DdpServer { max_failed_logins: 1, password_checks_max: 2, password_checks_waiting: 1, ..DdpServer::default() };
    let users = users(&hashed("secret", 1), &settings);
    runtime().block_on(async {
        let attempt = |given: &str, last: u8| {
            let (users, proof) = (users.clone(), proof(given));
            async move { users.verify(&name("ann"), &proof, from(last), at(0)).await.map(drop) }
        };
        assert_eq!(attempt("wrong", 1).await, Err(Refusal::WrongPassword));
        let (release, released) = sync_channel::<()>(0);
        let busy = OnThread::new(&tokio::runtime::Handle::current(), move || released.recv());
        // It has two attempts under way, and one of the three places for checks.
        let of_guesser: JoinSet<_> = [attempt("secret", 1), attempt("secret", 1)].into_iter().collect();
        tokio::task::yield_now().await;
        let of_others: JoinSet<_> = [attempt("secret", 2), attempt("secret", 3)].into_iter().collect();
        tokio::task::yield_now().await;
        release.send(()).unwrap();
        busy.await.unwrap().unwrap();
        assert_eq!(of_others.join_all().await, [Ok(()), Ok(())]);
        assert_eq!(of_guesser.join_all().await, [Ok(()), Ok(())]);
    });
}

#[test]
fn a_name_in_another_case_is_that_of_the_only_user_whom_it_can_mean() {
    let configured =
        ["ann", "Bob", "bob", "Ärger"].map(|user| User::new(format!("id-{user}"), user, plain(&format!("of {user}"))));
    let users = Users::new(&configured, &DdpServer::default()).unwrap();
    let named = |who: &str, of: &str| verify(&users, &name(who), &proof(&format!("of {of}")), from(1), at(0));
    assert_eq!([named("ANN", "ann"), named("Ann", "ann")], [Ok("ann".into()), Ok("ann".into())]);
    assert_eq!(named("äRGER", "Ärger"), Ok("Ärger".into()));
    assert_eq!([named("Bob", "Bob"), named("bob", "bob")], [Ok("Bob".into()), Ok("bob".into())]);
    for password in ["Bob", "bob"] {
        assert_eq!(named("BOB", password), Err(Refusal::NoSuchUser), "two could be meant");
    }
}

#[test]
fn fault_row_16_checks_wait_for_their_turn_and_so_many_may_wait() {
    let settings =
        DdpServer { max_failed_logins: 1, password_checks_max: 1, password_checks_waiting: 2, ..DdpServer::default() };
    let users = users(&hashed("secret", 1), &settings);
    runtime().block_on(async {
        // The only thread is busy until it is told to go on, so the first check has its turn and stays.
        let (release, released) = sync_channel::<()>(0);
        let busy = OnThread::new(&tokio::runtime::Handle::current(), move || released.recv());
        let attempt = |given: &str, from: Remote| {
            let (users, proof) = (users.clone(), proof(given));
            tokio::spawn(async move { users.verify(&name("ann"), &proof, from, at(0)).await.map(drop) })
        };
        let first = attempt("wrong", from(1));
        let same_address = attempt("secret", from(1));
        let other_address = attempt("secret", from(2));
        tokio::task::yield_now().await;
        let refused = users.verify(&name("ann"), &proof("secret"), from(3), at(0)).await;
        assert_eq!(refused.map(drop), Err(Refusal::Busy));

        release.send(()).unwrap();
        busy.await.unwrap().unwrap();
        assert_eq!(first.await.unwrap(), Err(Refusal::WrongPassword));
        // It failed while the other waited, which is slowed down and accepted.
        assert_eq!(same_address.await.unwrap(), Ok(()));
        assert_eq!(other_address.await.unwrap(), Ok(()));
        assert_eq!(users.verify(&name("ann"), &proof("secret"), from(3), at(0)).await.map(drop), Ok(()));
    });
}

#[test]
fn fault_row_62_wrong_passwords_are_forgiven_wherever_the_minutes_of_the_clock_begin() {
    let settings = DdpServer { max_failed_logins: 1, failed_login_pause: Duration::ZERO, ..DdpServer::default() };
    let users = users(&hashed("secret", 1), &settings);
    runtime().block_on(async {
        let wrong = async |now| users.verify(&name("ann"), &proof("wrong"), from(1), at(now)).await.map(drop);
        assert_eq!(wrong(0).await, Err(Refusal::WrongPassword));
        // The failure is forgiven after a minute, wherever the minutes of the clock begin.
        assert!(matches!(wrong(59_999).await, Err(Refusal::TooManyAttempts { .. })));
        assert_eq!(wrong(200_000).await, Err(Refusal::WrongPassword));
    });
}

#[test]
fn fault_row_70_one_address_with_a_right_password_does_not_take_all_places() {
    let settings = DdpServer { password_checks_max: 1, password_checks_waiting: 31, ..DdpServer::default() };
    let users = users(&hashed("secret", 1), &settings);
    runtime().block_on(async {
        let (release, released) = sync_channel::<()>(0);
        let busy = OnThread::new(&tokio::runtime::Handle::current(), move || released.recv());
        let attempt = |last: u8| {
            let users = users.clone();
            tokio::spawn(async move { users.verify(&name("ann"), &proof("secret"), from(last), at(0)).await.map(drop) })
        };
        // An eighth of 32 places are for this address, and two of them for one user.
        let of_one: Vec<_> = (0..6).map(|_| attempt(1)).collect();
        tokio::task::yield_now().await;
        let of_others: Vec<_> = (0..30).map(|number| attempt(2 + number / 2)).collect();
        tokio::task::yield_now().await;
        release.send(()).unwrap();
        busy.await.unwrap().unwrap();
        let mut refused = 0;
        for attempt in of_one {
            refused += usize::from(attempt.await.unwrap() == Err(Refusal::Busy));
        }
        assert_eq!(refused, 2, "four attempts may be under way");
        for attempt in of_others {
            assert_eq!(attempt.await.unwrap(), Ok(()));
        }
    });
}

#[test]
fn what_nobody_waits_for_any_more_gives_its_turn_back() {
    let settings = DdpServer { password_checks_max: 1, password_checks_waiting: 1, ..DdpServer::default() };
    let users = users(&hashed("secret", 1), &settings);
    runtime().block_on(async {
        let (release, released) = sync_channel::<()>(0);
        let busy = OnThread::new(&tokio::runtime::Handle::current(), move || released.recv());
        let gone = tokio::spawn({
            let users = users.clone();
            async move { users.verify(&name("ann"), &proof("secret"), from(1), at(0)).await.map(drop) }
        });
        tokio::task::yield_now().await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        release.send(()).unwrap();
        busy.await.unwrap().unwrap();
        assert_eq!(users.verify(&name("ann"), &proof("secret"), from(1), at(0)).await.map(drop), Ok(()));
    });
}

#[test]
fn users_are_found_by_id_and_by_name() {
    let users = users(&plain("secret"), &DdpServer::default());
    let found = |text: &str| users.find(text).map(|account| account.user().id().to_owned());
    assert_eq!([found("u1"), found("ann"), found("bob")], ["u1", "u1", "u2"].map(|id| Some(id.to_owned())));
    assert_eq!([found("Ann"), found("")], [None, None]);
    assert!(users.by_name("u1").is_none() && users.by_id("ann").is_none());
    assert_eq!((users.is_empty(), users.iter().count()), (false, 2));
    assert!(Users::new(&[], &DdpServer::default()).unwrap().is_empty());
}

#[test]
fn an_account_says_what_the_configuration_says() {
    let mut user = User::new("u1", "ann", plain("secret"));
    user.roles = vec!["bot".into(), "admin".into()];
    user.tags = vec!["admin".into(), "north".into()];
    user.state = [("level".into(), AuthValue::Number(3.into())), ("vip".into(), AuthValue::Bool(true))].into();
    let users = Users::new(&[user, User::new("u2", "bob", plain("secret"))], &DdpServer::default()).unwrap();
    let ann = users.by_id("u1").unwrap();
    assert_eq!((ann.is_bot(), ann.is_active(), ann.roles()), (true, true, &["bot".to_owned(), "admin".to_owned()][..]));
    assert_eq!(ann.tags(), ["admin", "north", "bot"]);
    assert_eq!(ann.state(), [("level".to_owned(), json!(3)), ("vip".to_owned(), json!(true))]);
    assert!(!users.by_id("u2").unwrap().is_bot());
}

#[test]
fn fault_row_57_users_and_what_they_present_print_no_password() {
    let users = users(&plain("canary"), &DdpServer::default());
    let ann = users.find("ann").unwrap();
    let told = format!("{users:?} {ann:#?} {:?} {:?}", proof("canary"), digest("canary"));
    assert!(!told.contains("canary") && told.contains("ann"), "{told}");
}

#[test]
fn users_that_no_configuration_may_have_are_refused() {
    for bad in [User::new("a/b", "ann", plain("secret")), User::new("u1", "ann", Password::Hash(Secret::new("canary")))]
    {
        let error = Users::new(&[bad], &DdpServer::default()).unwrap_err().to_string();
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn a_token_is_bound_to_name_and_password_as_they_are_configured() {
    let ann = |user: &User| {
        Users::new(std::slice::from_ref(user), &DdpServer::default()).unwrap().by_id("u1").unwrap().clone()
    };
    let hash = PasswordHash::make_cheaply("secret", 1);
    for password in [plain("secret"), Password::Hash(Secret::new(hash.clone()))] {
        let user = User::new("u1", "ann", password.clone());
        let binding = ann(&user).bind("token");
        // At every start the server hashes a plain password under another key.
        assert!(ann(&user).has_bound("token", &binding));
        let more = User { roles: vec!["bot".into()], active: false, ..user.clone() };
        assert!(ann(&more).has_bound("token", &binding), "what is not for logging in may change");
        assert!(!ann(&user).has_bound("other", &binding) && !ann(&user).has_bound("token", &[0; 32]));
        let others = [
            User::new("u1", "anna", password.clone()),
            User::new("u1", "ann", plain("Secret")),
            User::new("u1", "ann", plain(&hash)),
            User::new("u1", "ann", hashed("secret", 2)),
        ];
        for other in others {
            assert!(!ann(&other).has_bound("token", &binding), "{other:?}");
        }
    }
}
