//! The forms of `login`.

use serde_json::{Map, Value};

use crate::call::{Credentials, PasswordProof, Who};

use super::errors::Refusal;

/// Reads the one parameter of `login`. Forms are tried in this order: a token, then user and password. Everything else,
/// whatever another server makes of it, is refused.
pub(super) fn credentials(params: &[Value]) -> Result<Credentials, Refusal> {
    let Some(Value::Object(form)) = params.first() else { return Err(Refusal::unrecognized_login()) };
    if let Some(token) = form.get("resume") {
        let Value::String(token) = token else { return Err(Refusal::match_failed()) };
        return Ok(Credentials::Resume { token: token.clone() });
    }
    match (form.get("user"), form.get("password")) {
        (Some(user), Some(password)) => Ok(Credentials::Password {
            who: user.as_object().and_then(who).ok_or_else(Refusal::match_failed)?,
            proof: proof(password).ok_or_else(Refusal::match_failed)?,
        }),
        _ => Err(Refusal::unrecognized_login()),
    }
}

fn who(user: &Map<String, Value>) -> Option<Who> {
    // No addresses are kept: the SDK takes any name with an @ for one.
    let name = user.get("username").or_else(|| user.get("email"));
    match (name, user.get("id")) {
        (Some(Value::String(name)), _) => Some(Who::Name(name.clone())),
        (None, Some(Value::String(id))) => Some(Who::Id(id.clone())),
        _ => None,
    }
}

fn proof(password: &Value) -> Option<PasswordProof> {
    match password {
        Value::String(plain) => Some(PasswordProof::Plain(plain.clone())),
        Value::Object(hashed) => match (hashed.get("digest"), hashed.get("algorithm")) {
            (Some(Value::String(digest)), Some(Value::String(algorithm))) if algorithm == "sha-256" => {
                Some(PasswordProof::Digest(digest.clone()))
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(form: Value) -> Result<Credentials, Refusal> {
        credentials(&[form])
    }

    #[test]
    fn a_user_is_named_by_name_address_or_id() {
        for (user, who) in [
            (json!({"username": "bot"}), Who::Name("bot".into())),
            (json!({"email": "bot@example.org"}), Who::Name("bot@example.org".into())),
            (json!({"id": "u1"}), Who::Id("u1".into())),
        ] {
            let proof = PasswordProof::Plain("secret".into());
            let expected = Credentials::Password { who, proof };
            assert!(read(json!({"password": "secret", "user": user})) == Ok(expected), "{user}");
        }
    }

    #[test]
    fn a_password_is_plain_or_a_digest() {
        let expected =
            Credentials::Password { who: Who::Name("bot".into()), proof: PasswordProof::Digest("2BB80D".into()) };
        let password = json!({"digest": "2BB80D", "algorithm": "sha-256"});
        assert!(read(json!({"user": {"username": "bot"}, "password": password})) == Ok(expected));
    }

    #[test]
    fn a_token_comes_before_a_password() {
        let form = json!({"user": {"username": "bot"}, "password": "x", "resume": "t"});
        assert!(read(form) == Ok(Credentials::Resume { token: "t".into() }));
    }

    #[test]
    fn other_forms_are_not_recognized() {
        let unrecognized = || Err(Refusal::unrecognized_login());
        assert!(credentials(&[]) == unrecognized());
        for form in [
            json!(null),
            json!("token"),
            json!({}),
            json!({"user": {"username": "bot"}}),
            json!({"password": "x"}),
            json!({"ldap": true, "username": "bot", "ldapPass": "x", "ldapOptions": {}}),
            json!({"oauth": {"credentialToken": "x"}}),
            json!({"totp": {"login": {}, "code": "1"}}),
        ] {
            assert!(read(form.clone()) == unrecognized(), "{form}");
        }
    }

    #[test]
    fn known_forms_with_wrong_types_do_not_match() {
        for form in [
            json!({"resume": 5}),
            json!({"resume": null}),
            json!({"user": "bot", "password": "x"}),
            json!({"user": {}, "password": "x"}),
            json!({"user": {"username": 5}, "password": "x"}),
            json!({"user": {"username": null, "id": "u1"}, "password": "x"}),
            json!({"user": {"username": "bot"}, "password": 5}),
            json!({"user": {"username": "bot"}, "password": {"digest": "x"}}),
            json!({"user": {"username": "bot"}, "password": {"digest": "x", "algorithm": "md5"}}),
        ] {
            assert!(read(form.clone()) == Err(Refusal::match_failed()), "{form}");
        }
    }
}
