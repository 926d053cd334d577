//! People and bots: what may be said about them, and that nobody reads their passwords again.

use super::{Dir, load, load_in, loaded, refused};
use crate::config::{AuthValue, Config, Loaded, Password, Secret, User, show};
use crate::password::PasswordHash;

fn plain(password: &str) -> Password {
    Password::Plain(Secret::new(password))
}

#[test]
fn users_are_read_with_all_that_is_said_about_them() {
    let hash = PasswordHash::make_cheaply("secret", 1);
    let file = format!(
        "[[users]]\nid = \"u1\"\nusername = \"bot\"\npassword = \"secret\"\nroles = [\"bot\"]\ntags = [\"a\", \"b\"]\n\
         state = {{ authorized = true, level = 3, name = \"x\" }}\n\
         [[users]]\nid = \"ann\"\nusername = \"ann\"\npassword_hash = \"{hash}\"\nactive = false\n"
    );
    let bot = User {
        roles: vec!["bot".into()],
        tags: vec!["a".into(), "b".into()],
        state: [
            ("authorized".into(), AuthValue::Bool(true)),
            ("level".into(), AuthValue::Number(3.into())),
            ("name".into(), AuthValue::Text("x".into())),
        ]
        .into(),
        ..User::new("u1", "bot", plain("secret"))
    };
    let ann = User { active: false, ..User::new("ann", "ann", Password::Hash(Secret::new(hash))) };
    let loaded = loaded(&file, &[], &[]);
    assert_eq!(loaded.config.users, [bot, ann]);
    assert_eq!(loaded.config.validate(), Ok(()));
    let expected = "#users = [{ id = \"u1\", username = \"bot\", password = (hidden), roles = [\"bot\"], tags = [\"a\", \
                    \"b\"], state = { authorized = true, level = 3, name = \"x\" } }, { id = \"ann\", username = \"ann\", \
                    password_hash = (hidden), active = false }] # file switchboard.toml:1\n";
    assert!(show(&loaded).starts_with(expected), "{}", show(&loaded));
}

#[test]
fn users_come_from_the_environment_and_from_a_file_of_secrets_too() {
    let list = "[{ id = \"u1\", username = \"bot\", password = \"secret\" }]";
    let dir = Dir::with(&[("users", "[\n  { id = \"u1\", username = \"bot\", password = \"secret\" },\n]\n")]);
    let by_file = load_in(&dir.0, &[("SWITCHBOARD__USERS_FILE", "users")], &[]).unwrap();
    for loaded in [loaded("", &[("SWITCHBOARD__USERS", list)], &[]), by_file] {
        assert_eq!(loaded.config.users, [User::new("u1", "bot", plain("secret"))]);
    }
    let dir = Dir::with(&[("users", "[{ id = \"u1\", username = \"bot\", pasword = \"canary\" }]")]);
    let error = load_in(&dir.0, &[("SWITCHBOARD__USERS_FILE", "users")], &[]).unwrap_err();
    let place = "environment SWITCHBOARD__USERS_FILE: users[0]";
    assert_eq!(
        error.lines().collect::<Vec<_>>(),
        [
            format!(
                "{place}.pasword: unknown key; a user has id, username, password, password_hash, roles, tags, state, active"
            ),
            format!(
                "{place}: a user needs a password or a password_hash; `switchboard hash-password` makes the latter"
            ),
        ],
    );
}

#[test]
fn every_wrong_user_is_told_with_its_place_and_a_remedy() {
    let hash = PasswordHash::make_cheaply("secret", 1);
    let not_argon2 = "expected a PHC string of Argon2 with version 19, as `switchboard hash-password` prints it";
    let too_costly = "expected a hash that costs at most m=262144 (256 MiB), t=16 and p=16; `switchboard hash-password` \
                      makes a cheaper one";
    let needs_password =
        "users[1]: a user needs a password or a password_hash; `switchboard hash-password` makes the latter";
    let tag = "expected texts of 1 to 128 bytes without control characters";
    let fine = "id = \"u2\"\nusername = \"bob\"\npassword = \"secret\"\n";
    let with = |more: &str| format!("{fine}{more}\n");
    let hashed = |hash: &str| format!("id = \"u2\"\nusername = \"bob\"\npassword_hash = \"{hash}\"\n");
    let named = |id: &str, name: &str| format!("id = \"{id}\"\nusername = \"{name}\"\npassword = \"secret\"\n");
    let id = "expected an id of 1 to 128 bytes without / and control characters, found";
    let many = |name: &str, count: usize| {
        let values: Vec<String> = (0..count).map(|index| format!("\"{name}{index}\"")).collect();
        format!("{name} = [{}]", values.join(", "))
    };
    for (user, expected) in [
        ("username = \"bob\"\npassword = \"secret\"\n".to_owned(), "users[1]: a user needs an id".to_owned()),
        ("id = \"u2\"\npassword = \"secret\"\n".into(), "users[1]: a user needs a username".into()),
        ("id = \"u2\"\nusername = \"bob\"\n".into(), needs_password.into()),
        (
            with(&format!("password_hash = \"{hash}\"")),
            "users[1]: a user has a password or a password_hash, not both; remove one of them".into(),
        ),
        (
            with("name = \"Bob\""),
            "users[1].name: unknown key; a user has id, username, password, password_hash, roles, tags, state, active"
                .into(),
        ),
        (named("", "bob"), format!("users[1].id: {id} \"\"")),
        (named("a/b", "bob"), format!("users[1].id: {id} \"a/b\"")),
        (named(&"x".repeat(129), "bob"), format!("users[1].id: {id} \"{}\"", "x".repeat(129))),
        (
            named("u2", ""),
            "users[1].username: expected a name of 1 to 128 bytes without control characters, found \"\"".into(),
        ),
        (named("u1", "bob"), "users[1].id: expected an id that no other user has, found \"u1\"".into()),
        (named("u2", "ann"), "users[1].username: expected a name that no other user has, found \"ann\"".into()),
        (named("ann", "bob"), "users[1].id: expected an id that is not the name of another user, found \"ann\"".into()),
        (
            named("u2", "u1"),
            "users[1].username: expected a name that is not the id of another user, found \"u1\"".into(),
        ),
        ("id = 2\nusername = \"bob\"\npassword = \"secret\"\n".into(), "users[1].id: expected a text, found 2".into()),
        ("id = \"u2\"\nusername = \"bob\"\npassword = 12345\n".into(), "users[1].password: expected a text".into()),
        (
            "id = \"u2\"\nusername = \"bob\"\npassword = \"\"\n".into(),
            "users[1].password: expected a password that is not empty".into(),
        ),
        (hashed("secret"), format!("users[1].password_hash: {not_argon2}")),
        (hashed(&hash.replace("argon2id", "scrypt")), format!("users[1].password_hash: {not_argon2}")),
        (hashed(&hash.replace("m=64", "m=4194304")), format!("users[1].password_hash: {too_costly}")),
        (with("roles = \"bot\""), "users[1].roles: expected a list of texts, found \"bot\"".into()),
        (with("tags = [\"\"]"), format!("users[1].tags: {tag}, found \"\"")),
        (with("roles = [\"a\\nb\"]"), format!("users[1].roles: {tag}, found \"a\\nb\"")),
        (
            with(&format!("{}\n{}", many("roles", 32), many("tags", 33))),
            "users[1].tags: expected at most 64 roles and tags together, found 65".into(),
        ),
        (with("active = 1"), "users[1].active: expected true or false, found 1".into()),
        (with("state = true"), "users[1].state: expected a table such as { authorized = true }, found true".into()),
        (with("state = { x = [] }"), "users[1].state.x: expected a text, a number, true or false, found a list".into()),
        (
            with("state = { user = \"u1\" }"),
            "users[1].state.user: is a fact of every connection and cannot be set; choose another name".into(),
        ),
        (
            with(&format!("state = {{ x = \"{}\" }}", "x".repeat(16 * 1024))),
            "users[1].state: expected at most 64 values and 16 KiB, found 1 values and 16385 bytes".into(),
        ),
    ] {
        let file = format!("[[users]]\nid = \"u1\"\nusername = \"ann\"\npassword = \"secret\"\n[[users]]\n{user}");
        let error = refused(&file);
        let (place, text) = error.split_once(": ").unwrap();
        assert!(place.starts_with("switchboard.toml:"), "{error}");
        assert_eq!(text, expected);
    }
    for fine in
        [with(&many("tags", 64)), with("state = { x = \"\" }"), named("u2", "a/b"), named("bob", "bob"), hashed(&hash)]
    {
        let file = format!("[[users]]\nid = \"u1\"\nusername = \"ann\"\npassword = \"secret\"\n[[users]]\n{fine}");
        assert!(load(&file, &[], &[]).is_ok(), "{fine}");
    }
}

#[test]
fn users_made_in_code_are_checked_like_those_of_a_file() {
    let users = vec![User::new("u1", "ann", plain("secret")), User::new("u1", "bob", plain("canary"))];
    let mut config = Config { users, ..Config::default() };
    let error = config.validate().unwrap_err().to_string();
    assert_eq!(error, "users[1].id: expected an id that no other user has, found \"u1\"");
    config.users[1] = User::new("u2", "bob", Password::Hash(Secret::new("canary")));
    let error = config.validate().unwrap_err().to_string();
    assert!(error.starts_with("users[1].password_hash: expected a PHC string") && !error.contains("canary"), "{error}");
}

#[test]
fn fault_row_57_a_password_is_neither_shown_nor_printed_nor_told_in_an_error() {
    let told = |loaded: &Loaded| format!("{}{loaded:?}{:#?}", show(loaded), loaded.config);
    let hash = PasswordHash::make_cheaply("canary", 1);
    for password in ["password = \"canary\"".to_owned(), format!("password_hash = \"{hash}\"")] {
        let list = format!("[{{ id = \"u1\", username = \"bot\", {password} }}]");
        let set = format!("users={list}");
        for loaded in [
            loaded(&format!("users = {list}\n"), &[], &[]),
            loaded("", &[("SWITCHBOARD__USERS", &list)], &[]),
            loaded("", &[], &[&set]),
        ] {
            let told = told(&loaded);
            assert!(!told.contains("canary") && !told.contains("$argon2") && told.contains("u1"), "{told}");
        }
    }
    for wrong in [
        "\"canary\"",
        "{ id = \"u1\", username = \"bot\", password = \"canary\" }",
        "[\"canary\"]",
        "[{ id = \"u1\", username = \"bot\", password = [\"canary\"] }]",
        "[{ id = \"u1\", username = \"bot\", password = { canary = 1 } }]",
        "[{ id = \"u1\", username = \"bot\", password_hash = \"canary\" }]",
        "[{ id = \"u1\", username = \"bot\", password = \"canary\", password_hash = \"canary\" }]",
        "[{ id = \"u1\", username = \"bot\", passwort = \"canary\" }]",
        "[{ id = \"\", username = \"bot\", password = \"canary\" }]",
        // No TOML.
        "[{ id = \"u1\", username = \"bot\", password = \"canary\" }",
        "[{ id = \"u1\", username = \"bot\", password = \"canary }]",
        "[{ id = \"u1\", username = \"bot\", password = \"canary\\x\" }]",
        "[{ id = \"u1\", username = \"bot\", password = canary }]",
    ] {
        let set = format!("users={wrong}");
        for error in [
            load(&format!("users = {wrong}\n"), &[], &[]),
            load("", &[("SWITCHBOARD__USERS", wrong)], &[]),
            load("", &[], &[&set]),
        ] {
            let error = error.expect_err(wrong);
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
