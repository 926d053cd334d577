//! Registering, resuming, pinging, the end.

use super::*;

const STATS_0: &str = r#"{"development":false,"disconnected":false,"receibe_ping":0,"received":0,"send_ping":0,"sending":0,"shard_hash":"HASH0","shard_id":0}"#;

fn hash(shard: u128) -> String {
    ConnId::session_from_random(shard).to_string()
}

#[test]
fn a_shard_registers_and_pings() {
    let stats = STATS_0.replace("HASH0", &hash(0));
    let mut talk = open();
    assert_eq!(talk.received(), "");
    check(
        &mut talk,
        &format!(
            r#"
            > {{"type":1,"d":{{"public_key":"k","shard_in":0,"flags":0}}}}
            ? Shard(Register(Registration {{ credentials: AppCredentials {{ id: None, .. }}, shard: 0, total: None, flags: 0, client: None }}))
            ! began 0 of 1
            < {{"type":1,"service":"gateway","event":"GATEWAY_READY","data":{{"application_bot":{{"flags":1,"id":"100","public_key":"[REDACTED]"}},"session_id":"s1","shards_config":[[[[0,1]]]],"shards_stats":[[[[[[[{stats}]]]]]]]}}}}
            ? Shard(Read {{ after: 0 }})
            ! events
            > {{"type":3}}
            < {{"type":3,"service":"gateway","event":"GATEWAY_PING","data":{{}}}}
            > {{"type":2}}
            < {{"type":3,"service":"gateway","event":"GATEWAY_PING","data":{{}}}}
            > {{"type":3,"d":{{}}}}
            < {{"type":3,"service":"gateway","event":"GATEWAY_PING","data":{{}}}}
            > {{"type":89,"message":""}}
            > {{"type":3,"d":{{"seq":0}}}}
            ? Shard(Acknowledge {{ seq: 0 }})
            ! done
            < {{"type":3,"service":"gateway","event":"GATEWAY_PING","data":{{}}}}
            "#
        ),
    );
}
