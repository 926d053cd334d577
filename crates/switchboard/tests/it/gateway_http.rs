//! The gateway's part of HTTP: its doors, and what is asked there without a WebSocket.

use super::http::connect;
use super::peer::{Running, config};

#[test]
fn both_paths_of_the_gateway_lead_to_it() {
    let running = Running::start(config());
    for path in ["/gateway", "/ws_interaction", "/gateway?v=1&hello=1"] {
        let answer = connect(&running).upgrade(path, &["Identification: 1", "Shard-In: 0"]);
        assert_eq!(answer.status, 101, "{path}");
    }
    for path in ["/gateway/", "/gatewayX", "/gateway/bot", "/ws_interactions"] {
        assert_eq!(connect(&running).upgrade(path, &[]).status, 404, "{path}");
    }
}
