//! What a client asks in its opening handshake (RFC 6455 §4.1, §4.2.1).

use std::net::Ipv6Addr;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::extensions::Offer;
use super::{LARGEST_HEAD_BYTES, Refusal, extensions, is_token};
use crate::protocol::deflate::{Agreement, Policy};

/// Most header lines of a request. Browsers send about 15, behind proxies perhaps 30.
const MAX_HEADERS: usize = 100;

/// Reads a request that may come in any pieces.
///
/// Their cost is linear: the end is looked for only in what is new, and the grammar is tried when
/// the size has doubled, so that nonsense is refused before its end.
#[derive(Debug, Default)]
pub struct RequestReader {
    head: Vec<u8>,
    tried: usize,
}

/// How far a request has come.
#[derive(Debug)]
pub enum Progress {
    /// More bytes are needed.
    Incomplete,
    /// The request, and how many bytes of the last piece belong to it.
    Complete(Request, usize),
}

impl RequestReader {
    /// Bytes kept of the request so far.
    pub fn held(&self) -> usize {
        self.head.capacity()
    }

    /// Take the next piece of a header block that may have `max_head_bytes`, request line and
    /// final empty line included, and never more than [`LARGEST_HEAD_BYTES`]. No more is kept.
    ///
    /// Refuses with 431 one that has more, or over 100 lines, otherwise as [`Request::parse`]
    /// does.
    pub fn receive(&mut self, piece: &[u8], max_head_bytes: usize) -> Result<Progress, Refusal> {
        let max_head_bytes = max_head_bytes.min(LARGEST_HEAD_BYTES);
        let before = self.head.len();
        let most = max_head_bytes.saturating_sub(before).min(piece.len());
        self.head.extend_from_slice(piece.get(..most).unwrap_or_default());
        if let Some(end) = end_of_head(&self.head, before) {
            self.head.truncate(end);
            let request = Request::parse(std::mem::take(&mut self.head))?;
            return Ok(Progress::Complete(request, end - before));
        }
        if self.head.len() >= max_head_bytes {
            return Err(Refusal::new(431, format!("header block over {max_head_bytes} bytes")));
        }
        if self.head.len() >= 2 * self.tried {
            self.tried = self.head.len();
            parse_head(&self.head, &mut [httparse::EMPTY_HEADER; MAX_HEADERS])?;
        }
        Ok(Progress::Incomplete)
    }
}

/// The index behind the empty line that ends a header block, looked for from `from` on.
fn end_of_head(head: &[u8], from: usize) -> Option<usize> {
    let start = from.saturating_sub(3);
    let new = head.get(start..)?;
    memchr::memchr_iter(b'\n', new).find_map(|at| {
        let blank = match new.get(at + 1..)? {
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => return None,
        };
        Some(start + at + 1 + blank)
    })
}

/// A request that RFC 6455 has nothing against. What else it must be is the caller's decision.
#[derive(Debug, Clone)]
pub struct Request {
    head: Box<[u8]>,
    target: Range<u16>,
    headers: Box<[(Range<u16>, Range<u16>)]>,
    key: Range<u16>,
    agreement: Option<Agreement>,
}

impl Request {
    /// Bytes of its header block, which it keeps.
    pub fn held(&self) -> usize {
        self.head.len()
    }

    /// Read and check a whole header block.
    ///
    /// Refuses with 400 what is not HTTP/1.1, has a body, or lacks one `Host` or one sound
    /// `Sec-WebSocket-Key`; with 405 a method other than GET; with 426 what does not ask for
    /// version 13 of the WebSocket protocol (RFC 6455 §4.2.1, §4.2.2, §4.4).
    fn parse(head: Vec<u8>) -> Result<Self, Refusal> {
        let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let parsed = parse_head(&head, &mut lines)?;
        let (Some(method), Some(target), Some(version)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(Refusal::new(400, "incomplete request"));
        };
        if method != "GET" {
            return Err(Refusal::new(405, "the method must be GET"));
        }
        if version != 1 {
            return Err(Refusal::new(400, "the HTTP version must be 1.1"));
        }
        let spans = Spans { base: &head };
        let target = spans.of(target.as_bytes());
        let headers: Box<[_]> = parsed
            .headers
            .iter()
            .map(|line| (spans.of(line.name.as_bytes()), spans.of(line.value)))
            .collect();
        let mut request =
            Self { target, headers, key: 0..0, agreement: None, head: head.into_boxed_slice() };
        request.key = request.check()?;
        Ok(request)
    }

    /// The rules of RFC 6455 §4.2.1; returns where the key is.
    fn check(&self) -> Result<Range<u16>, Refusal> {
        let body = self.values("content-length").any(|len| len != b"0")
            || self.values("transfer-encoding").next().is_some();
        if body {
            return Err(Refusal::new(400, "a handshake has no body"));
        }
        if self.only("host").is_none_or(|host| !is_host(self.text(&host))) {
            return Err(Refusal::new(400, "exactly one Host header is needed, with a host"));
        }
        if !self.lists("upgrade", "websocket") || !self.lists("connection", "upgrade") {
            return Err(Refusal::new(426, "this is a WebSocket server"));
        }
        if self.only("sec-websocket-version").is_none_or(|version| self.text(&version) != b"13") {
            return Err(Refusal::new(426, "the WebSocket version must be 13"));
        }
        self.check_offers()?;
        let key = self.only("sec-websocket-key").filter(|key| is_key(self.text(key)));
        key.ok_or_else(|| Refusal::new(400, "Sec-WebSocket-Key must be 16 bytes in base64"))
    }

    fn check_offers(&self) -> Result<(), Refusal> {
        if !self.list("sec-websocket-protocol").all(is_token) {
            return Err(Refusal::new(400, "malformed Sec-WebSocket-Protocol"));
        }
        let sound = |value| std::str::from_utf8(value).ok().and_then(extensions::parse).is_some();
        if !self.values("sec-websocket-extensions").all(sound) {
            return Err(Refusal::new(400, "malformed Sec-WebSocket-Extensions"));
        }
        Ok(())
    }

    /// The request target as it came: a path with its query, or an absolute URI.
    pub fn target(&self) -> &[u8] {
        self.text(&self.target)
    }

    /// The path of the target, without its query; `/` where an absolute URI has none.
    pub fn path(&self) -> &[u8] {
        let target = self.target().split(|byte| *byte == b'?').next().unwrap_or_default();
        if target.starts_with(b"/") { target } else { path_of_uri(target) }
    }

    /// `Sec-WebSocket-Key`, checked.
    pub fn key(&self) -> &[u8] {
        self.text(&self.key)
    }

    /// Every header line in its order: name as it was written, and value.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.headers.iter().map(|(name, value)| (self.text(name), self.text(value)))
    }

    /// The values of every header line with this name, in any letter case.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers()
            .filter(move |(this, _)| this.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// The elements of a header that is a comma-separated list, over all its lines.
    pub fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.values(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|element| !element.is_empty())
    }

    /// The names of the extensions that the client offers.
    pub fn offered_extensions(&self) -> impl Iterator<Item = &str> {
        self.offers().map(|offer| offer.name)
    }

    fn offers(&self) -> impl Iterator<Item = Offer<'_>> {
        self.values("sec-websocket-extensions")
            .filter_map(|value| extensions::parse(std::str::from_utf8(value).ok()?))
            .flatten()
    }

    /// See what the client's offers of compression come to.
    pub fn negotiate(&mut self, policy: Policy) {
        self.agreement = policy.choose(self.offers());
    }

    /// What [`negotiate`](Self::negotiate) has come to, to be answered if the request is accepted.
    pub fn agreement(&self) -> Option<Agreement> {
        self.agreement
    }

    fn lists(&self, name: &str, element: &str) -> bool {
        self.list(name).any(|this| this.eq_ignore_ascii_case(element.as_bytes()))
    }

    /// Where the value of the one header line with this name is; `None` if there are more or none.
    fn only(&self, name: &str) -> Option<Range<u16>> {
        let mut found = self
            .headers
            .iter()
            .filter(|(this, _)| self.text(this).eq_ignore_ascii_case(name.as_bytes()));
        let (_, value) = found.next()?;
        found.next().is_none().then(|| value.clone())
    }

    fn text(&self, span: &Range<u16>) -> &[u8] {
        self.head.get(usize::from(span.start)..usize::from(span.end)).unwrap_or_default()
    }
}

fn parse_head<'h, 'b>(
    head: &'b [u8],
    lines: &'h mut [httparse::Header<'b>],
) -> Result<httparse::Request<'h, 'b>, Refusal> {
    let mut request = httparse::Request::new(lines);
    match request.parse(head) {
        Ok(_) => Ok(request),
        Err(httparse::Error::TooManyHeaders) => Err(Refusal::new(431, "over 100 header lines")),
        Err(_) => Err(Refusal::new(400, "this is not an HTTP/1.1 request")),
    }
}

/// The path of `scheme://authority/path` (RFC 9112 §3.2.2).
fn path_of_uri(uri: &[u8]) -> &[u8] {
    let mut slashes = uri.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes.nth(2).and_then(|at| uri.get(at..)).unwrap_or(b"/")
}

/// Whether this is a host with or without a port, as `Host` must be (RFC 9112 §3.2, RFC 3986
/// §3.2.2).
fn is_host(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let literal = value.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (is_sound, port) = if let Some((address, port)) = literal {
        (address.parse::<Ipv6Addr>().is_ok(), port)
    } else {
        let (name, port) = value.split_at(value.find(':').unwrap_or(value.len()));
        (!name.is_empty() && name.bytes().all(is_name_byte), port)
    };
    let port = port.strip_prefix(':').or(port.is_empty().then_some(""));
    let is_port = |digits: &str| digits.is_empty() || is_number(digits);
    is_sound && port.is_some_and(is_port)
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

fn is_number(digits: &str) -> bool {
    digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
}

/// A key is 16 bytes in base64, so 24 characters (RFC 6455 §4.2.1, 5).
fn is_key(value: &[u8]) -> bool {
    value.len() == 24 && STANDARD.decode(value).is_ok_and(|bytes| bytes.len() == 16)
}

/// Turns slices of a header block into positions, which fit 16 bits.
struct Spans<'a> {
    base: &'a [u8],
}

impl Spans<'_> {
    #[allow(clippy::cast_possible_truncation)] // At most LARGEST_HEAD_BYTES.
    fn of(&self, slice: &[u8]) -> Range<u16> {
        let start = (slice.as_ptr() as usize).wrapping_sub(self.base.as_ptr() as usize) as u16;
        start..start + slice.len() as u16
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SOUND: &str = "GET /chat?room=1 HTTP/1.1\r\nHost: example.com\r\nUpgrade: WebSocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\n";

    const MAX_HEAD_BYTES: usize = 16 * 1024;

    fn read(text: &str) -> Result<Request, Refusal> {
        read_within(MAX_HEAD_BYTES, text)
    }

    fn read_within(max_head_bytes: usize, text: &str) -> Result<Request, Refusal> {
        match RequestReader::default().receive(text.as_bytes(), max_head_bytes)? {
            Progress::Complete(request, _) => Ok(request),
            Progress::Incomplete => panic!("incomplete: {text}"),
        }
    }

    fn status(text: &str) -> u16 {
        read(text).unwrap_err().status
    }

    fn sound_with(line: &str) -> String {
        format!("{SOUND}{line}\r\n\r\n")
    }

    fn sound_without(name: &str) -> String {
        let lines = SOUND.split_inclusive("\r\n").filter(|line| !line.starts_with(name));
        lines.collect::<String>() + "\r\n"
    }

    #[test]
    fn a_sound_request_is_read() {
        let request = read(&sound_with("Sec-WebSocket-Protocol: a, b")).unwrap();
        assert_eq!(request.target(), b"/chat?room=1");
        assert_eq!(request.path(), b"/chat");
        assert_eq!(request.key(), b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(request.values("HOST").collect::<Vec<_>>(), [b"example.com"]);
        assert_eq!(request.list("sec-websocket-protocol").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(request.headers().count(), 6);
    }

    #[test]
    fn a_request_may_come_in_any_pieces_and_frames_may_follow_it() {
        let text = sound_with("X-Last: 1") + "\x01\x02frames";
        let end = text.len() - 8;
        for size in 1..text.len() {
            let mut reader = RequestReader::default();
            let mut at = 0;
            for piece in text.as_bytes().chunks(size) {
                match reader.receive(piece, MAX_HEAD_BYTES).unwrap() {
                    Progress::Incomplete => at += piece.len(),
                    Progress::Complete(request, taken) => {
                        assert_eq!(at + taken, end, "pieces of {size}");
                        assert_eq!(request.headers().count(), 6);
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn each_missing_header_has_its_status() {
        assert_eq!(status(&sound_without("Host")), 400);
        assert_eq!(status(&sound_without("Upgrade")), 426);
        assert_eq!(status(&sound_without("Connection")), 426);
        assert_eq!(status(&sound_without("Sec-WebSocket-Key")), 400);
        assert_eq!(status(&sound_without("Sec-WebSocket-Version")), 426);
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for host in [
            "example.com",
            "example.com:6001",
            "example.com:",
            "my_service-1.local.:65535",
            "192.0.2.1:80",
            "[::1]",
            "[2001:db8::1]:443",
            "xn--bcher-kva.example",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            ":",
            ":80",
            "a b",
            "a:b",
            "a:65536",
            "a:+1",
            "a:1:2",
            "[::1",
            "::1",
            "[::1]80",
            "[]",
            "[a]",
            "a/b",
            "user@a",
            "a?b",
            "a#b",
            "bücher.example",
            "\u{7f}",
            "<a>",
            "a\\b",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
        assert_eq!(status(&(SOUND.replace("Host: example.com", "Host: a b") + "\r\n")), 400);
    }

    #[test]
    fn what_must_be_there_once_may_not_be_there_twice() {
        assert_eq!(status(&sound_with("Host: other.example")), 400);
        assert_eq!(status(&sound_with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")), 400);
        assert_eq!(status(&sound_with("Sec-WebSocket-Version: 8")), 426);
    }

    #[test]
    fn bad_requests_have_their_status() {
        let other = |from: &str, to: &str| status(&(SOUND.replace(from, to) + "\r\n"));
        assert_eq!(other("GET", "POST"), 405);
        assert_eq!(other("HTTP/1.1", "HTTP/1.0"), 400);
        assert_eq!(other("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="), 400);
        assert_eq!(other("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ!!"), 400);
        assert_eq!(other("Version: 13", "Version: 13abc"), 426);
        assert_eq!(other("Upgrade: WebSocket", "Upgrade: h2c"), 426);
        assert_eq!(other("Host: example.com", "Host:"), 400);
        assert_eq!(status(&sound_with("Content-Length: 5")), 400);
        assert_eq!(status(&sound_with("Transfer-Encoding: chunked")), 400);
        assert_eq!(status(&sound_with("Sec-WebSocket-Protocol: a b")), 400);
        assert_eq!(status(&sound_with("Sec-WebSocket-Extensions: a b")), 400);
    }

    #[test]
    fn a_list_of_upgrades_that_has_websocket_in_it_is_fine() {
        let text = SOUND.replace("Upgrade: WebSocket", "Upgrade: h2c, websocket") + "\r\n";
        assert!(read(&text).is_ok());
        assert!(read(&sound_with("Content-Length: 0")).is_ok());
    }

    #[test]
    fn nonsense_is_refused_before_its_end() {
        let mut reader = RequestReader::default();
        let refusal = reader.receive(b"\x16\x03\x01\x02\x00\x01", MAX_HEAD_BYTES).unwrap_err();
        assert_eq!(refusal.status, 400);
    }

    #[test]
    fn a_header_block_over_the_limit_is_431_and_one_of_just_that_size_is_read() {
        let filled = |total: usize| {
            let empty = sound_with("X-Fill: ");
            empty.replace("X-Fill: ", &format!("X-Fill: {}", "a".repeat(total - empty.len())))
        };
        for limit in [300, MAX_HEAD_BYTES, LARGEST_HEAD_BYTES] {
            assert!(read_within(limit, &filled(limit - 1)).is_ok());
            let request = read_within(limit, &filled(limit)).unwrap();
            assert_eq!(request.values("x-fill").next().unwrap().last(), Some(&b'a'));
            assert_eq!(read_within(limit, &filled(limit + 1)).unwrap_err().status, 431);
        }
        let over = filled(LARGEST_HEAD_BYTES + 1);
        assert_eq!(read_within(usize::MAX, &over).unwrap_err().status, 431);
        assert_eq!(status(&sound_with(&"X: y\r\n".repeat(100))), 431);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_keep_no_more_than_16_kib(
            pieces in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..600),
                    Just(SOUND.as_bytes().to_vec()),
                    "[A-Za-z-]{1,20}: [ -~]{0,40}\r\n".prop_map(String::into_bytes),
                    Just(b"\r\n".to_vec()),
                ],
                0..60,
            )
        ) {
            let mut reader = RequestReader::default();
            for piece in pieces {
                if !matches!(reader.receive(&piece, MAX_HEAD_BYTES), Ok(Progress::Incomplete)) {
                    break;
                }
                prop_assert!(reader.head.len() <= MAX_HEAD_BYTES);
            }
        }

        #[test]
        fn the_answer_does_not_depend_on_how_the_request_was_cut(
            lines in prop::collection::vec("[A-Za-z-]{1,12}:[ -~]{0,30}\r\n", 0..5),
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            size in 1..300_usize,
        ) {
            let mut text = (SOUND.to_owned() + &lines.concat() + "\r\n").into_bytes();
            if let Some((at, byte)) = damage {
                let at = at.index(text.len());
                text[at] = byte;
            }
            let answer = |size: usize| {
                let mut reader = RequestReader::default();
                for piece in text.chunks(size) {
                    match reader.receive(piece, MAX_HEAD_BYTES) {
                        Ok(Progress::Incomplete) => {}
                        Ok(Progress::Complete(request, _)) => {
                            return Some(Ok(request.headers().count()));
                        }
                        Err(refusal) => return Some(Err(refusal.status)),
                    }
                }
                None
            };
            match (answer(size), answer(text.len())) {
                // Nonsense that does not end may be refused now or at the deadline.
                (None, Some(Err(400))) | (Some(Err(400)), None) => {}
                (cut, whole) => prop_assert_eq!(cut, whole),
            }
        }
    }

    #[test]
    fn an_absolute_target_has_a_path_too() {
        let path = |target: &str| {
            read(&(SOUND.replace("/chat?room=1", target) + "\r\n")).unwrap().path().to_vec()
        };
        assert_eq!(path("http://example.com/chat?x"), b"/chat");
        assert_eq!(path("http://example.com"), b"/");
        assert_eq!(path("http://example.com?a=/b"), b"/");
    }
}
