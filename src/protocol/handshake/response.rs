//! What the server answers to an opening handshake (RFC 6455 §4.2.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::{Refusal, is_token};
use crate::protocol::deflate::Agreement;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Seconds after which a client that met a full server may come again.
const RETRY_AFTER_S: &str = "5";

/// A header of the caller's own for the response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderLine {
    name: String,
    value: String,
}

/// A header that would break the response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("header {0:?} has a name that is no token or a value with control characters")]
pub struct InvalidHeader(String);

impl HeaderLine {
    /// Check that neither part can end the line or the header block (RFC 9110 §5.5).
    pub fn new(name: &str, value: &str) -> Result<Self, InvalidHeader> {
        let printable = value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7F));
        if is_token(name.as_bytes()) && printable {
            Ok(Self { name: name.to_owned(), value: value.to_owned() })
        } else {
            Err(InvalidHeader(name.to_owned()))
        }
    }
}

/// The value of `Sec-WebSocket-Accept` for a key (RFC 6455 §4.2.2, 5.4).
pub fn accept_key(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// The response `101 Switching Protocols`.
pub fn accept(
    key: &[u8],
    subprotocol: Option<&str>,
    agreement: Option<Agreement>,
    headers: &[HeaderLine],
) -> Vec<u8> {
    let mut lines = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        accept_key(key)
    );
    if let Some(name) = subprotocol {
        push_line(&mut lines, "Sec-WebSocket-Protocol", name);
    }
    if let Some(agreement) = agreement {
        push_line(&mut lines, "Sec-WebSocket-Extensions", &agreement.to_string());
    }
    for header in headers {
        push_line(&mut lines, &header.name, &header.value);
    }
    lines.push_str("\r\n");
    lines.into_bytes()
}

/// A response that ends the handshake: the reason as plain text, and what the status demands.
pub fn refuse(refusal: &Refusal, headers: &[HeaderLine]) -> Vec<u8> {
    let mut lines = format!("HTTP/1.1 {} {}\r\n", refusal.status, phrase(refusal.status));
    for (name, value) in demanded(refusal.status) {
        push_line(&mut lines, name, value);
    }
    for header in headers {
        push_line(&mut lines, &header.name, &header.value);
    }
    push_line(&mut lines, "Content-Type", "text/plain; charset=utf-8");
    push_line(&mut lines, "Content-Length", &(refusal.reason.len() + 1).to_string());
    push_line(&mut lines, "Connection", "close");
    lines.push_str("\r\n");
    lines.push_str(&refusal.reason);
    lines.push('\n');
    lines.into_bytes()
}

fn push_line(lines: &mut String, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        lines.push_str(part);
    }
}

/// Headers that belong to a status (RFC 9110 §15.5.6, §15.5.22; RFC 6455 §4.4).
fn demanded(status: u16) -> &'static [(&'static str, &'static str)] {
    match status {
        405 => &[("Allow", "GET")],
        426 => &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")],
        503 => &[("Retry-After", RETRY_AFTER_S)],
        _ => &[],
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_section_1_3_gives_its_accept_value() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn an_accepting_response_has_its_lines_in_the_expected_order() {
        let header = HeaderLine::new("X-Node", "a").unwrap();
        let response = accept(b"dGhlIHNhbXBsZSBub25jZQ==", Some("chat"), None, &[header]);
        assert_eq!(
            String::from_utf8(response).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
             Sec-WebSocket-Protocol: chat\r\nX-Node: a\r\n\r\n"
        );
    }

    #[test]
    fn a_refusal_carries_what_its_status_demands() {
        for (status, line) in [
            (405, "Allow: GET\r\n"),
            (426, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
            (503, "Retry-After: 5\r\n"),
        ] {
            let response = refuse(&Refusal::new(status, "no"), &[]);
            let text = String::from_utf8(response).unwrap();
            assert!(text.contains(line), "{text}");
            assert!(text.ends_with("Content-Length: 3\r\nConnection: close\r\n\r\nno\n"), "{text}");
        }
    }

    #[test]
    fn a_header_that_would_end_its_line_is_invalid() {
        assert!(HeaderLine::new("X-A", "b\r\nX-C: d").is_err());
        assert!(HeaderLine::new("X A", "b").is_err());
        assert!(HeaderLine::new("", "b").is_err());
    }
}
