//! The opening handshake, client side (RFC 6455 §4.1).

use rakit_ws_core::protocol::handshake::response::accept_key;

use crate::compression;

/// The same for all: it is no secret, and a server must not care.
const KEY: &str = "cmFraXRfd3MgbG9hZGVyIQ==";

/// Longest response that is read.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The request.
pub fn request(host: &str, path: &str, deflate: bool) -> Vec<u8> {
    let offer = format!("Sec-WebSocket-Extensions: {}\r\n", compression::OFFER);
    let offer = if deflate { offer.as_str() } else { "" };
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
    )
    .into_bytes()
}

/// The length of the response's head, if the server accepts; `None` while it is incomplete.
///
/// `Err` says what the server answered instead.
pub fn response_len(input: &[u8], deflate: bool) -> Result<Option<usize>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(input) {
        Ok(httparse::Status::Complete(len)) if accepts(&response) => {
            if deflate && !compresses(&response) {
                return Err(format!("it does not compress: {}", lines(input)));
            }
            Ok(Some(len))
        }
        Ok(httparse::Status::Partial) if input.len() < MAX_HEAD_BYTES => Ok(None),
        Ok(_) => Err(lines(input)),
        Err(error) => Err(format!("{error}: {}", lines(input))),
    }
}

fn accepts(response: &httparse::Response<'_, '_>) -> bool {
    let expected = accept_key(KEY.as_bytes());
    response.code == Some(101)
        && response.headers.iter().any(|header| {
            header.name.eq_ignore_ascii_case("sec-websocket-accept")
                && header.value == expected.as_bytes()
        })
}

fn compresses(response: &httparse::Response<'_, '_>) -> bool {
    response.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("sec-websocket-extensions")
            && compression::is_accepted(header.value)
    })
}

/// The beginning of a response on one line, for a person.
fn lines(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(&input[..input.len().min(400)]);
    text.split("\r\n").filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ")
}
