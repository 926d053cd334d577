//! What a backend is sent: a JSON document, and the signature over it.

use std::fmt::Write as _;

use ring::hmac;
use serde_json::Value;
use switchboard_proto::json::{RawJson, write_number, write_text, write_value};

/// A JSON object being written, member by member.
#[derive(Debug)]
pub(crate) struct Document(Vec<u8>);

impl Document {
    pub(crate) fn new() -> Self {
        Self(vec![b'{'])
    }

    pub(crate) fn text(mut self, name: &str, text: &str) -> Self {
        self.name(name);
        write_text(&mut self.0, text);
        self
    }

    pub(crate) fn number(mut self, name: &str, number: u64) -> Self {
        self.name(name);
        write_number(&mut self.0, number);
        self
    }

    pub(crate) fn value(mut self, name: &str, value: &Value) -> Self {
        self.name(name);
        write_value(&mut self.0, value);
        self
    }

    pub(crate) fn raw(mut self, name: &str, json: &RawJson) -> Self {
        self.name(name);
        self.0.extend_from_slice(json.as_str().as_bytes());
        self
    }

    pub(crate) fn object(mut self, name: &str, object: Document) -> Self {
        self.name(name);
        self.0.extend_from_slice(&object.finish());
        self
    }

    /// A list of documents that are finished already.
    pub(crate) fn list<'a>(mut self, name: &str, items: impl IntoIterator<Item = &'a [u8]>) -> Self {
        self.name(name);
        self.0.push(b'[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            self.0.extend_from_slice(item);
        }
        self.0.push(b']');
        self
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        write_text(&mut self.0, name);
        self.0.push(b':');
    }
}

/// The value of `Switchboard-Signature`: `t=<seconds>,v1=<hex of HMAC-SHA256 over "<seconds>.<body>">`.
///
/// The time is signed too, so that who recorded a request cannot use it for ever.
pub(super) fn signature(key: &hmac::Key, unix_seconds: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(unix_seconds.to_string().as_bytes());
    context.update(b".");
    context.update(body);
    let mut text = format!("t={unix_seconds},v1=");
    for byte in context.sign().as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_is_json_whatever_is_put_into_it() {
        let inner = Document::new().text("id", "\"\\\n").finish();
        let body = Document::new()
            .text("hook", "say")
            .number("sentAt", 7)
            .raw("message", &RawJson::from_value(&json!([1, null])))
            .value("fingerprint", &Value::Null)
            .object("state", Document::new())
            .list("leaves", [&inner[..], &inner[..]])
            .finish();
        let leave = json!({"id": "\"\\\n"});
        assert_eq!(
            serde_json::from_slice::<Value>(&body).unwrap(),
            json!({"hook": "say", "sentAt": 7, "message": [1, null], "fingerprint": null, "state": {}, "leaves": [leave, leave]})
        );
    }

    #[test]
    fn the_signature_is_hmac_sha256_over_time_and_body() {
        // printf '1700000000.{"hook":"say"}' | openssl dgst -sha256 -hmac 'a secret of sixteen bytes'
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"a secret of sixteen bytes");
        assert_eq!(signature(&key, 1_700_000_000, b"{\"hook\":\"say\"}"), EXPECTED);
    }

    const EXPECTED: &str = "t=1700000000,v1=ffe95c64c1c8b7617586a2bd2c5898f1f90180ce75459a43d298e3ccf4bf8432";
}
