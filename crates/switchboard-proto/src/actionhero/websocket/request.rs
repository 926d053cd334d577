//! What a message asks for.

use serde_json::{Map, Value};

use crate::json::{self, JsonError, JsonLimits, JsonRefusal};

/// A message, read.
#[derive(Debug)]
pub(super) enum Request<'a> {
    /// Not JSON: not counted, as on the real servers.
    NotJson(JsonError),
    /// JSON that is refused. It is counted, and answered under its id.
    Refused { event: Event, message_id: Option<Value>, refusal: JsonRefusal },
    /// The transport's own: never a request, and not counted.
    Control(Control<'a>),
    /// An object with the member `event`, or something else that is counted all the same.
    Event(Event, Map<String, Value>),
}

/// A JSON string that begins with `primus::`.
#[derive(Debug, PartialEq)]
pub(super) enum Control<'a> {
    /// Is somebody there? Answered with the same words.
    Ping(&'a str),
    /// The answer to our own.
    Pong,
    /// What is the id of this connection?
    Id,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Action,
    DetailsView,
    Documentation,
    File,
    Quit,
    ReplyClientCommand,
    RoomAdd,
    RoomLeave,
    RoomView,
    Say,
    SetCustomClientData,
    /// None of these, under the name that the client gave it.
    Other(String),
}

impl Event {
    fn parse(name: Option<&Value>) -> Self {
        let Some(name) = name else { return Self::Other("undefined".to_owned()) };
        match name.as_str() {
            Some("action") => Self::Action,
            Some("detailsView") => Self::DetailsView,
            Some("documentation") => Self::Documentation,
            Some("exit" | "quit") => Self::Quit,
            Some("file") => Self::File,
            Some("replyClientCommand") => Self::ReplyClientCommand,
            Some("roomAdd") => Self::RoomAdd,
            Some("roomLeave") => Self::RoomLeave,
            Some("roomView") => Self::RoomView,
            Some("say") => Self::Say,
            Some("setCustomClientData") => Self::SetCustomClientData,
            _ => Self::Other(script_text(name)),
        }
    }
}

impl<'a> Request<'a> {
    /// Reads a message.
    pub(super) fn parse(text: &'a str, limits: JsonLimits) -> Self {
        if let Some(control) = control(text) {
            return Self::Control(control);
        }
        match json::parse(text, limits) {
            Ok(Value::Object(members)) => Self::Event(Event::parse(members.get("event")), members),
            Ok(_) => Self::Event(Event::parse(None), Map::new()),
            Err(JsonError::Refused(refusal)) => {
                let [event, message_id] = json::members(text, ["event", "messageId"]).unwrap_or_default();
                let value = |text: Option<&str>| text.and_then(|text| json::parse(text, limits).ok());
                Self::Refused { event: Event::parse(value(event).as_ref()), message_id: value(message_id), refusal }
            }
            Err(error @ JsonError::NotJson(_)) => Self::NotJson(error),
        }
    }
}

/// Control strings need no parser: what they may hold needs no escape.
fn control(text: &str) -> Option<Control<'_>> {
    let words = text.strip_prefix("\"primus::")?.strip_suffix('"')?;
    if words.bytes().any(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
        return None;
    }
    match words {
        "id::" => Some(Control::Id),
        _ if words.starts_with("pong::") => Some(Control::Pong),
        _ => words.strip_prefix("ping::").map(Control::Ping),
    }
}

/// The text that JavaScript makes of a value.
pub(super) fn script_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => match number.as_f64() {
            // JavaScript knows no fraction of zero and turns to exponents later than other languages.
            Some(float) if number.is_f64() && float.abs() < 1e21 => float.to_string(),
            _ => number.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(script_text).collect::<Vec<_>>().join(","),
        Value::Object(_) => "[object Object]".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_become_text_as_in_javascript() {
        for (value, text) in [
            (json!(null), ""),
            (json!(42), "42"),
            (json!(1.0), "1"),
            (json!(-0.5), "-0.5"),
            (json!(true), "true"),
            (json!("said"), "said"),
            (json!([1, [2, null], {"a": 1}]), "1,2,,[object Object]"),
            (json!({"deep": true}), "[object Object]"),
        ] {
            assert_eq!(script_text(&value), text, "{value}");
        }
    }

    #[test]
    fn control_strings_are_told_from_requests() {
        let read = |text| Request::parse(text, JsonLimits::default());
        assert!(matches!(read("\"primus::ping::42\""), Request::Control(Control::Ping("42"))));
        assert!(matches!(read("\"primus::pong::1\""), Request::Control(Control::Pong)));
        assert!(matches!(read("\"primus::id::\""), Request::Control(Control::Id)));
        for text in ["\"primus::nonsense::x\"", "\"primus::ping::\\u0041\"", "42", "null", "[]", "{}"] {
            assert!(matches!(read(text), Request::Event(Event::Other(name), _) if name == "undefined"), "{text}");
        }
        for text in ["not json", "", "primus::ping::1", "{\"event\":\"say\""] {
            assert!(matches!(read(text), Request::NotJson(_)), "{text}");
        }
    }
}
