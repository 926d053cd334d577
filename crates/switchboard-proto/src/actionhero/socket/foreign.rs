//! Lines of other protocols. A web page can have its visitor's browser connect to any port, and the text that the page puts
//! into a body, a ticket of TLS or a name for a TURN server would be read as verbs.

/// The answer to a browser. Programs that speak HTTP show it to their user.
pub(super) const ANSWER: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 77\r\n\
    Connection: close\r\n\r\nThis port speaks the line protocol. HTTP is served on the port of servers.web";

/// Whether a line is the first one of HTTP, TLS or STUN, or the header `Host`, which browsers always send. The header counts
/// too because a request line that is longer than a line may be is not read.
pub(super) fn is_foreign(line: &[u8], is_first: bool) -> bool {
    // With another delimiter one line may have all lines of a request.
    let mut parts = line.split(|byte| *byte == b'\n');
    let is_host = |part: &[u8]| part.len() >= 5 && part[..5].eq_ignore_ascii_case(b"host:");
    if is_first {
        let first = parts.clone().next().unwrap_or_default();
        if is_request_line(first) || matches!(first, [0x16, 0x03, ..] | [0, 1 | 3, ..]) {
            return true;
        }
    }
    parts.any(is_host)
}

fn is_request_line(line: &[u8]) -> bool {
    let mut words = line.rsplitn(2, |byte| *byte == b' ');
    words.next().is_some_and(|version| version.starts_with(b"HTTP/")) && words.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_row_64_only_lines_of_other_protocols_are_foreign() {
        for line in
            ["POST / HTTP/1.1", "GET /a%20b HTTP/1.0", "PRI * HTTP/2.0", "x HTTP/1.1", "\u{16}\u{3}\u{1}", "\0\u{3}\0"]
        {
            assert!(is_foreign(line.as_bytes(), true) && !is_foreign(line.as_bytes(), false), "{line}");
        }
        for line in ["Host: localhost:5000", "host:x", "HOST: ", "GET /long\nHost: x\nOrigin: y\n\n"] {
            assert!(is_foreign(line.as_bytes(), true) && is_foreign(line.as_bytes(), false), "{line}");
        }
        for line in ["", "say defaultRoom HTTP/1.1 is old", "HTTP/1.1", "hostname", "host", "status", "{\"a\":1}"] {
            assert!(!is_foreign(line.as_bytes(), true), "{line}");
        }
    }

    #[test]
    fn the_answer_has_the_length_that_it_names() {
        let (head, body) = ANSWER.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
