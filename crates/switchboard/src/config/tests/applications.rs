//! Applications of the gateway: what may be said about them, and that nobody reads their secrets again.

use super::{load, loaded, refused};
use crate::config::{Application, Secret, show};

const KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

fn with_secret(id: &str, key: &str, secret: &str) -> Application {
    Application { secret: Secret::new(secret), ..Application::new(id, key) }
}

#[test]
fn applications_are_read_with_all_that_is_said_about_them() {
    let file = format!(
        "[[gateway.applications]]\nid = \"1\"\npublic_key = \"{KEY}\"\nsecret = \"s3cret\"\nshards = 4\n\
         allow_development = false\ntags = [\"eu\"]\nstate = {{ level = 3 }}\n\
         [[gateway.applications]]\nid = \"2\"\npublic_key = \"test\"\nsecret = \"sha256:{}\"\n",
        "0a".repeat(32)
    );
    let loaded = loaded(&file, &[], &[]);
    let [first, second] = &loaded.config.gateway.applications[..] else { panic!("not two") };
    assert_eq!((first.id.as_str(), first.public_key.as_str(), first.secret.reveal()), ("1", KEY, "s3cret"));
    assert_eq!((first.shards, first.allow_development, &*first.tags), (4, false, &["eu".to_owned()][..]));
    assert!(first.state.contains_key("level") && first.key_bytes().is_some());
    assert_eq!((second.shards, second.allow_development, second.key_bytes()), (0, true, None));
    assert_eq!(second.secret_digest(), Some([0x0a; 32]));
    let expected = format!(
        "#applications = [{{ id = \"1\", public_key = \"{KEY}\", secret = (hidden), shards = 4, allow_development = false, \
         tags = [\"eu\"], state = {{ level = 3 }} }}, {{ id = \"2\", public_key = \"test\", secret = (hidden) }}] # file"
    );
    assert!(show(&loaded).contains(&expected), "{}", show(&loaded));
    assert!(!show(&loaded).contains("s3cret") && !format!("{:?}", loaded.config).contains("s3cret"));
}

#[test]
fn every_wrong_application_is_told_with_its_place_and_without_its_secret() {
    let fine = "{ id = \"1\", public_key = \"k1\", secret = \"s\" }";
    let upper = KEY.to_ascii_uppercase();
    for (item, expected) in [
        ("3".to_owned(), ": expected a table such as { id = \"1\", public_key = \"3f0c…\", secret = \"…\" }"),
        ("{ id = \"2\" }".into(), ": an application needs a public_key"),
        ("{ public_key = \"k\" }".into(), ": an application needs an id"),
        ("{ id = \"a/b\", public_key = \"k\" }".into(), ".id: expected an id of 1 to 128 bytes without /"),
        ("{ id = \"1\", public_key = \"k\" }".into(), ".id: expected an id that no other application has"),
        ("{ id = \"2\", public_key = \"k1\" }".into(), ".public_key: expected a key that no other application has"),
        ("{ id = \"2\", public_key = \"\" }".into(), ".public_key: expected a key of 1 to 256 visible ASCII"),
        ("{ id = \"2\", public_key = \"a b\" }".into(), ".public_key: expected a key of 1 to 256 visible ASCII"),
        (format!("{{ id = \"2\", public_key = \"{KEY}\" }}, {{ id = \"3\", public_key = \"{upper}\" }}"), ""),
        (
            "{ id = \"2\", public_key = \"k\", secret = \"canary x\" }".into(),
            ".secret: expected 1 to 1024 visible ASCII",
        ),
        (
            "{ id = \"2\", public_key = \"k\", secret = \"sha256:canary\" }".into(),
            ".secret: expected 1 to 1024 visible",
        ),
        (
            "{ id = \"2\", public_key = \"k\", secret = [\"canary\"] }".into(),
            ".secret: expected 1 to 1024 visible ASCII",
        ),
        ("{ id = \"2\", public_key = \"k\", secret = \"\" }".into(), ".secret: is empty; remove the key if"),
        (
            "{ id = \"2\", public_key = \"k\", secrets = \"canary\" }".into(),
            ".secrets: unknown key; an application has id,",
        ),
        (
            "{ id = \"2\", public_key = \"k\", shards = 65537 }".into(),
            ".shards: expected a whole number from 0 to 65536",
        ),
        ("{ id = \"2\", public_key = \"k\", shards = -1 }".into(), ".shards: expected a whole number from 0 to 65536"),
        (
            "{ id = \"2\", public_key = \"k\", allow_development = 1 }".into(),
            ".allow_development: expected true or false",
        ),
        ("{ id = \"2\", public_key = \"k\", tags = [\"\"] }".into(), ".tags: expected texts of 1 to 128 bytes"),
        ("{ id = \"2\", public_key = \"k\", state = 3 }".into(), ".state: expected a table such as"),
        ("{ id = \"2\", public_key = \"k\", state = { user = \"x\" } }".into(), ".state.user: is a fact of every"),
    ] {
        let error = refused(&format!("[gateway]\napplications = [{fine},\n{item}]\n"));
        let place = if expected.is_empty() { "[2].public_key: expected a key that no other" } else { expected };
        let place = if expected.is_empty() { place.to_owned() } else { format!("[1]{place}") };
        assert!(error.starts_with(&format!("switchboard.toml:3: gateway.applications{place}")), "{item}\n{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
    assert_eq!(
        refused("gateway.applications = { id = \"1\", secret = \"canary\" }\n"),
        "switchboard.toml:1: gateway.applications: expected a list of applications such as [{ id = \"1\", public_key = \
         \"3f0c…\", secret = \"…\" }]"
    );
}

#[test]
fn a_key_under_which_anybody_can_sign_is_refused() {
    let zeros = "00".repeat(31);
    let ones = "ff".repeat(30);
    let of_order_8 = [
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "C7176A703D4DD84FBA3C0B760D10670F2A2053FA2C39CCC64EC7FD7792AC03FA",
    ];
    let mut weak: Vec<String> = of_order_8.map(str::to_owned).into();
    weak.extend([format!("00{zeros}"), format!("01{zeros}"), format!("{zeros}80"), format!("01{}80", &zeros[2..])]);
    weak.extend(
        ["ec", "ed", "ee", "ff"].iter().flat_map(|first| ["7f", "ff"].map(|last| format!("{first}{ones}{last}"))),
    );
    for key in &weak {
        let error =
            refused(&format!("gateway.applications = [{{ id = \"1\", public_key = \"{key}\", secret = \"s\" }}]\n"));
        assert!(error.contains("[0].public_key: expected a key whose signatures only its owner can make"), "{error}");
    }
    for key in [KEY.to_owned(), format!("02{zeros}"), format!("eb{ones}7f"), format!("ed{ones}7e")] {
        loaded(
            &format!("gateway.applications = [{{ id = \"1\", public_key = \"{key}\", secret = \"s\" }}]\n"),
            &[],
            &[],
        );
    }
}

#[test]
fn an_application_is_called_as_no_user_is() {
    let users = "[[users]]\nid = \"u1\"\nusername = \"ann\"\npassword = \"p\"\n";
    for (id, is_fine) in [("u1", false), ("ann", false), ("bot", true)] {
        let file = format!("{users}[[gateway.applications]]\nid = \"{id}\"\npublic_key = \"k\"\nsecret = \"s\"\n");
        match load(&file, &[], &[]) {
            Ok(_) => assert!(is_fine, "{id}"),
            Err(error) => assert_eq!(
                error,
                format!(
                    "switchboard.toml:5: gateway.applications: the application \"{id}\" has the id or the name of a user; \
                     rename one"
                )
            ),
        }
    }
}

#[test]
fn without_a_secret_other_machines_are_not_served_unless_that_is_said() {
    let file = "[[gateway.applications]]\nid = \"1\"\npublic_key = \"k\"\n";
    let error = refused(file);
    assert_eq!(
        error,
        "switchboard.toml:1: gateway.applications: the application \"1\" has no secret, and servers.web.bind = \"0.0.0.0\" \
         is open to other machines, where anybody may know its public key; set its secret, servers.web.bind = \
         \"127.0.0.1\", or servers.gateway.allow_insecure = true"
    );
    for setting in [
        "servers.web.bind=127.0.0.1",
        "servers.web.bind=::1",
        "servers.web.enabled=false",
        "servers.gateway.enabled=false",
        "servers.gateway.allow_insecure=true",
    ] {
        loaded(file, &[], &[setting]);
    }
    assert!(load(file, &[], &["servers.web.bind=::"]).is_err());
    loaded(&format!("{file}secret = \"s\"\n"), &[], &[]);
}

#[test]
fn the_environment_names_applications_when_nothing_else_does() {
    let env = [("BOTS_DISCORD", " 11  12 "), ("PUBLIC_KEY", "k11 k12"), ("KEY_SECRET", "s")];
    let loaded_ids = |file: &str, env: &[(&str, &str)]| {
        loaded(file, env, &["servers.web.bind=127.0.0.1"]).config.gateway.applications
    };
    assert_eq!(loaded_ids("", &env), [with_secret("11", "k11", "s"), with_secret("12", "k12", "s")]);
    let origin = loaded("", &env, &[]).origins.of("gateway.applications").to_string();
    assert_eq!(origin, "environment BOTS_DISCORD");
    assert_eq!(loaded_ids("", &env[..2]), [Application::new("11", "k11"), Application::new("12", "k12")]);
    for missing in [&env[1..], &env[..1], &[("BOTS_DISCORD", "1"), ("PUBLIC_KEY", " ")]] {
        assert_eq!(loaded_ids("", missing), []);
    }
    let file = "[[gateway.applications]]\nid = \"1\"\npublic_key = \"k\"\n";
    assert_eq!(loaded_ids(file, &env), [Application::new("1", "k")]);
    let by_name = ("SWITCHBOARD__GATEWAY__APPLICATIONS", "[{ id = \"1\", public_key = \"k\" }]");
    assert_eq!(loaded_ids("", &[env[0], env[1], by_name]), [Application::new("1", "k")]);
}

#[test]
fn what_is_wrong_in_the_environment_is_told_by_its_variables() {
    let error = |ids, keys, secret| {
        load("", &[("BOTS_DISCORD", ids), ("PUBLIC_KEY", keys), ("KEY_SECRET", secret)], &[]).unwrap_err()
    };
    assert_eq!(
        error("1 2 3", "k1 k2", "s"),
        "environment BOTS_DISCORD: gateway.applications: has 3 ids, and PUBLIC_KEY 2 keys; both are lists separated by \
         spaces, paired by position"
    );
    let twice = error("1 1", "k1 k2", "s");
    assert!(twice.contains("gateway.applications[1].id: expected an id that no other application has"), "{twice}");
    let secret = error("1", "k1", "canary canary");
    assert!(secret.contains("gateway.applications[0].secret: expected") && !secret.contains("canary"), "{secret}");
    assert!(error("1", "k1", "").contains("the application \"1\" has no secret"));
}
