//! What a line asks for.

use memchr::memchr;

use crate::json::{self, JsonError, JsonLimits, JsonRefusal};
use serde_json::{Map, Value};

/// A line, read.
#[derive(Debug, PartialEq)]
pub(super) enum Request<'a> {
    /// A file, or the sticky one.
    File(Option<&'a str>),
    /// A verb and its arguments.
    Verb(Verb, Args<'a>),
    /// A JSON request.
    Json {
        /// Replaces the sticky params, if given.
        params: Option<Map<String, Value>>,
        /// Becomes the sticky action, if given.
        action: Option<Value>,
    },
    /// A JSON request that is refused, with the id that its params have.
    RefusedJson { message_id: Option<Value>, refusal: JsonRefusal },
    /// An action by its name.
    Word(&'a str),
}

/// The verbs of the line protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    DetailsView,
    Documentation,
    ParamAdd,
    ParamDelete,
    ParamView,
    ParamsDelete,
    ParamsView,
    Quit,
    ReplyClientCommand,
    RoomAdd,
    RoomLeave,
    RoomView,
    Say,
    SetCustomClientData,
}

impl Verb {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "detailsView" => Self::DetailsView,
            "documentation" => Self::Documentation,
            "exit" | "quit" => Self::Quit,
            "paramAdd" => Self::ParamAdd,
            "paramDelete" => Self::ParamDelete,
            "paramView" => Self::ParamView,
            "paramsDelete" => Self::ParamsDelete,
            "paramsView" => Self::ParamsView,
            "replyClientCommand" => Self::ReplyClientCommand,
            "roomAdd" => Self::RoomAdd,
            "roomLeave" => Self::RoomLeave,
            "roomView" => Self::RoomView,
            "say" => Self::Say,
            "setCustomClientData" => Self::SetCustomClientData,
            _ => return None,
        })
    }
}

/// What follows the word, behind one space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Args<'a>(Option<&'a str>);

impl<'a> Args<'a> {
    /// The first argument; empty arguments count.
    pub(super) fn first(self) -> Option<&'a str> {
        self.0.map(|rest| rest.split(' ').next().unwrap_or(rest))
    }

    /// Everything, verbatim.
    pub(super) fn all(self) -> Option<&'a str> {
        self.0
    }

    /// The first argument, and everything behind the space that ends it, verbatim.
    pub(super) fn first_and_rest(self) -> (Option<&'a str>, Option<&'a str>) {
        match self.0 {
            Some(rest) => match rest.split_once(' ') {
                Some((first, rest)) => (Some(first), Some(rest)),
                None => (Some(rest), None),
            },
            None => (None, None),
        }
    }
}

impl<'a> Request<'a> {
    /// Reads a line: file, verb, JSON, or an action's name, in this order.
    pub(super) fn parse(line: &'a str, limits: JsonLimits) -> Self {
        let (word, args) = match memchr(b' ', line.as_bytes()) {
            Some(space) => (&line[..space], Args(Some(&line[space + 1..]))),
            None => (line, Args(None)),
        };
        if word == "file" {
            return Self::File(args.first());
        }
        if let Some(verb) = Verb::parse(word) {
            return Self::Verb(verb, args);
        }
        if !may_be_json(line) {
            return Self::Word(word);
        }
        match json::parse(line, limits) {
            Ok(Value::Object(mut members)) => Self::Json {
                params: members.remove("params").map(|params| match params {
                    Value::Object(params) => params,
                    _ => Map::new(),
                }),
                action: members.remove("action").filter(is_truthy),
            },
            // Any other value has neither member, so it runs the sticky action again.
            Ok(value) if !value.is_null() => Self::Json { params: None, action: None },
            Err(JsonError::Refused(refusal)) => Self::RefusedJson { message_id: message_id(line, limits), refusal },
            // The real servers take what is not JSON for the name of an action.
            Ok(_) | Err(JsonError::NotJson(_)) => Self::Word(word),
        }
    }
}

/// `params.messageId` of a JSON request that is refused.
fn message_id(line: &str, limits: JsonLimits) -> Option<Value> {
    let line = json::to_well_formed(line);
    let [params] = json::members(&line, ["params"])?;
    let [message_id] = json::members(params?, ["messageId"])?;
    json::parse(message_id?, limits).ok()
}

/// Spares the parser every line that begins like a word. JSON's own words are words that begin like an action's.
fn may_be_json(line: &str) -> bool {
    match line.trim_start_matches([' ', '\t', '\n', '\r']).as_bytes().first() {
        Some(b'{' | b'[' | b'"' | b'-' | b'0'..=b'9') => true,
        Some(b't' | b'f' | b'n') => matches!(line.trim_matches([' ', '\t', '\n', '\r']), "true" | "false" | "null"),
        _ => false,
    }
}

fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(line: &str) -> Request<'_> {
        Request::parse(line, JsonLimits::default())
    }

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn a_line_is_split_at_every_single_space() {
        assert_eq!(parse("roomAdd   x"), Request::Verb(Verb::RoomAdd, Args(Some("  x"))));
        assert_eq!(Args(Some("  x")).first(), Some(""));
        assert_eq!(parse(" randomNumber"), Request::Word(""));
        assert_eq!(parse("randomNumber some words"), Request::Word("randomNumber"));
        assert_eq!(parse("roomAdd"), Request::Verb(Verb::RoomAdd, Args(None)));
        assert_eq!(Args(Some("room  two ")).first_and_rest(), (Some("room"), Some(" two ")));
    }

    #[test]
    fn names_are_case_sensitive() {
        assert_eq!(parse("roomadd x"), Request::Word("roomadd"));
        assert_eq!(parse("FILE x"), Request::Word("FILE"));
    }

    #[test]
    fn json_replaces_params_only_when_it_has_them() {
        let json = |params, action| Request::Json { params, action };
        assert_eq!(parse(r#"{"action":"a"}"#), json(None, Some(json!("a"))));
        assert_eq!(parse(r#"{"params":{"k":1}}"#), json(Some(object(json!({"k": 1}))), None));
        for clearing in [r#"{"params":{}}"#, r#"{"params":null}"#, r#"{"params":"abc"}"#, r#"{"params":[1]}"#] {
            assert_eq!(parse(clearing), json(Some(Map::new()), None), "{clearing}");
        }
        for again in ["{}", "5", "-1", "true", " false ", "[]", "\"text\"", r#"{"action":""}"#, r#"{"action":0}"#] {
            assert_eq!(parse(again), json(None, None), "{again}");
        }
    }

    #[test]
    fn what_is_not_json_is_an_actions_name() {
        assert_eq!(parse("null"), Request::Word("null"));
        assert_eq!(parse("{bad json}"), Request::Word("{bad"));
        assert_eq!(parse(r#"{"action":"x""#), Request::Word(r#"{"action":"x""#));
        assert_eq!(parse("truely"), Request::Word("truely"));
    }

    #[test]
    fn refused_json_keeps_the_id_of_its_params() {
        let refused = |message_id, refusal| Request::RefusedJson { message_id, refusal };
        let twice = JsonRefusal::RepeatedMember;
        assert_eq!(parse(r#"{"a":1,"a":2}"#), refused(None, twice));
        assert_eq!(parse(r#"{"params":{"messageId":7,"a":1,"a":2}}"#), refused(Some(json!(7)), twice));
        assert_eq!(parse(r#"{"messageId":7,"messageId":7}"#), refused(None, twice));
        let deep = "[".repeat(40) + &"]".repeat(40);
        let line = format!(r#"{{"params":{{"a":{deep},"messageId":{deep}}}}}"#);
        assert_eq!(parse(&line), refused(None, JsonRefusal::TooDeep(32)));
    }
}
