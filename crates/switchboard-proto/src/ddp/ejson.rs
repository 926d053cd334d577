//! Dates as DDP has them. Nothing else of its extended JSON is ever looked at: what clients send is passed on as it came.

use serde_json::Value;

use crate::json::write_number;

/// Writes `{"$date":ms}`.
pub(super) fn write_date(out: &mut Vec<u8>, unix_ms: u64) {
    out.extend_from_slice(b"{\"$date\":");
    write_number(out, unix_ms);
    out.push(b'}');
}

/// Reads `{"$date":ms}`; a date before 1970 is negative.
pub(super) fn read_date(value: &Value) -> Option<i64> {
    match value.as_object() {
        Some(members) if members.len() == 1 => members.get("$date")?.as_i64(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_date_is_an_object_with_nothing_but_whole_milliseconds() {
        assert_eq!(read_date(&json!({"$date": 1_795_289_702_430_u64})), Some(1_795_289_702_430));
        assert_eq!(read_date(&json!({"$date": -5})), Some(-5));
        for other in [json!(5), json!({"$date": 0.5}), json!({"$date": "5"}), json!({"$date": 5, "a": 1}), json!({})] {
            assert_eq!(read_date(&other), None, "{other}");
        }
    }
}
