//! Group 13: what a client may offer about compression, each played with a compressed message behind it.

use super::opening::ask;
use super::*;
use handshake::{DeflateParams, HandshakeError};

const PLAIN: Option<DeflateParams> = Some(DeflateParams { server_max_window_bits: false });
const WINDOW: Option<DeflateParams> = Some(DeflateParams { server_max_window_bits: true });

/// A value of `Sec-WebSocket-Extensions`, and what is agreed.
const OFFERS: &[(&str, Option<DeflateParams>)] = &[
    ("permessage-deflate", PLAIN),
    ("permessage-deflate; client_max_window_bits", PLAIN),
    ("permessage-deflate; client_max_window_bits=8", PLAIN),
    ("permessage-deflate; client_max_window_bits=9", PLAIN),
    ("permessage-deflate; client_max_window_bits=10", PLAIN),
    ("permessage-deflate; client_max_window_bits=15", PLAIN),
    ("permessage-deflate; client_max_window_bits=\"12\"", PLAIN),
    ("permessage-deflate; client_max_window_bits=\"1\\2\"", PLAIN),
    ("permessage-deflate; server_max_window_bits=15", WINDOW),
    ("permessage-deflate; server_max_window_bits=\"15\"", WINDOW),
    ("permessage-deflate; server_no_context_takeover", PLAIN),
    ("permessage-deflate; client_no_context_takeover", PLAIN),
    ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", PLAIN),
    (
        "permessage-deflate; client_max_window_bits; server_max_window_bits=15; \
         client_no_context_takeover; server_no_context_takeover",
        WINDOW,
    ),
    ("PerMessage-Deflate; Client_Max_Window_Bits=15", PLAIN),
    ("permessage-deflate;client_max_window_bits=15;server_max_window_bits=15", WINDOW),
    (" permessage-deflate ; client_max_window_bits = 15 ", PLAIN),
    (",, permessage-deflate ,\t,", PLAIN),
    // The first that can be accepted wins.
    ("permessage-deflate; server_max_window_bits=10, permessage-deflate", PLAIN),
    ("permessage-deflate; server_max_window_bits=15, permessage-deflate", WINDOW),
    ("permessage-deflate, permessage-deflate; server_max_window_bits=15", PLAIN),
    ("x-webkit-deflate-frame, permessage-deflate", PLAIN),
    ("something; with=\"a\\b\"; more, permessage-deflate", PLAIN),
    // Passed over.
    ("", None),
    ("x-webkit-deflate-frame", None),
    ("permessage-bzip2", None),
    ("permessage-deflate2", None),
    ("permessage-deflate; server_max_window_bits", None),
    ("permessage-deflate; server_max_window_bits=7", None),
    ("permessage-deflate; server_max_window_bits=8", None),
    ("permessage-deflate; server_max_window_bits=14", None),
    ("permessage-deflate; server_max_window_bits=16", None),
    ("permessage-deflate; server_max_window_bits=015", None),
    ("permessage-deflate; server_max_window_bits=x", None),
    ("permessage-deflate; client_max_window_bits=7", None),
    ("permessage-deflate; client_max_window_bits=16", None),
    ("permessage-deflate; client_max_window_bits=08", None),
    ("permessage-deflate; client_max_window_bits=1", None),
    ("permessage-deflate; client_max_window_bits=150", None),
    ("permessage-deflate; client_max_window_bits=-9", None),
    ("permessage-deflate; server_no_context_takeover=1", None),
    ("permessage-deflate; client_no_context_takeover=true", None),
    ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", None),
    ("permessage-deflate; client_max_window_bits; client_max_window_bits=9", None),
    ("permessage-deflate; server_max_window_bits=15; server_max_window_bits=15", None),
    ("permessage-deflate; unknown", None),
    ("permessage-deflate; client_max_window_bits; unknown=1", None),
];

/// What does not follow the grammar.
const MALFORMED: &[&str] = &[
    ";",
    "=",
    "permessage-deflate;",
    "permessage-deflate;;client_max_window_bits",
    "permessage-deflate; client_max_window_bits=",
    "permessage-deflate; client_max_window_bits=\"",
    "permessage-deflate; client_max_window_bits=\"12",
    "permessage-deflate; client_max_window_bits=\"\"",
    "permessage-deflate; client_max_window_bits=\"1 2\"",
    "permessage-deflate; =15",
    "permessage-deflate client_max_window_bits",
    "permessage-deflate/1",
    "permessage-deflate, ä",
    "permessage-deflate, a; b=c d",
];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (at, &(offer, agreed)) in OFFERS.iter().enumerate() {
        let accepted = ask(&[("Sec-WebSocket-Extensions", offer)]).unwrap();
        assert_eq!(accepted.deflate, agreed, "{offer}");
        let bytes = frame(0xc1, [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
        let row = |seen| row(format!("13.{at}"), offer, [bytes], [seen]);
        rows.push(match accepted.deflate {
            Some(_) => row(Ok(WsFrame::Text("Hello"))).deflate(),
            None => row(Err(WsError::ReservedBit)),
        });
    }
    rows
}

#[test]
fn what_is_agreed_repeats_only_what_was_offered() {
    assert_eq!(
        PLAIN.map(DeflateParams::header),
        Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
    );
    assert_eq!(
        WINDOW.map(DeflateParams::header),
        Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15")
    );
}

#[test]
fn an_offer_that_is_not_well_formed_is_refused() {
    for offer in MALFORMED {
        let error = ask(&[("Sec-WebSocket-Extensions", offer)]).unwrap_err();
        assert_eq!((error, error.status()), (HandshakeError::Extensions, 400), "{offer}");
    }
}

#[test]
fn offers_may_stand_in_several_headers() {
    let name = "sec-websocket-extensions";
    let deflate = |values: &[&str]| {
        let headers: Vec<(&str, &str)> = values.iter().map(|value| (name, *value)).collect();
        ask(&headers).map(|accepted| accepted.deflate)
    };
    let window = "permessage-deflate; server_max_window_bits=15";
    assert_eq!(deflate(&["a", "permessage-deflate"]), Ok(PLAIN));
    assert_eq!(deflate(&[window, "permessage-deflate"]), Ok(WINDOW));
    assert_eq!(deflate(&["permessage-deflate", window]), Ok(PLAIN));
    assert_eq!(deflate(&["permessage-deflate", ";"]), Err(HandshakeError::Extensions));
    assert_eq!(deflate(&[";", "permessage-deflate"]), Err(HandshakeError::Extensions));
}
