//! Actions that read an HTTP request and shape its answer, and params that are secrets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use ring::hmac;
use serde_json::{Value, json};
use switchboard::action::{Action, ActionResult, ActionSpec, Failure, Input, Reply, Request};
use switchboard_testkit::raw_http::RawHttp;

use super::http_backend::{Backend, Reaction, SECRET};
use super::support::TestServer;

const KEY: &[u8] = b"the key that a platform signs with";

fn signature(body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), body);
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A webhook as many platforms send them: signed over the bytes of its body.
struct Webhook;

impl Action for Webhook {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("webhook").raw_body()
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let Some(http) = request.http() else { return Err("webhooks come over HTTP".into()) };
        if http.header("X-Signature") != Some(&*signature(http.body())) {
            return Err(Failure { text: "wrong signature".into(), reply: Reply::new().with_status(401) });
        }
        let facts = format!("{} {} {:?} {}", http.method(), http.path(), http.query(), http.body().len());
        Ok(Reply::new()
            .with_status(202)
            .with_header("Content-Type", "text/plain; charset=utf-8")
            .with_header("Cache-Control", "max-age=5")
            .with_header("Set-Cookie", "a=1")
            .with_header("Set-Cookie", "b=2")
            .with_header("Content-Length", "1")
            .with_body(facts))
    }
}

/// Sets whatever status it is asked for.
struct Status;

impl Action for Status {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("status").version(2).input(Input::required("status"))
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let status = request.text("status")?.parse().unwrap_or(0);
        Ok(Reply::new().with("x", 1).with_status(status))
    }
}

/// Accepts one password.
struct Login;

impl Action for Login {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("login").input(Input::required("user")).input(Input::required("pin").secret())
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        Ok(Reply::new().with("welcome", request.text("pin")? == "1234"))
    }
}

/// Answers with the names of its params.
struct Names;

impl Action for Names {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("names")
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let names: Vec<&str> = request.params().iter().map(|(name, _)| name).collect();
        Ok(Reply::new().with("names", names).with("debug", format!("{request:?}")))
    }
}

/// Changes something.
struct Change;

impl Action for Change {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("change").require_post()
    }

    async fn run(&self, _: &mut Request) -> ActionResult {
        Ok(Reply::new().with("changed", true))
    }
}

fn server(settings: &[&str]) -> TestServer {
    TestServer::build(settings, |builder| {
        builder.action(Webhook).action(Status).action(Login).action(Names).action(Change)
    })
}

fn http(server: &TestServer) -> RawHttp {
    RawHttp::connect(server.web_address()).unwrap()
}

#[test]
fn an_action_checks_a_signed_webhook_of_any_media_type_and_shapes_the_answer() {
    let server = server(&[]);
    let mut client = http(&server);
    for (body, media_type) in [
        (&b"{\"a\":1,\"a\":2"[..], "application/json"),
        (b"<event/>", "text/xml"),
        (b"\xff\0", "application/octet-stream"),
    ] {
        let headers = [&*format!("Content-Type: {media_type}"), &*format!("X-Signature: {}", signature(body))];
        let answer = client.request("POST", "/api/webhook?kind=test", &headers, body);
        assert_eq!((answer.status, answer.header("content-type")), (202, Some("text/plain; charset=utf-8")));
        assert_eq!(answer.text(), format!("POST /api/webhook Some(\"kind=test\") {}", body.len()));
        assert_eq!(answer.header("cache-control"), Some("max-age=5"));
        let cookies: Vec<&str> =
            answer.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| &**value).collect();
        assert_eq!(cookies[..2], ["a=1", "b=2"], "{cookies:?}");
    }
    let forged = client.request("POST", "/api/webhook", &["Content-Type: text/xml", "X-Signature: 00"], b"<event/>");
    assert_eq!((forged.status, &forged.json()["error"]), (401, &json!("Error: wrong signature")));
    // An action that does not ask for raw bodies gets no other media types.
    assert_eq!(client.request("POST", "/api/names", &["Content-Type: text/xml"], b"<event/>").status, 415);
    // On a protocol without HTTP the action learns that there is no request.
    assert_eq!(server.connect().ask("webhook")["error"], "Error: webhooks come over HTTP");
}

#[test]
fn fault_row_72_an_action_that_requires_post_does_not_run_for_a_link() {
    let backend = Backend::start(|_| Reaction::Json(200, json!({"changed": true})));
    let remote =
        format!("actions.remote=[{{ name = \"far\", url = \"{}\", require_post = true }}]", backend.url("far"));
    let server = server(&[&format!("hooks.secret={SECRET}"), &remote]);
    for action in ["change", "far"] {
        for target in [format!("/api/{action}"), format!("/api?action={action}")] {
            for method in ["GET", "HEAD"] {
                let answer = http(&server).request(method, &target, &[], b"");
                assert_eq!(
                    (answer.status, answer.header("allow")),
                    (405, Some("POST, PUT, DELETE, OPTIONS")),
                    "{target}"
                );
            }
            let answer = http(&server).request("POST", &target, &[], b"");
            assert_eq!((answer.status, &answer.json()["changed"]), (200, &json!(true)), "{target}");
        }
        assert_eq!(server.connect().ask(action)["changed"], true, "other protocols have no methods");
    }
    assert_eq!(backend.others(), 3, "requests with GET were not passed on");
}

#[test]
fn a_status_that_http_does_not_have_is_answered_with_500() {
    let server = server(&[]);
    let mut client = http(&server);
    for (asked, status) in [("200", 200), ("418", 418), ("599", 599), ("100", 500), ("600", 500), ("0", 500)] {
        let answer = client.get(&format!("/api/status?apiVersion=2&status={asked}"));
        assert_eq!((answer.status, &answer.json()["x"]), (status, &json!(1)), "{asked}");
    }
    let answer = client.get("/api/status?apiVersion=2&status=204");
    assert_eq!((answer.status, answer.text(), answer.header("content-type")), (204, "", None));
}

#[test]
fn a_backend_gets_listed_headers_and_the_raw_body_and_shapes_the_answer() {
    let backend = Backend::start(|asked| match asked.json["http"].as_object() {
        Some(_) => Reaction::Json(
            200,
            json!({"http": {"status": 201, "headers": {"Location": "/made/7", "content-type": "text/plain"}, "body": "made"}}),
        ),
        None => Reaction::Json(200, json!({"made": true})),
    });
    let remote = format!(
        "actions.remote=[{{name=\"make\",url=\"{}\",http=true,http_headers=[\"X-Signature\"],http_answer_headers=[\"location\"]}}]",
        backend.url("make")
    );
    let server = server(&[&format!("hooks.secret={SECRET}"), &remote]);
    let headers = ["Content-Type: text/xml", "X-Signature: 5e", "Authorization: Bearer sesame"];
    let answer = http(&server).request("PUT", "/api/make?a=1", &headers, b"\xffx");
    assert_eq!((answer.status, answer.text(), answer.header("location")), (201, "made", Some("/made/7")));
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    let asked = backend.next();
    let expected = json!({
        "method": "PUT", "path": "/api/make", "query": "a=1", "headers": {"x-signature": "5e"}, "bodyBase64": "/3g=",
    });
    assert_eq!(asked.json["http"], expected);
    assert_eq!(asked.json["params"], json!({"a": "1", "action": "make"}));
    assert_eq!(server.connect().ask("make")["made"], true);
    assert_eq!(backend.next().json.get("http"), None);
}

#[test]
fn a_secret_neither_sticks_nor_is_shown() {
    let server = server(&[]);
    let mut client = server.connect();
    let names = |answer: &Value| answer["names"].clone();
    // `pin` is declared by the action, `Password` is covered by the setting's default.
    let login = r#"{"action":"login","params":{"user":"ada","pin":"1234","Password":"1234"}}"#;
    assert_eq!(client.ask(login)["welcome"], true);
    assert_eq!(client.ask("detailsView")["data"]["params"], json!({"user": "ada", "action": "login"}));
    assert_eq!(names(&client.ask("names")), json!(["user", "action"]));
    client.ask("paramAdd password=1234");
    assert_eq!(client.ask("paramsView")["data"]["password"], "***");
    let answer = client.ask("names");
    assert_eq!(names(&answer), json!(["user", "action", "password"]));
    assert!(!answer["debug"].as_str().unwrap().contains("1234"), "{answer}");
    assert_eq!(names(&client.ask("names")), json!(["user", "action"]));

    let answer = http(&server).get("/api/login?user=ada&pin=1234&Api_Key=1234").json();
    assert_eq!(answer["welcome"], true);
    let received = json!({"user": "ada", "pin": "***", "Api_Key": "***", "action": "login"});
    assert_eq!(answer["requesterInformation"]["receivedParams"], received);
}

#[test]
fn the_names_of_secrets_can_be_set() {
    let server = server(&["actions.secret_params=[\"code\"]"]);
    let mut client = server.connect();
    client.ask(r#"{"action":"names","params":{"password":"x","code":"y","pin":"z"}}"#);
    assert_eq!(client.ask("paramsView")["data"], json!({"password": "x", "action": "names"}));
}
