//! Who a request is from, as the proxies say that passed it on (RFC 7239, `X-Forwarded-For`).
//!
//! Anybody can write these headers. What a trusted proxy has added stands last; what stands before
//! that is worth as much as the hop that added it.

use std::net::{IpAddr, Ipv6Addr};

use super::{Refusal, Request, is_token};

/// The header that the trusted proxies write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardingHeader {
    /// `X-Forwarded-For: 203.0.113.7, 10.0.0.2`.
    XForwardedFor,
    /// `Forwarded: for="[2001:db8::7]:4711", for=10.0.0.2` (RFC 7239).
    Forwarded,
}

/// An address that a proxy has been connected to from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// An IPv4-mapped IPv6 address is given as IPv4.
    pub ip: IpAddr,
    /// Its port, where the proxy says it.
    pub port: Option<u16>,
}

/// The client of a request that came from a trusted proxy: the nearest hop that is not trusted, or
/// the furthest one that is known where all are.
///
/// A hop that is `unknown`, obfuscated or no address ends the search: what stands before it may be
/// invented. `None`: nothing is known but the proxy itself. Refuses with 400 a `Forwarded` that
/// breaks its grammar: one could hide in it what a proxy has added.
pub fn client(
    request: &Request,
    header: ForwardingHeader,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Result<Option<Hop>, Refusal> {
    match header {
        ForwardingHeader::XForwardedFor => {
            let lines: Vec<&[u8]> = request.values("x-forwarded-for").collect();
            let elements = lines.into_iter().rev().flat_map(|line| line.rsplit(|b| *b == b','));
            let elements = elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty());
            Ok(nearest_untrusted(
                elements.map(|node| hop(std::str::from_utf8(node).ok()?)),
                is_trusted,
            ))
        }
        ForwardingHeader::Forwarded => {
            let mut hops = Vec::new();
            for line in request.values("forwarded") {
                let line = std::str::from_utf8(line).ok();
                let malformed = || Refusal::new(400, "malformed Forwarded");
                hops.extend(line.and_then(nodes).ok_or_else(malformed)?);
            }
            let hops = hops.iter().rev().map(|node| hop(node.as_deref()?));
            Ok(nearest_untrusted(hops, is_trusted))
        }
    }
}

fn nearest_untrusted(
    hops: impl Iterator<Item = Option<Hop>>,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Option<Hop> {
    let mut client = None;
    for hop in hops {
        let Some(hop) = hop else { break };
        client = Some(hop);
        if !is_trusted(hop.ip) {
            break;
        }
    }
    client
}

/// A node (RFC 7239 §6): an address, in brackets or not, with or without a port.
fn hop(node: &str) -> Option<Hop> {
    if let Some(rest) = node.strip_prefix('[') {
        let (address, behind) = rest.split_once(']')?;
        let ip: Ipv6Addr = address.parse().ok()?;
        let port = match behind.strip_prefix(':') {
            Some(port) => port_number(port)?,
            None if behind.is_empty() => None,
            None => return None,
        };
        return Some(Hop { ip: IpAddr::V6(ip).to_canonical(), port });
    }
    if let Ok(ip) = node.parse::<IpAddr>() {
        return Some(Hop { ip: ip.to_canonical(), port: None });
    }
    let (address, port) = node.split_once(':')?;
    Some(Hop { ip: IpAddr::V4(address.parse().ok()?), port: port_number(port)? })
}

/// A port, or an obfuscated one, which is none (RFC 7239 §6.3); `None` for anything else.
#[allow(clippy::option_option)] // The outer one is the grammar's, the inner one the header's.
fn port_number(port: &str) -> Option<Option<u16>> {
    if port.starts_with('_') {
        return Some(None);
    }
    let is_number = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| port.parse().ok())?.map(Some)
}

/// The `for` of each element of one `Forwarded` line, in their order; `None` if it breaks the
/// grammar (RFC 7239 §4). An element without `for` has none.
fn nodes(line: &str) -> Option<Vec<Option<String>>> {
    let mut nodes = Vec::new();
    let mut rest = line;
    loop {
        let mut node = None;
        let mut is_empty = true;
        loop {
            rest = rest.trim_start_matches([' ', '\t']);
            if !rest.is_empty() && !rest.starts_with([',', ';']) {
                let (name, value, behind) = pair(rest)?;
                is_empty = false;
                rest = behind.trim_start_matches([' ', '\t']);
                if name.eq_ignore_ascii_case("for") && node.replace(value).is_some() {
                    return None;
                }
            }
            match rest.strip_prefix(';') {
                Some(behind) => rest = behind,
                None => break,
            }
        }
        if !is_empty {
            nodes.push(node);
        }
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind,
            None => return rest.is_empty().then_some(nodes),
        }
    }
}

/// `name=value` at the beginning of `text`, and what is behind it.
fn pair(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    if !is_token(name.as_bytes()) {
        return None;
    }
    if let Some(quoted) = rest.strip_prefix('"') {
        let (value, behind) = quoted_value(quoted)?;
        return Some((name, value, behind));
    }
    // Laxer than a token: some proxies write `for=192.0.2.1:80` without quotes.
    let end = rest.find([',', ';', ' ', '\t']).unwrap_or(rest.len());
    let (value, behind) = rest.split_at(end);
    let is_sound =
        !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    is_sound.then(|| (name, value.to_owned(), behind))
}

/// The rest of a quoted string (RFC 9110 §5.6.4), and what is behind it.
fn quoted_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::protocol::handshake::{Progress, RequestReader};

    use super::ForwardingHeader::{Forwarded, XForwardedFor};
    use super::*;

    fn request(lines: &[&str]) -> Request {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            .to_owned()
            + &lines.join("\r\n")
            + if lines.is_empty() { "\r\n" } else { "\r\n\r\n" };
        match RequestReader::default().receive(text.as_bytes(), 60_000) {
            Ok(Progress::Complete(request, _)) => request,
            other => panic!("{other:?}"),
        }
    }

    /// Proxies are in 10.0.0.0/8.
    fn is_trusted(ip: IpAddr) -> bool {
        matches!(ip, IpAddr::V4(v4) if v4.octets()[0] == 10)
    }

    fn found(header: ForwardingHeader, lines: &[&str]) -> Option<String> {
        let hop = client(&request(lines), header, is_trusted).unwrap()?;
        Some(match hop.port {
            Some(port) => format!("{} {port}", hop.ip),
            None => hop.ip.to_string(),
        })
    }

    fn x_forwarded_for(value: &str) -> Option<String> {
        found(XForwardedFor, &[&format!("X-Forwarded-For: {value}")])
    }

    fn forwarded(value: &str) -> Option<String> {
        found(Forwarded, &[&format!("Forwarded: {value}")])
    }

    #[test]
    fn the_nearest_untrusted_hop_is_the_client() {
        for (value, client) in [
            ("203.0.113.7", "203.0.113.7"),
            ("1.1.1.1, 203.0.113.7", "203.0.113.7"),
            ("1.1.1.1, 203.0.113.7, 10.0.0.2,10.0.0.3", "203.0.113.7"),
            ("10.0.0.9, 10.0.0.2", "10.0.0.9"),
            ("1.1.1.1,, 203.0.113.7 ,", "203.0.113.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:4711", "2001:db8::7 4711"),
            ("203.0.113.7:4711", "203.0.113.7 4711"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("1.1.1.1, ::ffff:10.0.0.2", "1.1.1.1"),
        ] {
            assert_eq!(x_forwarded_for(value).as_deref(), Some(client), "{value}");
        }
    }

    #[test]
    fn lines_are_one_list() {
        let lines = ["X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 203.0.113.7, 10.0.0.2"];
        assert_eq!(found(XForwardedFor, &lines).as_deref(), Some("203.0.113.7"));
        let lines = ["Forwarded: for=1.1.1.1", "forwarded: for=203.0.113.7, for=10.0.0.2"];
        assert_eq!(found(Forwarded, &lines).as_deref(), Some("203.0.113.7"));
    }

    #[test]
    fn what_is_no_address_ends_the_search() {
        for garbage in [
            "unknown",
            "_hidden",
            "1.1.1",
            "1.1.1.1.1",
            "01.1.1.1",
            "fe80::1%eth0",
            "[::1",
            "::1]",
            "[1.1.1.1]",
            "1.1.1.1:",
            "1.1.1.1:x",
            "1.1.1.1:70000",
            "1.1.1.1:123456",
            "[::1]x",
            "é",
            "localhost",
            "1.1.1.1 1.1.1.1",
            "\"1.1.1.1\"",
        ] {
            assert_eq!(x_forwarded_for(garbage), None, "{garbage}");
            let value = format!("1.1.1.1, {garbage}, 10.0.0.2");
            assert_eq!(x_forwarded_for(&value).as_deref(), Some("10.0.0.2"), "{value}");
        }
        assert_eq!(found(XForwardedFor, &[]), None);
        assert_eq!(found(Forwarded, &[]), None);
    }

    #[test]
    fn forwarded_is_read_as_its_rfc_says() {
        for (value, client) in [
            ("for=203.0.113.7", Some("203.0.113.7")),
            ("For=\"203.0.113.7\"", Some("203.0.113.7")),
            ("for=\"203.0.113.7:4711\";proto=https;by=10.0.0.2", Some("203.0.113.7 4711")),
            ("for=203.0.113.7:4711", Some("203.0.113.7 4711")),
            ("for=\"[2001:db8::7]:4711\"", Some("2001:db8::7 4711")),
            ("for=\"[2001:db8::7]:_port\"", Some("2001:db8::7")),
            ("for=1.1.1.1, for=203.0.113.7;proto=http, for=10.0.0.2", Some("203.0.113.7")),
            ("for=1.1.1.1,for=\"_a, for=2.2.2.2\", for=10.0.0.2", Some("10.0.0.2")),
            ("for=1.1.1.1, for=unknown", None),
            ("for=1.1.1.1, for=_secret", None),
            ("for=1.1.1.1, proto=https", None),
            ("for=\"\\2\\03.0.113.7\"", Some("203.0.113.7")),
            (" , for=203.0.113.7 ; proto=http ,", Some("203.0.113.7")),
        ] {
            assert_eq!(forwarded(value).as_deref(), client, "{value}");
        }
    }

    #[test]
    fn a_forwarded_that_breaks_its_grammar_is_400() {
        for value in [
            "for=\"1.1.1.1",
            "for=\"1.1.1.1, for=203.0.113.7",
            "for=1.1.1.1;for=2.2.2.2",
            "for",
            "for=",
            "=1.1.1.1",
            "for =1.1.1.1",
            "for=1.1.1.1 proto=http",
            "for=\"1.1.1.1\"x",
            "for=1.1.1.1\"",
        ] {
            let request = request(&[&format!("Forwarded: {value}")]);
            let refusal = client(&request, Forwarded, is_trusted).unwrap_err();
            assert_eq!(refusal.status, 400, "{value}");
        }
    }

    proptest! {
        /// Whatever a client writes: what the proxy adds behind it decides, or it is refused.
        #[test]
        fn nothing_that_a_client_writes_is_believed(forged in "[ -~]{0,60}", more in "[ -~]{0,30}") {
            let lines = [format!("X-Forwarded-For: {forged}, 203.0.113.7")];
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            prop_assert_eq!(found(XForwardedFor, &lines), Some("203.0.113.7".to_owned()));
            for lines in [
                vec![format!("Forwarded: {forged}, for=203.0.113.7")],
                vec![format!("Forwarded: {forged}"), format!("Forwarded: {more}, for=203.0.113.7")],
            ] {
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                match client(&request(&lines), Forwarded, is_trusted) {
                    Ok(hop) => prop_assert_eq!(hop.unwrap().ip.to_string(), "203.0.113.7"),
                    Err(refusal) => prop_assert_eq!(refusal.status, 400),
                }
            }
        }
    }
}
