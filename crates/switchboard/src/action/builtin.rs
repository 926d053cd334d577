//! The actions that come with every server; ActionHero's clients and examples use them.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Action, ActionResult, ActionSpec, Actions, Input, Reply, Request};

/// Registers all of them.
///
/// # Errors
///
/// When one of them is registered already.
pub fn register(actions: &mut Actions) -> Result<(), super::registry::ActionExists> {
    actions.register(CacheTest)?;
    actions.register(RandomNumber)?;
    actions.register(ShowDocumentation)?;
    actions.register(SleepTest)?;
    actions.register(Status)
}

struct CacheTest;

impl CacheTest {
    const LIFETIME_MS: u64 = 5000;
}

impl Action for CacheTest {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("cacheTest")
            .describe("Saves a value in the cache, reads it back and forgets it")
            .input(Input::required("key"))
            .input(Input::required("value"))
            .output_example(json!({"cacheTestResults": {
                "saveResp": true, "sizeResp": 1, "loadResp": {"key": "cacheTest_key", "value": "value"}, "deleteResp": true,
            }}))
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let name = match request.param("key") {
            Some(Value::String(key)) => key.clone(),
            key => key.map(Value::to_string).unwrap_or_default(),
        };
        let key = format!("cacheTest_{name}");
        let value = request.param("value").cloned().unwrap_or_default();
        let node = request.node();
        let (cache, now_ms) = (node.cache(), node.unix_ms());
        cache.save(&key, value, now_ms, Some(Self::LIFETIME_MS))?;
        let size = cache.len(now_ms);
        let loaded = cache.load(&key, now_ms).map(|cached| {
            json!({
                "key": key,
                "value": cached.value,
                "expireTimestamp": cached.expires_at,
                "createdAt": cached.created_at,
                "readAt": cached.read_at,
            })
        });
        let deleted = cache.destroy(&key, now_ms);
        Ok(Reply::new().with(
            "cacheTestResults",
            json!({"saveResp": true, "sizeResp": size, "loadResp": loaded, "deleteResp": deleted}),
        ))
    }
}

struct RandomNumber;

impl Action for RandomNumber {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("randomNumber")
            .describe("Draws a number, 0 <= x < 1")
            .output_example(json!({"randomNumber": 0.1234}))
    }

    async fn run(&self, _: &mut Request) -> ActionResult {
        Ok(Reply::new().with("randomNumber", fastrand::f64()))
    }
}

struct ShowDocumentation;

impl Action for ShowDocumentation {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("showDocumentation").describe("Describes every action")
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let documentation: Value = serde_json::from_str(request.node().documentation().as_str()).unwrap_or_default();
        Ok(Reply::new().with("documentation", documentation))
    }
}

struct SleepTest;

impl SleepTest {
    const DEFAULT_MS: u64 = 1000;
    /// Longer sleeps are refused: a client could otherwise hold a timer for years.
    const LONGEST_MS: u64 = 24 * 60 * 60 * 1000;
}

impl Action for SleepTest {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("sleepTest")
            .describe("Answers after a while, to show that requests overtake one another")
            .input(Input::optional("sleepDuration").default(Self::DEFAULT_MS).validator(|value| {
                match duration_ms(value) {
                    Some(0..=Self::LONGEST_MS) => Ok(()),
                    _ => Err("sleepDuration must be a number of milliseconds, at most a day".to_owned()),
                }
            }))
            .output_example(json!({
                "sleepStarted": 1420953571322u64, "sleepEnded": 1420953572327u64, "sleepDelta": 1005, "sleepDuration": 1000,
            }))
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let duration_ms = request.param("sleepDuration").and_then(duration_ms).unwrap_or(Self::DEFAULT_MS);
        let started = request.node().unix_ms();
        tokio::time::sleep(Duration::from_millis(duration_ms)).await;
        let ended = request.node().unix_ms();
        Ok(Reply::new()
            .with("sleepStarted", started)
            .with("sleepEnded", ended)
            .with("sleepDelta", ended.saturating_sub(started))
            .with("sleepDuration", duration_ms))
    }
}

/// A number, or a text that is one, since sticky params are texts. Fractions are cut off.
fn duration_ms(value: &Value) -> Option<u64> {
    let number = match value {
        Value::String(text) => text.trim().parse::<f64>().ok()?,
        value => value.as_f64()?,
    };
    (number >= 0.0 && number <= u64::MAX as f64).then_some(number as u64)
}

struct Status;

impl Action for Status {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("status")
            .describe("Tells who this node is and how it does")
            .output_example(json!({"id": "node-a", "uptime": 10000, "stats": {}, "queues": {}}))
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let node = request.node();
        let figures = node.figures();
        Ok(Reply::new()
            .with("id", node.name())
            .with("uptime", node.uptime_ms())
            .with(
                "stats",
                json!({
                    "connections": figures.connections,
                    "connectionsAccepted": figures.accepted,
                    "messagesPublished": figures.published,
                }),
            )
            .with("queues", json!({}))
            .with("version", env!("CARGO_PKG_VERSION")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_or_a_text_that_is_one() {
        assert_eq!(duration_ms(&json!("300")), Some(300));
        assert_eq!(duration_ms(&json!(300.7)), Some(300));
        for bad in [json!("x"), json!(-1), json!(null), json!("NaN"), json!("inf"), json!([])] {
            assert_eq!(duration_ms(&bad), None, "{bad}");
        }
    }
}
