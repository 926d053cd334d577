//! Params in a query or a form: `name=value` pairs, percent-encoded.

use serde_json::Value;
use switchboard_proto::actionhero::WebRefusal;
use switchboard_proto::params::{ParamLimits, Params};

/// Adds the pairs of a query or a form. What was there under the same name is replaced; a name that comes twice in `text` is
/// refused, because whatever reads the same text elsewhere may take the other one.
///
/// # Errors
///
/// When a part is not encoded as it must be, or there are too many.
pub(super) fn add_pairs(params: &mut Params, text: &str, limits: ParamLimits) -> Result<(), WebRefusal> {
    let mut added = Params::default();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name, true).ok_or(WebRefusal::BadParams)?;
        let value = decode(value, true).ok_or(WebRefusal::BadParams)?;
        if added.get(&name).is_some() {
            return Err(WebRefusal::BadParams);
        }
        added.set(&name, Value::String(value), limits).map_err(|_| WebRefusal::TooManyParams)?;
    }
    added
        .iter()
        .try_for_each(|(name, value)| params.set(name, value.clone(), limits).map_err(|_| WebRefusal::TooManyParams))
}

/// Decodes percent-encoded UTF-8. In queries and forms `+` is a space.
pub(super) fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'%' => {
                let (digits, behind) = rest.split_at_checked(2)?;
                let digit = |byte: u8| char::from(byte).to_digit(16);
                decoded.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
                rest = behind;
            }
            b'+' if plus_is_space => decoded.push(b' '),
            byte => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn pairs(text: &str) -> Result<Value, WebRefusal> {
        let mut params = Params::default();
        params.set("old", json!("value"), ParamLimits::default()).unwrap();
        add_pairs(&mut params, text, ParamLimits { count: 4, bytes: 1000 })?;
        Ok(params.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect())
    }

    #[test]
    fn pairs_are_decoded_strictly() {
        assert_eq!(pairs("a=b+c&d=%20%C3%A9%26&e&&f=g=h"), Err(WebRefusal::TooManyParams));
        assert_eq!(pairs("a=b+c&d=%20%C3%a9%26"), Ok(json!({"old": "value", "a": "b c", "d": " é&"})));
        assert_eq!(pairs("old=new&e&f=g=h"), Ok(json!({"old": "new", "e": "", "f": "g=h"})));
        assert_eq!(pairs("ä=ö"), Ok(json!({"old": "value", "ä": "ö"})));
        for bad in ["a=%", "a=%4", "a=%zz", "a=%+1", "%=1", "a=%C3", "a=%ff", "a=%c0%af", "a=1&a=1", "a=1&%61=2"] {
            assert_eq!(pairs(bad), Err(WebRefusal::BadParams), "{bad}");
        }
        assert_eq!(decode("a+b%2B", false).as_deref(), Some("a+b+"));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in any::<String>()) {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(decode(&encoded, true), Some(text));
        }
    }
}
